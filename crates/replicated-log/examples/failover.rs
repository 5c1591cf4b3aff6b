//! Measures how long a group of three is without a leader when the leader's process is gone: from its end to the first
//! commit of the next leader. Every node is in this process, with a runtime and sockets of its own, which end at once.
//!
//! `cargo run -p mezzo-replicated-log --example failover -- [DIRECTORY] [ROUNDS]`

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use mezzo_replicated_log::grpc::{Peers, service};
use mezzo_replicated_log::{Config, Events, FAMILIES, Log, LogEvent, StateFamilies};
use mezzo_store::{Layout, Store};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

type Failure = Box<dyn std::error::Error>;
const STATE: &str = "state";
const IDS: [u64; 3] = [1, 2, 3];

struct Node {
    runtime: Runtime,
    log: Log,
    events: Events,
}

fn start(
    id: u64,
    root: &Path,
    addresses: &BTreeMap<u64, SocketAddr>,
    listener: TcpListener,
) -> Result<Node, Failure> {
    let layout = Layout::new("failover", 1, FAMILIES.into_iter().chain([STATE]));
    let store = Store::open(root.join(id.to_string()), &layout)?;
    let state = StateFamilies { families: vec![STATE], applied: (STATE, b"applied") };
    let config = Config { founders: IDS.to_vec(), state: Some(state), ..Config::new(id) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let endpoints = addresses
        .iter()
        .map(|(id, address)| Ok((*id, Endpoint::from_shared(format!("http://{address}"))?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let handle = runtime.handle().clone();
    let (log, events) = Log::start_with(store, &config, 0, |inbox| {
        let peers = Peers::new(inbox, handle);
        endpoints.into_iter().for_each(|(id, endpoint)| peers.set(id, endpoint));
        Box::new(peers)
    })?;
    let server = Server::builder().add_service(service(log.inbox()));
    listener.set_nonblocking(true)?;
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        server.serve_with_incoming(TcpListenerStream::new(listener)).await?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    });
    Ok(Node { runtime, log, events })
}

/// Waits until one of them leads and has committed something of its own.
fn first_commit(nodes: &mut BTreeMap<u64, Node>) -> Result<u64, Failure> {
    loop {
        let leader = nodes.iter().find(|(_, node)| node.log.status().leading.is_some());
        let Some((id, node)) = leader else {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        };
        let id = *id;
        node.log.propose(1, b"x".to_vec())?;
        let node = nodes.get_mut(&id).ok_or("it is gone")?;
        loop {
            match node.events.blocking_recv().ok_or("the log has ended")? {
                LogEvent::Committed { token: Some(1), .. } => return Ok(id),
                LogEvent::Dropped { .. } => break,
                LogEvent::Failed { error } => return Err(error.into()),
                _ => {}
            }
        }
    }
}

fn round(root: &Path) -> Result<Duration, Failure> {
    let mut listeners = BTreeMap::new();
    for id in IDS {
        listeners.insert(id, TcpListener::bind("127.0.0.1:0")?);
    }
    let address = |(id, listener): (&u64, &TcpListener)| Ok((*id, listener.local_addr()?));
    let addresses = listeners.iter().map(address).collect::<Result<_, Failure>>()?;
    let mut nodes = BTreeMap::new();
    for (id, listener) in listeners {
        nodes.insert(id, start(id, root, &addresses, listener)?);
    }
    let leader = first_commit(&mut nodes)?;
    // All connections stand once everybody has what was committed.
    let all = |node: &Node| node.log.status().leader == Some(leader);
    while !nodes.values().all(all) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    let dead = nodes.remove(&leader).ok_or("it is gone")?;
    let begin = Instant::now();
    dead.runtime.shutdown_background();
    drop((dead.log, dead.events));
    first_commit(&mut nodes)?;
    let took = begin.elapsed();
    for (_, Node { runtime, log, mut events }) in nodes {
        drop(log);
        while events.blocking_recv().is_some() {}
        runtime.shutdown_background();
    }
    Ok(took)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let rounds = arguments.next().map_or(Ok(10), |rounds| rounds.parse())?;
    let mut took = Vec::new();
    for _ in 0..rounds {
        let root = tempfile::tempdir_in(&parent)?;
        took.push(round(root.path())?);
        println!("{:.1?}", took[took.len() - 1]);
    }
    took.sort_unstable();
    println!("median {:.1?}, longest {:.1?}", took[took.len() / 2], took[took.len() - 1]);
    Ok(())
}
