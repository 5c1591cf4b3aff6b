//! Daemons that have no descriptor left.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Daemon, Options};
use nix::sys::resource::{Resource, getrlimit};

use super::{PATIENCE, check_service, connect, read_to_end};
use crate::framework::{Probe, task};

const PAUSED: &str = "cannot accept connections for now";

const UNENDING: &[u8] =
    b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";

/// A daemon that may not open anything: so many connections are let in and no more.
struct Starved {
    pid: i32,
    /// Requests that do not end; each has a descriptor.
    busy: Vec<TcpStream>,
}

impl Starved {
    /// Takes all descriptors but those that the daemon has.
    fn starve(pid: i32, address: &str) -> Starved {
        let open: Vec<usize> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it runs")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // The next two that are free are the last ones.
        let last = (0..).filter(|number| !open.contains(number)).nth(1).expect("some are free");
        limit_files(pid, &(last + 1).to_string());
        let busy = (0..6).map(|_| {
            let mut stream = connect(address);
            stream.write_all(UNENDING).expect("sends");
            stream
        });
        Starved { pid, busy: busy.collect() }
    }

    /// Gives it all back.
    fn feed(self) {
        drop(self.busy);
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        limit_files(self.pid, &soft.to_string());
    }
}

/// Sets the soft limit of another process' open files.
fn limit_files(pid: i32, limit: &str) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}")).arg(format!("--nofile={limit}:"));
    assert!(command.status().expect("prlimit runs").success());
}

/// Waits until all threads of a process wait: in one that spins there is always one that runs.
fn await_rest(pid: i32) {
    let end = Instant::now() + PATIENCE;
    let rests = || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
        let mut stats = threads.filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
        stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
    };
    let mut looks = 0;
    while looks < 10 {
        assert!(Instant::now() < end, "process {pid} does not come to rest");
        looks = if rests() { looks + 1 } else { 0 };
        std::thread::yield_now();
    }
}

fn health(address: &str) -> TcpStream {
    let mut stream = connect(address);
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("waits in the backlog");
    stream
}

#[tokio::test]
async fn without_descriptors_what_runs_goes_on_and_the_rest_waits() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    check_service(&mut probe, "before", 1).await;

    let pid = cluster.master_pid().expect("runs");
    let starved = Starved::starve(pid, cluster.address());
    let mut waiting = health(cluster.address());
    let paused = |cluster: &Cluster| (cluster.logged(Daemon::Master, PAUSED) > 0).then_some(());
    cluster.wait("the master to pause", paused).expect("it does");
    // Who is connected is served, and the master sleeps.
    check_service(&mut probe, "master-starved", 5).await;
    await_rest(pid);
    assert_eq!(cluster.logged(Daemon::Master, PAUSED), 1);
    starved.feed();
    assert!(read_to_end(&mut waiting).starts_with(b"HTTP/1.1 200"));
    check_service(&mut probe, "master-fed", 1).await;

    let go = cluster.directory().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", go.display());
    probe.launch(task("steady").shell(script));
    probe.until_running("steady").await;
    let pid = cluster.agent_pid().expect("runs");
    let starved = Starved::starve(pid, cluster.agent_address());
    let mut waiting = health(cluster.agent_address());
    let paused = |cluster: &Cluster| (cluster.logged(Daemon::Agent, PAUSED) > 0).then_some(());
    cluster.wait("the agent to pause", paused).expect("it does");
    // A new task is refused in words, one that runs ends as it would.
    let status = probe.run(task("new").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert!(status.message().contains("Too many open files"), "{}", status.message());
    std::fs::write(go, "").expect("writes");
    let status = probe.ending("steady").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5), "{}", status.message());
    await_rest(pid);
    assert_eq!(cluster.logged(Daemon::Agent, PAUSED), 1);
    starved.feed();
    assert!(read_to_end(&mut waiting).starts_with(b"HTTP/1.1 200"));
    check_service(&mut probe, "agent-fed", 3).await;
    // What was left undone meanwhile is done.
    let end = Instant::now() + Duration::from_secs(60);
    while !cluster.strays().is_empty() {
        assert!(Instant::now() < end, "left behind: {:#?}", cluster.strays());
        std::thread::sleep(Duration::from_millis(20));
    }
}
