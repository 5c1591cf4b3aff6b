//! A leader that falls silent, without a connection that could break: the election timeout is what is left. The transport is a
//! map in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mezzo_replicated_log::{
    Config, Events, FAMILIES, Inbox, Log, LogEvent, StateFamilies, StateSink, Transport,
};
use mezzo_store::{Layout, Store};
use tempfile::TempDir;

const STATE: &str = "state";

#[derive(Default)]
struct Wires {
    inboxes: Mutex<BTreeMap<u64, Inbox>>,
    /// The node that is not heard and hears nothing.
    silent: AtomicU64,
}

struct Wire {
    from: u64,
    wires: Arc<Wires>,
}

impl Transport for Wire {
    fn send(&self, to: u64, message: Vec<u8>) {
        let silent = self.wires.silent.load(Ordering::SeqCst);
        if let Some(inbox) = self.wires.inboxes.lock().expect("unharmed").get(&to)
            && silent != to
            && silent != self.from
        {
            inbox.message(message);
        }
    }

    fn open_state(&self, _to: u64) -> Option<Box<dyn StateSink>> {
        None
    }
}

fn start(id: u64, dir: &TempDir, wires: &Arc<Wires>) -> (Log, Events) {
    let layout = Layout::new("test", 1, FAMILIES.into_iter().chain([STATE]));
    let store = Store::open(dir.path(), &layout).expect("opens");
    let state = StateFamilies { families: vec![STATE], applied: (STATE, b"applied") };
    let config = Config { founders: vec![1, 2, 3], state: Some(state), ..Config::new(id) };
    Log::start_with(store, &config, 0, |inbox| {
        wires.inboxes.lock().expect("unharmed").insert(id, inbox);
        Box::new(Wire { from: id, wires: Arc::clone(wires) })
    })
    .expect("starts")
}

fn leader(logs: &BTreeMap<u64, (Log, Events)>, not: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let leads = |(id, (log, _)): (&u64, &(Log, Events))| {
            (*id != not && log.status().leading.is_some()).then_some(*id)
        };
        if let Some(leader) = logs.iter().find_map(leads) {
            return leader;
        }
        assert!(Instant::now() < deadline, "no leader comes");
        std::thread::yield_now();
    }
}

#[test]
fn a_silent_leader_is_given_up_and_gives_up() {
    let wires = Arc::new(Wires::default());
    let dirs = [1, 2, 3].map(|id| (id, TempDir::new().expect("a directory")));
    let mut logs = BTreeMap::new();
    for (id, dir) in &dirs {
        logs.insert(*id, start(*id, dir, &wires));
    }
    let first = leader(&logs, 0);
    wires.silent.store(first, Ordering::SeqCst);
    let second = leader(&logs, first);
    let (log, events) = logs.get_mut(&second).expect("leads");
    log.propose(7, b"x".to_vec()).expect("runs");
    loop {
        match events.blocking_recv().expect("goes on") {
            LogEvent::Committed { token: Some(7), .. } => break,
            LogEvent::Failed { error } => panic!("{error:?}"),
            _ => {}
        }
    }
    // The first finds out by itself that nobody follows it.
    let (_, events) = logs.get_mut(&first).expect("runs");
    let mut led = false;
    loop {
        match events.blocking_recv().expect("goes on") {
            LogEvent::Leader { .. } => led = true,
            LogEvent::NotLeader { .. } if led => break,
            LogEvent::Failed { error } => panic!("{error:?}"),
            _ => {}
        }
    }
}
