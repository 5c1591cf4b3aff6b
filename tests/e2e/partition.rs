//! Agents that fall silent, die, are rebooted and come back, seen by frameworks.

use std::path::Path;

use mezzo_sdk::v1::TaskState;
use mezzo_sdk::v1::task_status::Reason;
use mezzo_tests::{Cluster, Options};
use nix::sys::signal::Signal;

use crate::framework::{Probe, task, until_both_run};

/// A silent agent is given up after three seconds, one that is away after two.
fn impatient() -> Options {
    let flags = [
        "--agent-ping-timeout=1secs",
        "--max-agent-ping-timeouts=3",
        "--agent-reregister-timeout=2secs",
    ];
    Options { master_flags: flags.map(str::to_owned).to_vec(), ..Options::default() }
}

/// A task that writes its process id down and waits for `go`.
fn waits(file: &Path) -> String {
    let file = file.display();
    format!("echo $$ > {file}.pid; while [ ! -e {file}.go ]; do sleep 0.05; done; exit 5")
}

/// RUNNING tells that the command was executed, not how far it has come since.
fn pid_of(cluster: &mut Cluster, file: &Path) -> String {
    let file = file.with_extension("pid");
    let read = |_: &Cluster| std::fs::read_to_string(&file).ok().filter(|pid| pid.ends_with('\n'));
    cluster.wait("the task to write its process id", read).expect("written")
}

fn let_go(file: &Path) {
    std::fs::write(file.with_extension("go"), "").expect("writes");
}

