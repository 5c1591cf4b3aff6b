//! Peers that send garbage, too much, too little or nothing: an error for them, and nothing else.

mod crowds;
mod descriptors;
mod grpc;
mod local;
mod noise;
mod slow;
mod vanished;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mezzo_sdk::Task;
use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Daemon};

use crate::framework::Probe;

/// How long a peer waits for a daemon to end a connection: beyond every limit in `docs/limits.md`.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a daemon uses.
#[derive(Debug, Clone, Copy)]
struct Usage {
    /// Resident memory, in bytes.
    memory: u64,
    files: usize,
}

fn usage(pid: i32) -> Usage {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("has memory");
    let kilobytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("digits");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    Usage { memory: kilobytes * 1024, files }
}

/// What both daemons use when nobody bothers them.
struct Baseline {
    daemons: Vec<(&'static str, i32, Usage)>,
}

impl Baseline {
    fn of(cluster: &Cluster) -> Baseline {
        // The agent opens its accounts while it serves.
        let end = Instant::now() + PATIENCE;
        while cluster.logged(Daemon::Agent, "the kernel counts and guards") == 0 {
            assert!(Instant::now() < end, "no accounts: {}", cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        let daemons = [("master", cluster.master_pid()), ("agent", cluster.agent_pid())];
        let running = daemons.into_iter().filter_map(|(name, pid)| Some((name, pid?)));
        Baseline { daemons: running.map(|(name, pid)| (name, pid, usage(pid))).collect() }
    }

    /// Memory has grown by no more than so many bytes.
    fn check_memory(&self, allowed: u64) {
        for (name, pid, before) in &self.daemons {
            let grown = usage(*pid).memory.saturating_sub(before.memory);
            println!("{name}: {} KiB before, {} KiB more", before.memory / 1024, grown / 1024);
            assert!(grown <= allowed, "the {name} grew by {grown} bytes, {allowed} are allowed");
        }
    }

    /// The daemons' open files become as few as before, but for `spare`.
    fn await_files(&self, spare: usize) {
        let end = Instant::now() + PATIENCE;
        for (name, pid, before) in &self.daemons {
            while usage(*pid).files > before.files + spare {
                let now = usage(*pid).files;
                assert!(
                    Instant::now() < end,
                    "the {name} has {now} files, {} before",
                    before.files
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The daemons that are there are those that were there, and tasks run.
async fn check_service(probe: &mut Probe, round: &str, tasks: usize) {
    let ids: Vec<String> = (0..tasks).map(|number| format!("{round}-{number}")).collect();
    for id in &ids {
        probe.launch(Task::command(id.as_str(), "true").shell("true").cpus(0.1).mem(32.0));
    }
    for id in &ids {
        assert_eq!(probe.ending(id).await.state(), TaskState::TaskFinished, "{id}");
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Sends bytes, ends its half if asked to, and returns what comes until the end.
fn exchange(address: &str, bytes: &[u8], end: bool) -> Vec<u8> {
    let mut stream = connect(address);
    // The daemon may have had enough before all is sent.
    let _ = stream.write_all(bytes);
    if end {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    read_to_end(&mut stream)
}

/// Everything until the daemon closes, whichever way it does.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(error) => {
                panic!("the connection stays open ({error}) after {} bytes", answer.len())
            }
        }
    }
}
