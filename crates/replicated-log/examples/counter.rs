//! A replicated counter: three nodes, each with its store and its number, in one process to be short.
//!
//! `cargo run -p mezzo-replicated-log --example counter`

use std::collections::BTreeMap;

use mezzo_replicated_log::grpc::{Peers, service};
use mezzo_replicated_log::{Config, Events, FAMILIES, Log, LogEvent, StateFamilies};
use mezzo_store::{Batch, Layout, Store};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

type Failure = Box<dyn std::error::Error + Send + Sync>;
const STATE: &str = "counter";

fn number(store: &Store, key: &str) -> Result<u64, Failure> {
    let value = store.get(STATE, key)?.unwrap_or(vec![0; 8]);
    Ok(u64::from_be_bytes(value.as_slice().try_into()?))
}

/// Applies what is committed; a leader counts up until the counter is at ten.
async fn count(id: u64, store: Store, log: Log, mut events: Events) -> Result<(), Failure> {
    while let Some(event) = events.recv().await {
        match event {
            LogEvent::Leader { .. } => log.propose(0, b"+1".to_vec())?,
            LogEvent::Committed { index, token, .. } => {
                let count = number(&store, "count")? + 1;
                let batch = Batch::new().put(STATE, "count", count.to_be_bytes()).put(
                    STATE,
                    "applied",
                    index.to_be_bytes(),
                );
                store.write_derived(batch)?;
                log.applied(index);
                println!("node {id}: {count}");
                match token {
                    _ if count == 10 => return Ok(()),
                    Some(token) => log.propose(token + 1, b"+1".to_vec())?,
                    None => {}
                }
            }
            LogEvent::Restoring { hold } => hold.release(),
            LogEvent::Failed { error } => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let root = tempfile::tempdir()?;
    let mut listeners = BTreeMap::new();
    for id in [1, 2, 3] {
        listeners.insert(id, tokio::net::TcpListener::bind("127.0.0.1:0").await?);
    }
    let mut endpoints = BTreeMap::new();
    for (id, listener) in &listeners {
        let address = format!("http://{}", listener.local_addr()?);
        endpoints.insert(*id, Endpoint::from_shared(address)?);
    }
    let mut nodes = Vec::new();
    let mut logs = Vec::new();
    for (id, listener) in listeners {
        let layout = Layout::new("counter", 1, FAMILIES.into_iter().chain([STATE]));
        let store = Store::open(root.path().join(id.to_string()), &layout)?;
        let state = StateFamilies { families: vec![STATE], applied: (STATE, b"applied") };
        let config = Config { founders: vec![1, 2, 3], state: Some(state), ..Config::new(id) };
        let runtime = tokio::runtime::Handle::current();
        let (log, events) =
            Log::start_with(store.clone(), &config, number(&store, "applied")?, |inbox| {
                let peers = Peers::new(inbox, runtime);
                endpoints.iter().for_each(|(id, endpoint)| peers.set(*id, endpoint.clone()));
                Box::new(peers)
            })?;
        let server = Server::builder().add_service(service(log.inbox()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        logs.push(log.clone());
        nodes.push(tokio::spawn(count(id, store, log, events)));
    }
    for node in nodes {
        node.await??;
    }
    Ok(())
}
