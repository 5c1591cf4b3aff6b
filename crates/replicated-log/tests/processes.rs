//! `kill -9` of the process that holds the log: nothing that it delivered is lost.
//!
//! The process is this test binary again, told by `MEZZO_LOG_CHILD` what directory to use.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mezzo_replicated_log::{Config, FAMILIES, Log, LogEvent};
use mezzo_store::{Batch, Layout, Store};
use tempfile::TempDir;

const MACHINE: &str = "machine";
const DIRECTORY: &str = "MEZZO_LOG_CHILD";
const MARK: &str = "child: ";

/// Proposals that are under way at the same time.
const WINDOW: u64 = 32;

fn open(dir: &Path) -> (Store, u64) {
    let layout = Layout::new("test", 1, FAMILIES.into_iter().chain([MACHINE]));
    let store = Store::open(dir, &layout).expect("opens");
    let applied = store.get(MACHINE, "applied").expect("reads");
    let applied =
        applied.map_or(0, |value| u64::from_be_bytes(value.try_into().expect("eight bytes")));
    (store, applied)
}

/// Applies one entry: the payload becomes a key.
fn apply(store: &Store, index: u64, payload: Vec<u8>) {
    let batch = Batch::new().put(MACHINE, payload, []).put(MACHINE, "applied", index.to_be_bytes());
    store.write(batch).expect("writes");
}

#[test]
#[ignore = "the other half of what_was_delivered_survives_kill_9"]
fn child() {
    let dir = std::env::var(DIRECTORY).expect("started by its parent");
    let (store, applied) = open(Path::new(&dir));
    // Small enough that compactions are among what is interrupted.
    let config = Config { retain_bytes: 2000, ..Config::new(1) };
    let (log, mut events) = Log::start(store.clone(), &config, applied).expect("starts");
    let run = std::process::id();
    let propose = |number: u64| {
        log.propose(number, format!("p {run} {number}").into_bytes()).expect("there is room")
    };
    (0..WINDOW).for_each(propose);
    while let Some(event) = events.blocking_recv() {
        match event {
            LogEvent::Committed { index, payload, token, .. } => {
                let text = String::from_utf8(payload.clone()).expect("text");
                apply(&store, index, payload);
                log.applied(index);
                println!("{MARK}{text}");
                if let Some(number) = token {
                    propose(number + WINDOW);
                }
            }
            LogEvent::Leader { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_delivered_survives_kill_9() {
    let dir = TempDir::new().expect("a directory");
    let mut delivered = Vec::new();
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", "child"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let said =
            lines.filter_map(|line| Some(line.expect("text").split_once(MARK)?.1.to_owned()));
        for (count, said) in said.enumerate() {
            delivered.push(said);
            if count == 1 + round * 150 {
                child.kill().expect("SIGKILL");
            }
        }
        child.wait().expect("dies");
    }

    let (store, applied) = open(dir.path());
    let (log, mut events) = Log::start(store.clone(), &Config::new(1), applied).expect("starts");
    loop {
        match events.blocking_recv().expect("goes on") {
            LogEvent::Committed { index, payload, .. } => {
                assert!(index > applied);
                apply(&store, index, payload);
            }
            // One term for each life.
            LogEvent::Leader { term } => break assert_eq!(term, 5),
            other => panic!("{other:?}"),
        }
    }
    assert!(delivered.len() >= 4 + 6 * 150);
    for payload in &delivered {
        assert!(
            store.get(MACHINE, payload).expect("reads").is_some(),
            "{payload} of {} is lost",
            delivered.len()
        );
    }
    drop(log);
}
