//! Another build in the place of the one that runs, while tasks run.

use std::path::{Path, PathBuf};

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Options, binary};
use nix::sys::signal::Signal;

use crate::framework::{Probe, task};

/// Copies of the programs: other files, as an upgrade brings them.
fn new_build(directory: &Path) -> PathBuf {
    let build = directory.join("new-build");
    std::fs::create_dir(&build).expect("makes a directory");
    for name in ["mezzo", "mezzo-launcher"] {
        std::fs::copy(binary(name).expect("built"), build.join(name)).expect("copies");
    }
    build.join("mezzo")
}

#[tokio::test]
async fn tasks_run_on_while_agent_and_master_are_upgraded() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let go = cluster.directory().join("go");
    let waits = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", go.display());
    for id in ["first", "second"] {
        probe.launch(task(id).shell(&waits));
    }
    for id in ["first", "second"] {
        probe.until_running(id).await;
    }
    let before = cluster.inits();
    assert_eq!(before.len(), 2, "{before:?}");
    let build = new_build(cluster.directory());
    cluster.upgrade_to(build.clone());

    cluster.end_agent(Signal::SIGTERM).expect("ends");
    cluster.start_agent().expect("the new build takes over");
    assert_eq!(cluster.programs().agent, Some(build.clone()));
    assert_eq!(cluster.inits(), before, "the tasks never noticed");
    let status = probe.run_on_new_offers("by-new-agent", "exit 3").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(3));

    cluster.end_master(Signal::SIGTERM).expect("ends");
    cluster.start_master().expect("the new build takes over");
    assert_eq!(cluster.programs().master, Some(build));
    let status = probe.run_on_new_offers("by-new-master", "exit 4").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(4));
    assert_eq!(cluster.inits(), before, "the tasks never noticed");

    std::fs::write(&go, "").expect("writes");
    for id in ["first", "second"] {
        let status = probe.ending(id).await;
        assert_eq!(status.state(), TaskState::TaskFailed);
        assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
        let states: Vec<TaskState> = probe.updates[id].iter().map(|s| s.state()).collect();
        let endings = states.iter().filter(|state| mezzo_sdk::is_terminal(**state)).count();
        assert_eq!(endings, 1, "{id}: {states:?}");
    }
}
