//! Very many connections that want nothing.

use std::net::TcpStream;

use mezzo_tests::{Cluster, Options};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Baseline, check_service};
use crate::framework::Probe;

const CROWD: usize = 10_000;
/// Memory that one idle connection may take, in bytes: see `docs/limits.md`.
const MEMORY_PER_CONNECTION: u64 = 16 * 1024;

#[tokio::test]
async fn ten_thousand_idle_connections_to_each_port_change_nothing() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    assert!(
        hard as usize >= CROWD + 1000,
        "the hard limit of open files is {hard}: raise it (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    check_service(&mut probe, "before", 3).await;
    let baseline = Baseline::of(&cluster);
    let addresses = [("master", cluster.address()), ("agent", cluster.agent_address())];
    for (name, address) in addresses {
        let address = address.to_owned();
        let connecting = tokio::task::spawn_blocking(move || {
            let connect = |_| TcpStream::connect(&address).expect("the crowd gets in");
            (0..CROWD).map(connect).collect::<Vec<TcpStream>>()
        });
        check_service(&mut probe, &format!("{name}-crowding"), 5).await;
        let crowd = connecting.await.expect("all connected");
        check_service(&mut probe, &format!("{name}-crowded"), 5).await;
        baseline.check_memory(CROWD as u64 * MEMORY_PER_CONNECTION);
        // They are closed for being silent; nobody needs to go by himself.
        baseline.await_files(8);
        drop(crowd);
        check_service(&mut probe, &format!("{name}-alone"), 3).await;
    }
    baseline.await_files(0);
    baseline.check_memory(CROWD as u64 * MEMORY_PER_CONNECTION);
}