#[tokio::test]
async fn a_stopped_agent_is_unreachable_and_returns_with_its_tasks() {
    let mut cluster = Cluster::start(impatient()).expect("a cluster");
    let mut aware = Probe::connect(&cluster).await;
    let mut plain = Probe::connect_plain(&cluster).await;
    let files = ["aware", "plain"].map(|name| cluster.directory().join(name));
    aware.launch(task("aware").shell(waits(&files[0])));
    plain.launch(task("plain").shell(waits(&files[1])));
    until_both_run((&mut aware, "aware"), (&mut plain, "plain")).await;
    let before = files.each_ref().map(|file| pid_of(&mut cluster, file));

    // Its connection stays open: only the silence tells.
    cluster.signal_agent(Signal::SIGSTOP).expect("stopped");
    let status = aware.until_state("aware", TaskState::TaskUnreachable).await;
    assert_eq!(status.reason(), Reason::AgentRemoved);
    assert!(status.unreachable_time.is_some());
    let status = plain.until_state("plain", TaskState::TaskLost).await;
    assert_eq!(status.reason(), Reason::AgentRemoved);
    assert_eq!(cluster.master_metric("master/slaves_unreachable").expect("is there"), 1.0);
    let listed = cluster.mezzo(&["agents"]).expect("runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("unreachable"), "{listed}");

    cluster.signal_agent(Signal::SIGCONT).expect("goes on");
    let status = aware.until_state("aware", TaskState::TaskRunning).await;
    assert_eq!(status.reason(), Reason::AgentReregistered);
    assert_eq!(status.uuid, None);
    let status = plain.until_state("plain", TaskState::TaskRunning).await;
    assert_eq!(status.reason(), Reason::AgentReregistered);
    let after = files.each_ref().map(|file| pid_of(&mut cluster, file));
    assert_eq!(after, before, "the same processes");

    files.iter().for_each(|file| let_go(file));
    let status = aware.until_state("aware", TaskState::TaskFailed).await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
    let status = plain.until_state("plain", TaskState::TaskFailed).await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
}

#[tokio::test]
async fn an_agent_that_died_comes_back_after_it_was_given_up() {
    let mut cluster = Cluster::start(impatient()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let file = cluster.directory().join("waits");
    probe.launch(task("waits").shell(waits(&file)));
    probe.until_running("waits").await;
    let before = pid_of(&mut cluster, &file);
    cluster.kill_agent().expect("killed");
    probe.until_state("waits", TaskState::TaskUnreachable).await;
    // The task ends while nobody knows of it.
    let_go(&file);
    cluster.start_agent().expect("starts again");
    let status = probe.until_state("waits", TaskState::TaskFailed).await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
    assert_eq!(pid_of(&mut cluster, &file), before, "it ran once");
}

/// Agent, launcher and tasks are killed together, and the kernel has another boot id: a reboot as far
/// as the agent can tell.
#[tokio::test]
async fn after_a_reboot_endings_are_decided_from_the_ledger() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut aware = Probe::connect(&cluster).await;
    let mut plain = Probe::connect_plain(&cluster).await;
    aware.launch(task("over").shell("exit 7"));
    let status = aware.ending("over").await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    aware.launch(task("aware").shell("sleep 1000"));
    plain.launch(task("plain").shell("sleep 1000"));
    until_both_run((&mut aware, "aware"), (&mut plain, "plain")).await;
    let agent = |cluster: &Cluster| {
        let listed = cluster.mezzo(&["--output", "json", "agents"]).expect("runs");
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        listed[0]["agent_id"].as_str().expect("an agent").to_owned()
    };
    let before = agent(&cluster);

    cluster.kill_host().expect("killed");
    let boot_id = cluster.directory().join("boot_id");
    std::fs::write(&boot_id, "6f1f2f5e-0000-4000-8000-000000000002\n").expect("writes");
    cluster.options().boot_id = Some(boot_id);
    cluster.start_agent().expect("starts again");
    let status = aware.until_state("aware", TaskState::TaskGone).await;
    assert_eq!(status.reason(), Reason::AgentRestarted);
    assert_eq!(status.message(), "the agent's host was restarted");
    let status = plain.until_state("plain", TaskState::TaskLost).await;
    assert_eq!(status.reason(), Reason::AgentRestarted);
    assert_eq!(agent(&cluster), before, "it is the same agent");
    // The ending that was acknowledged before is not told in another way.
    let ends = aware.updates["over"].iter().filter(|s| s.state() == TaskState::TaskFailed).count();
    assert!(ends >= 1);
    assert!(!aware.has("over", TaskState::TaskGone), "{:#?}", aware.updates["over"]);
    // Nobody else may hold the offer that the next task waits for.
    drop(plain);
    let status = aware.run(task("next").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFinished);
}

#[tokio::test]
async fn an_agent_may_grow_and_not_shrink() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let file = cluster.directory().join("waits");
    probe.launch(task("waits").shell(waits(&file)));
    probe.until_running("waits").await;
    let resources = |cpus: u32| format!("cpus:{cpus};mem:65536;disk:65536;ports:[31000-31999]");

    let refused = |cluster: &mut Cluster, cpus: u32| {
        cluster.end_agent(Signal::SIGTERM).expect("ends");
        cluster.options().resources = resources(cpus);
        cluster.start_agent_alone().expect_err("it must refuse").to_string()
    };
    let message = refused(&mut cluster, 65);
    assert!(message.contains("the agent's resources changed from"), "{message}");
    assert!(message.contains("--reconfiguration-policy=additive"), "{message}");
    cluster.options().agent_flags = vec!["--reconfiguration-policy=additive".to_owned()];
    let message = refused(&mut cluster, 63);
    let sentence = "the agent's resource cpus changed from 'cpus:64' to 'cpus:63' since it joined the \
                    cluster; restore the old value, or remove the work directory to join as a new agent";
    assert!(message.contains(sentence), "{message}");

    cluster.options().resources = resources(65) + ";slots:2";
    cluster.options().agent_flags.extend(["--attributes".to_owned(), "rack:a1".to_owned()]);
    cluster.start_agent().expect("it grew");
    let listed = cluster.mezzo(&["agents"]).expect("runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("0.1 of 65"), "{listed}");
    let_go(&file);
    let status = probe.ending("waits").await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5), "the task lived on");
}

#[tokio::test]
async fn an_agent_marked_gone_is_barred_with_a_sentence() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("t").shell("sleep 1000"));
    probe.until_running("t").await;
    let listed = cluster.mezzo(&["--output", "json", "agents"]).expect("runs");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let agent = listed[0]["agent_id"].as_str().expect("an agent").to_owned();
    let unknown = cluster.mezzo(&["mark-agent-gone", "nobody"]).expect("runs");
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(message.contains("no agent has the id 'nobody'"), "{message}");

    let marked = cluster.mezzo(&["mark-agent-gone", &agent]).expect("runs");
    assert!(marked.status.success(), "{marked:?}");
    let status = probe.until_state("t", TaskState::TaskGoneByOperator).await;
    assert_eq!(status.reason(), Reason::AgentRemovedByOperator);
    let ended = cluster.agent_ended().expect("it stops");
    assert!(!ended.success());
    assert!(cluster.logs().contains("was marked gone by an operator"), "{}", cluster.logs());
    assert!(cluster.container_cgroups().is_empty(), "its tasks are ended");
    let listed = cluster.mezzo(&["agents"]).expect("runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("gone"), "{listed}");
    // The host is welcome, as another agent.
    cluster.start_agent().expect("joins anew");
    let status = probe.run(task("next").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFinished);
}
