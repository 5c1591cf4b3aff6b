//! The examples of the SDK, as programs of their own against real processes.

use std::process::Command;

use mezzo_proto::json;
use mezzo_sdk::v1::TaskState;
use mezzo_sdk::{Master, Transport};
use mezzo_tests::{Cluster, Options, binary};

use crate::framework::{Probe, task};

/// What an example prints, which has to end well.
fn example(name: &str, arguments: &[&str]) -> String {
    let program = binary(&format!("examples/{name}"))
        .expect("built by `cargo build -p mezzo-sdk --examples`");
    let output = Command::new(program).args(arguments).env("USER", "root").output().expect("runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?}: {out}{err}");
    out.into_owned()
}

#[test]
fn hello_runs_its_five_tasks() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let out = example("hello", &[cluster.address()]);
    for n in 1..=5 {
        assert!(out.contains(&format!("hello.{n}: TASK_FINISHED")), "{out}");
    }
}

#[test]
fn the_http_scheduler_reports_how_its_command_ends() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let out = example("http_scheduler", &[cluster.address(), "exit 3"]);
    assert!(out.starts_with("subscribed as "), "{out}");
    assert!(out.contains("command: TASK_RUNNING"), "{out}");
    assert!(out.ends_with("it ended as TASK_FAILED\n"), "{out}");
}

#[test]
fn the_operators_tool_tells_what_there_is() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let out = example("operator", &[cluster.address()]);
    assert!(out.starts_with("a master with the API of Mesos 1.11.0\nagent "), "{out}");
    assert!(out.contains(": active\n"), "{out}");
}

#[tokio::test]
async fn over_every_transport_the_answers_are_the_same() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("sleeper").shell("sleep 1000"));
    probe.until_running("sleeper").await;
    let mut answers = Vec::new();
    for transport in [Transport::Grpc, Transport::Http, Transport::HttpJson] {
        let master = Master::connect_over(transport, cluster.address()).await.expect("connects");
        let tasks = master.tasks().await.expect("GET_TASKS");
        assert_eq!(tasks.tasks.len(), 1, "over {transport}");
        assert_eq!(tasks.tasks[0].state(), TaskState::TaskRunning);
        let agent = mezzo_sdk::Agent::connect_over(transport, cluster.agent_address());
        let agent = agent.await.expect("connects");
        let executors = agent.executors().await.expect("GET_EXECUTORS");
        let refused = agent.list_files("/nowhere").await.expect_err("no such directory");
        assert!(refused.is_not_found(), "over {transport}: {refused}");
        answers.push((tasks, executors, refused.to_string()));
    }
    assert_eq!(answers[0], answers[1]);
    // In JSON also what was left out is told, where it has a default.
    let (tasks, executors, refused) = &answers[0];
    let tasks = json::from_slice(&json::to_vec(tasks)).expect("as written");
    let executors = json::from_slice(&json::to_vec(executors)).expect("as written");
    assert_eq!((tasks, executors, refused.clone()), answers[2]);
    probe.calls.teardown().await.expect("torn down");
}

/// An executor of the SDK, over either transport: started by the agent, given tasks, told to end.
fn sleepers(transport: &str) {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let program =
        binary("examples/executor").expect("built by `cargo build -p mezzo-sdk --examples`");
    let output = Command::new(program)
        .args([cluster.address(), "0.1", "0.2"])
        .envs([("USER", "root"), ("SLEEPERS_TRANSPORT", transport)])
        .output()
        .expect("runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    for n in 0..2 {
        assert!(out.contains(&format!("sleeper.{n}: TASK_RUNNING")), "{out}{err}");
        assert!(out.contains(&format!("sleepers says: sleeper.{n} is over")), "{out}{err}");
        assert!(out.contains(&format!("sleeper.{n}: TASK_FINISHED")), "{out}{err}");
    }
}

#[test]
fn the_executor_runs_its_tasks_over_grpc() {
    sleepers("grpc");
}

#[test]
fn the_executor_runs_its_tasks_over_http() {
    sleepers("http");
}
