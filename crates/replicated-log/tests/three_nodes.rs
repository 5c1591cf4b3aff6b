//! Real nodes over loopback: they elect, commit, lose their leader with all its sockets, and take it back.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use mezzo_replicated_log::grpc::{Peers, service};
use mezzo_replicated_log::{
    Change, Config, FAMILIES, Log, LogEvent, Role, StateFamilies, Status, Transport,
};
use mezzo_store::{Batch, Layout, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

const STATE: &str = "state";
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with a consumer that keeps each payload as a key.
struct Node {
    runtime: Option<Runtime>,
    /// Shared with the consumer; taken away, the log ends.
    log: Arc<Mutex<Option<Log>>>,
    store: Store,
    consumer: Option<std::thread::JoinHandle<()>>,
    seen: mpsc::Receiver<u64>,
}

type Addresses = BTreeMap<u64, SocketAddr>;

fn listen(address: &str) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

impl Node {
    fn start(
        id: u64,
        founders: &[u64],
        dir: &Path,
        addresses: &Addresses,
        listener: TcpListener,
    ) -> Self {
        let store = Store::open(dir, &Layout::new("test", 1, FAMILIES.into_iter().chain([STATE])));
        let store = store.expect("opens");
        let applied = store.get(STATE, "").expect("reads");
        let applied =
            applied.map_or(0, |value| u64::from_be_bytes(value.try_into().expect("eight bytes")));
        let config = Config {
            founders: founders.to_vec(),
            state: Some(StateFamilies { families: vec![STATE], applied: (STATE, b"") }),
            retain_bytes: 500,
            // So that a silent leader could not explain what the test sees.
            election_ticks: 5000,
            ..Config::new(id)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle().clone();
        let (log, mut events) = Log::start_with(store.clone(), &config, applied, |inbox| {
            let peers = Peers::new(inbox, handle);
            for (id, address) in addresses {
                let endpoint = Endpoint::from_shared(format!("http://{address}"));
                peers.set(
                    *id,
                    endpoint.expect("an address").connect_timeout(Duration::from_secs(1)),
                );
            }
            Box::new(peers) as Box<dyn Transport>
        })
        .expect("starts");
        let inbox = log.inbox();
        runtime.spawn(async move {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let serving = Server::builder().add_service(service(inbox));
            serving.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serves");
        });
        let (tell, seen) = mpsc::channel();
        let log = Arc::new(Mutex::new(Some(log)));
        let applying = (store.clone(), Arc::clone(&log));
        let consumer = std::thread::spawn(move || {
            let (store, log) = applying;
            while let Some(event) = events.blocking_recv() {
                match event {
                    LogEvent::Committed { index, payload, token, .. } => {
                        let batch = Batch::new().put(STATE, payload, "").put(
                            STATE,
                            "",
                            index.to_be_bytes(),
                        );
                        store.write_derived(batch).expect("writes");
                        if let Some(log) = &*log.lock().expect("unharmed") {
                            log.applied(index);
                        }
                        // The test may have seen enough.
                        let _ = tell.send(token.unwrap_or(0));
                    }
                    LogEvent::Restoring { hold } => hold.release(),
                    LogEvent::Failed { error } => panic!("{error:?}"),
                    _ => {}
                }
            }
        });
        Self { runtime: Some(runtime), log, store, consumer: Some(consumer), seen }
    }

    fn log(&self) -> Log {
        self.log.lock().expect("unharmed").clone().expect("alive")
    }

    fn status(&self) -> Status {
        self.log().status()
    }

    fn has(&self, payload: &str) -> bool {
        self.store.get(STATE, payload).expect("reads").is_some()
    }

    /// Proposes until it is committed.
    fn commit(&self, token: u64) {
        self.log().propose(token, payload(token).into_bytes()).expect("runs");
        let deadline = Instant::now() + PATIENCE;
        while self.seen.recv_timeout(PATIENCE).expect("events") != token {
            assert!(Instant::now() < deadline);
        }
    }

    /// Its thread and all its sockets are gone at once.
    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.log.lock().expect("unharmed").take();
        self.consumer.take().expect("was there").join().expect("ends");
    }
}

fn payload(token: u64) -> String {
    format!("payload {token}")
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::yield_now();
    }
}

fn leader_of(nodes: &BTreeMap<u64, Node>) -> u64 {
    let mut leader = 0;
    until("a leader", || {
        let leads = |(id, node): (&u64, &Node)| node.status().leading.map(|_| *id);
        leader = nodes.iter().find_map(leads).unwrap_or(0);
        leader != 0
    });
    leader
}

#[test]
fn three_nodes_lose_their_leader_and_take_it_back_and_a_fourth_joins() {
    let ids = [1, 2, 3, 4];
    let dirs = BTreeMap::from(ids.map(|id| (id, TempDir::new().expect("a directory"))));
    let mut listeners = BTreeMap::from(ids.map(|id| (id, listen("127.0.0.1:0"))));
    let address =
        |(id, listener): (&u64, &TcpListener)| (*id, listener.local_addr().expect("known"));
    let addresses: Addresses = listeners.iter().map(address).collect();
    let founders = [1, 2, 3];
    let mut nodes = BTreeMap::new();
    for id in founders {
        let listener = listeners.remove(&id).expect("bound");
        let dir = dirs[&id].path();
        nodes.insert(id, Node::start(id, &founders, dir, &addresses, listener));
    }
    let first = leader_of(&nodes);
    (1..20).for_each(|token| nodes[&first].commit(token));
    until("the last entry", || nodes.values().all(|node| node.has(&payload(19))));

    let begin = Instant::now();
    nodes.remove(&first).expect("leads").kill();
    let second = leader_of(&nodes);
    nodes[&second].commit(20);
    // The shortest election timeout is five seconds.
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // More than is kept, so that the first leader comes back to a log that has gone on without it.
    (21..60).for_each(|token| nodes[&second].commit(token));
    let status = nodes[&second].status();
    assert!(status.first_index > 25, "the others keep all of it: {status:?}");

    let listener = listen(&addresses[&first].to_string());
    let dir = dirs[&first].path();
    nodes.insert(first, Node::start(first, &founders, dir, &addresses, listener));
    let is_back = |node: &Node| (1..60).all(|token| node.has(&payload(token)));
    until("the state", || is_back(&nodes[&first]));

    let listener = listeners.remove(&4).expect("bound");
    nodes.insert(4, Node::start(4, &[], dirs[&4].path(), &addresses, listener));
    assert_eq!(nodes[&4].status().role, Role::Joining);
    let leader = leader_of(&nodes);
    nodes[&leader].log().change_members(1, Change::AddLearner(4)).expect("runs");
    until("the fourth's state", || is_back(&nodes[&4]));
    until("the fourth's vote", || {
        let leader = leader_of(&nodes);
        nodes[&leader].log().change_members(2, Change::Promote(4)).expect("runs");
        nodes[&4].status().voters == [1, 2, 3, 4]
    });
    let groups = nodes.values().map(|node| node.status().group.expect("known"));
    assert_eq!(groups.collect::<std::collections::BTreeSet<_>>().len(), 1);
    for (_, node) in nodes {
        node.kill();
    }
}
