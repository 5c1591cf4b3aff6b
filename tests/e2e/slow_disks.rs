//! Disks that are slow, or take nothing at all for a while: nothing is lost, nobody is given up.

use std::time::Duration;

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Disk, Options, Speed, Throttle};

use crate::disks::{SMALL, ends_well, tell, until_told};
use crate::framework::{Probe, task};

/// An agent that answers none of so many pings in a row is given up, and a master that sends none, too.
const PING: Duration = Duration::from_secs(1);
const PINGS: u32 = 6;

fn prepare() -> Cluster {
    let master_flags = vec![
        format!("--agent-ping-timeout={}secs", PING.as_secs()),
        format!("--max-agent-ping-timeouts={PINGS}"),
    ];
    Cluster::prepare(Options { master_flags, ..Options::default() }).expect("a cluster")
}

/// How long the sync has been under way, as the daemon's health says, in seconds.
fn stuck_for(health: &str) -> Option<f64> {
    let (_, rest) = health.split_once("is slow: a sync has been under way for ")?;
    rest.split(' ').next()?.parse().ok()
}

/// On a slow disk tasks run and end as ever. When the disk takes nothing any more, whatever depends on it waits,
/// while both daemons go on answering, for longer than the silence that either would be given up after.
async fn slow(mut cluster: Cluster, daemon: Daemon) {
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    let throttle = Throttle::put(daemon.pid, &daemon.disk).expect("a throttle");
    throttle.set(Speed::Slow).expect("slow");
    let status = probe.run(task("slow").shell("exit 3")).await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(3), "{status:?}");

    throttle.set(Speed::Stuck).expect("stuck");
    tell(&cluster);
    probe.launch(task("waits").shell("exit 4"));
    let address = daemon.address;
    let patience = (PING * (PINGS + 1)).as_secs_f64();
    let looking = tokio::task::spawn_blocking(move || {
        let health = cluster.wait("the disk to be stuck for a while", |cluster| {
            let health = cluster.get(&address, "/health").ok()?;
            (stuck_for(&health)? > patience).then_some(health)
        });
        (health, cluster.master_metric("master/slaves_active"), cluster, address)
    });
    let looked = tokio::select! {
        // Whatever the framework does meanwhile, it waits for the disk.
        () = probe.until("nothing", |_| false) => unreachable!(),
        looked = looking => looked,
    };
    let (health, active, mut cluster, address) = looked.expect("looks");
    let health = health.expect("stuck");
    assert!(health.contains("nothing is lost, no restart is needed"), "{health}");
    assert_eq!(active.expect("answers"), 1.0, "{}", cluster.logs());

    throttle.set(Speed::Full).expect("fast");
    ends_well(&mut probe, "runs").await;
    let status = probe.ending("waits").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(4), "{status:?}");
    let after = probe.run(task("after").shell("true")).await;
    assert_eq!(after.state(), TaskState::TaskFinished, "{after:?}");
    for (id, updates) in &probe.updates {
        let endings = updates.iter().filter(|status| mezzo_sdk::is_terminal(status.state()));
        let uuids: std::collections::BTreeSet<_> = endings.map(|status| &status.uuid).collect();
        assert_eq!(uuids.len(), 1, "{id} ends once: {updates:?}");
        let lost = updates.iter().any(|status| status.state() == TaskState::TaskUnreachable);
        assert!(!lost, "{id}: {updates:?}");
    }
    let healed = |cluster: &Cluster| cluster.get(&address, "/health").ok().filter(String::is_empty);
    cluster.wait("the health to be good again", healed).expect("heals");
    let logs = cluster.logs();
    assert!(logs.contains("is slow: "), "{logs}");
    assert!(logs.contains("the disk of the store is not slow any more"), "{logs}");
}

/// Whose disk it is.
struct Daemon {
    pid: i32,
    address: String,
    disk: Disk,
}

#[tokio::test]
async fn a_slow_disk_of_the_agent_delays_and_loses_nothing() {
    let mut cluster = prepare();
    let disk = Disk::mount(&cluster.agent_work_dir(), SMALL).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    let pid = cluster.agent_pid().expect("runs");
    let address = cluster.agent_address().to_owned();
    slow(cluster, Daemon { pid, address, disk }).await;
}

#[tokio::test]
async fn a_slow_disk_of_the_master_delays_and_loses_nothing() {
    let mut cluster = prepare();
    let disk = Disk::mount(&cluster.master_work_dir(), SMALL).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    let pid = cluster.master_pid().expect("runs");
    let address = cluster.address().to_owned();
    slow(cluster, Daemon { pid, address, disk }).await;
}
