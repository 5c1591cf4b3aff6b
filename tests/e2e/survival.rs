//! Running tasks outlive the daemons, and no ending is missed.

use std::path::Path;
use std::time::Duration;

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Options};

use crate::framework::{Probe, task};

#[tokio::test]
async fn a_task_outlives_its_agent_and_its_ending_is_exact() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let [go, end] = ["go", "end"].map(|name| cluster.directory().join(name));
    let until = |file: &Path| format!("while [ ! -e {} ]; do sleep 0.05; done", file.display());
    probe.launch(task("waits").shell(format!("{}; exit 5", until(&go))));
    probe.launch(task("ends").shell(format!("{}; exit 6", until(&end))));
    probe.until_running("waits").await;
    probe.until_running("ends").await;
    assert_eq!(cluster.inits().len(), 2);
    cluster.kill_agent().expect("killed");
    // "ends" ends while nobody watches but its init and the launcher.
    std::fs::write(&end, "").expect("writes");
    let ended = cluster
        .wait("the unwatched task to end", |cluster| (cluster.inits().len() < 2).then_some(()));
    ended.expect("ends without the agent");
    cluster.start_agent().expect("starts again");
    let status = probe.ending("ends").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(6));
    std::fs::write(&go, "").expect("writes");
    let status = probe.ending("waits").await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
}

/// Init and launcher die: nobody is left who could say how the container ended, but the kernel.
#[tokio::test]
async fn an_ending_that_nobody_wrote_down_is_the_kernels() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("struck").shell("sleep 1000"));
    probe.until_running("struck").await;
    let inits = cluster.inits();
    assert!(cluster.kill_launcher().expect("kills"));
    let pid = nix::unistd::Pid::from_raw(inits[0].pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kills");
    let status = probe.ending("struck").await;
    assert_eq!(status.state(), TaskState::TaskFailed, "{status:?}");
    assert_eq!(status.termination.and_then(|t| t.signal), Some(9), "{:?}", status.message);
}

#[tokio::test]
async fn a_task_outlives_its_master() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let go = cluster.directory().join("go");
    let waits = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", go.display());
    probe.launch(task("waits").shell(&waits));
    probe.until_running("waits").await;
    cluster.kill_master().expect("killed");
    cluster.start_master().expect("starts again");
    std::fs::write(&go, "").expect("writes");
    let status = probe.ending("waits").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
    // The cluster is whole again: the agent is offered.
    let status = probe.run(task("next").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFinished);
}

#[tokio::test]
async fn sigterm_leaves_tasks_running_and_sigusr1_ends_them() {
    use nix::sys::signal::Signal;
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("stays").kill_grace(Duration::from_secs(1)).shell("sleep 1000"));
    probe.until_running("stays").await;
    cluster.end_agent(Signal::SIGTERM).expect("ends");
    assert!(!cluster.container_cgroups().is_empty(), "the task runs on");
    cluster.start_agent().expect("starts again");
    assert!(probe.end_of("stays").is_none());
    cluster.end_agent(Signal::SIGUSR1).expect("ends");
    let status = probe.ending("stays").await;
    assert_eq!(status.state(), TaskState::TaskLost);
    assert_eq!(status.reason(), mezzo_sdk::v1::task_status::Reason::AgentRemoved);
    let unregistered = cluster.master_metric("master/slave_removals/reason_unregistered");
    assert_eq!(unregistered.expect("is there"), 1.0);
    assert!(cluster.container_cgroups().is_empty(), "{:?}", cluster.container_cgroups());
}
