//! Measures the log against its floor, on the file system of the directory given (default: the temporary one):
//! plain `write` + `fdatasync` of a file, the store's synced writes, and propose → commit with one and with many
//! proposals under way. Prints medians, 99th percentiles and rates.
//!
//! `cargo run -p mezzo-replicated-log --example latency -- [DIRECTORY]`

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use mezzo_replicated_log::{Config, FAMILIES, Log, LogEvent};
use mezzo_store::{Batch, Layout, Store};

type Failure = Box<dyn std::error::Error>;

const PAYLOAD: usize = 256;
const ONE_BY_ONE: usize = 2000;
const MANY: u64 = 200_000;
const WINDOW: u64 = 1024;

fn report(name: &str, mut samples: Vec<Duration>, total: Duration) {
    samples.sort_unstable();
    let at = |part: usize| samples[(samples.len() - 1) * part / 100];
    let rate = samples.len() as f64 / total.as_secs_f64();
    println!("{name:<44} p50 {:>9.1?}  p99 {:>9.1?}  {rate:>10.0}/s", at(50), at(99));
}

/// Calls `step` many times and reports how long each call took.
fn measure(name: &str, mut step: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut samples = Vec::with_capacity(ONE_BY_ONE);
    let start = Instant::now();
    for _ in 0..ONE_BY_ONE {
        let begin = Instant::now();
        step()?;
        samples.push(begin.elapsed());
    }
    report(name, samples, start.elapsed());
    Ok(())
}

/// Keeps `window` proposals under way until `count` are committed.
fn propose(name: &str, dir: &Path, window: u64, count: u64) -> Result<(), Failure> {
    let store = Store::open(dir, &Layout::new("latency", 1, FAMILIES))?;
    let (log, mut events) = Log::start(store.clone(), &Config::new(1), 0)?;
    let mut begun = vec![Instant::now(); count as usize];
    let mut samples = Vec::with_capacity(count as usize);
    let start = Instant::now();
    let syncs = store.counts().syncs;
    for token in 0..window.min(count) {
        begun[token as usize] = Instant::now();
        log.propose(token, vec![7; PAYLOAD])?;
    }
    while samples.len() < count as usize {
        match events.blocking_recv() {
            Some(LogEvent::Committed { index, token: Some(token), .. }) => {
                samples.push(begun[token as usize].elapsed());
                log.applied(index);
                let next = token + window;
                if next < count {
                    begun[next as usize] = Instant::now();
                    log.propose(next, vec![7; PAYLOAD])?;
                }
            }
            Some(LogEvent::Leader { .. }) => {}
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    report(name, samples, start.elapsed());
    println!("{:<44} {} syncs for {count} proposals", "", store.counts().syncs - syncs);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let root = parent.join(format!("mezzo-latency-{}", std::process::id()));
    fs::create_dir(&root)?;
    let outcome = run(&root);
    fs::remove_dir_all(&root)?;
    outcome
}

fn run(root: &Path) -> Result<(), Failure> {
    let mut file = fs::File::create(root.join("floor"))?;
    measure("floor: append 256 B + fdatasync", || {
        file.write_all(&[7; PAYLOAD])?;
        Ok(file.sync_data()?)
    })?;

    let store = Store::open(root.join("store"), &Layout::new("latency", 1, ["f"]))?;
    let mut key = 0_u64;
    let mut batch = move || {
        key += 1;
        Batch::new().put("f", key.to_be_bytes(), [7; PAYLOAD])
    };
    measure("store: write (unsynced)", || Ok(store.write(batch())?))?;
    measure("store: write_and_sync", || Ok(store.write_and_sync(batch())?))?;
    measure("store: write_synced, by the sync thread", || {
        Ok(store.write_synced(batch())?.wait()?)
    })?;

    propose("log: propose to commit, 1 under way", &root.join("one"), 1, ONE_BY_ONE as u64)?;
    propose("log: propose to commit, 1024 under way", &root.join("many"), WINDOW, MANY)
}
