//! What people type.

use std::io::Read;

use mezzo_tests::{Cluster, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn run_streams_the_output_and_returns_the_exit_code() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let output =
        cluster.mezzo(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]).expect("runs");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "out\n");
    assert!(text(&output.stderr).contains("err\n"), "{}", text(&output.stderr));
    let output = cluster.mezzo(&["run", "--", "sh", "-c", "kill -TERM $$"]).expect("runs");
    assert_eq!(output.status.code(), Some(128 + 15));
}

#[test]
fn detach_ps_logs_and_kill_work_together() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let run = ["run", "--detach", "--name", "web", "--", "sh", "-c", "echo serving; sleep 1000"];
    let output = cluster.mezzo(&run).expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = cluster.mezzo(&["ps", "--output", "json"]).expect("runs");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = rows.as_array().expect("an array");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].to_string().contains("\"web"), "{rows:?}");
    let id = "web";
    cluster
        .wait("the output", |cluster| {
            let output = cluster.mezzo(&["logs", id]).ok()?;
            (text(&output.stdout) == "serving\n").then_some(())
        })
        .expect("logs show it");
    let output = cluster.mezzo(&["agents"]).expect("runs");
    assert!(text(&output.stdout).contains("127.0.0.1"), "{}", text(&output.stdout));
    let output = cluster.mezzo(&["frameworks"]).expect("runs");
    assert!(output.status.success());
    let output = cluster.mezzo(&["kill", id]).expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    cluster
        .wait("the task to go", |cluster| cluster.container_cgroups().is_empty().then_some(()))
        .expect("killed");
    let output = cluster.mezzo(&["kill", "nobody"]).expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nobody"), "{}", text(&output.stderr));
}

#[test]
fn an_interrupt_kills_the_task_and_waits_for_its_end() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let run = ["run", "--", "sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; sleep 1000 & wait"];
    let mut child = cluster.mezzo_in_background(&run).expect("runs");
    let mut first = [0; 3];
    let stdout = child.stdout.as_mut().expect("piped");
    stdout.read_exact(&mut first).expect("the task is up");
    assert_eq!(&first, b"up\n");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGINT).expect("sent");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(text(&output.stdout), "bye\n", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "interrupted: {}", text(&output.stderr));
    cluster
        .wait("the task to go", |cluster| cluster.container_cgroups().is_empty().then_some(()))
        .expect("nothing stays");
}

#[test]
fn without_a_master_the_address_and_the_way_to_start_one_are_told() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let output = cluster.mezzo(&["--master", "127.0.0.1:1", "ps"]).expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("127.0.0.1:1") && error.contains("mezzo dev"), "{error}");
}
