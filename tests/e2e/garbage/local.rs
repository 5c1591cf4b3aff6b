//! What processes of the agent's own machine can get at: the launcher's socket, and the files that `mezzo-init`
//! has open.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use mezzo_agent_sys::send_packet;
use mezzo_sdk::v1::TaskState;
use mezzo_tests::fuzz::Dice;
use mezzo_tests::{Cluster, Options};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{PATIENCE, check_service, usage};
use crate::framework::{Probe, task};

fn connection(path: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("socket");
    connect(fd.as_raw_fd(), &UnixAddr::new(path).expect("address")).expect("connects");
    fd
}

#[tokio::test]
async fn noise_at_the_launcher_hurts_neither_tasks_nor_an_agent_that_returns() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let go = cluster.directory().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", go.display());
    probe.launch(task("waits").shell(script));
    probe.until_running("waits").await;
    check_service(&mut probe, "before", 1).await;
    let launcher = cluster.launcher().expect("runs");
    let before = usage(launcher);

    let path = cluster.directory().join("run/launcher.sock");
    let crowd: Vec<OwnedFd> = (0..64).map(|_| connection(&path)).collect();
    let mut dice = Dice::new(u64::from(std::process::id()));
    for _ in 0..300 {
        let length = dice.below(40_000);
        let mut packet = dice.bytes(length + 1);
        packet[0] = u8::try_from(dice.below(3)).expect("small");
        let peer = connection(&path);
        // The launcher may have had enough of it before.
        let _ = send_packet(peer.as_fd(), &packet, &[null().as_fd()], true);
    }
    check_service(&mut probe, "noise", 3).await;
    cluster.kill_agent().expect("killed");
    cluster.start_agent().expect("it gets through to the launcher");
    assert_eq!(cluster.launcher(), Some(launcher), "it is the same one");

    // Root inside a container can open what its process 1 has open, its exit file among it.
    let script = "for f in /proc/1/fd/*; do head -c 100000 /dev/urandom > $f; done; exit 7";
    let mut status = probe.run(task("liar-0").shell(script)).await;
    // An offer of before the agent's return is of no use to it.
    for again in 1..5 {
        if status.state() != TaskState::TaskDropped {
            break;
        }
        status = probe.run(task(&format!("liar-{again}")).shell(script)).await;
    }
    assert_eq!(status.state(), TaskState::TaskFailed, "{}", status.message());
    std::fs::write(go, "").expect("writes");
    let status = probe.ending("waits").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
    check_service(&mut probe, "after", 1).await;
    drop(crowd);
    let end = Instant::now() + PATIENCE;
    while usage(launcher).files > before.files {
        assert!(Instant::now() < end, "{:?}, before {before:?}", usage(launcher));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let grown = usage(launcher).memory.saturating_sub(before.memory);
    assert!(grown < 16 << 20, "the launcher grew by {grown} bytes");
}

fn null() -> std::fs::File {
    std::fs::File::open("/dev/null").expect("/dev/null")
}
