//! `mezzo run` against a cluster that only pretends.

mod fake_cluster;

use std::process::Stdio;

use mezzo_sdk::v1::TaskInfo;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::fake_cluster::{FakeCluster, Seen};

fn start(cluster: &FakeCluster, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mezzo"))
        .args(["run", "--master", &cluster.master, "--user", "nobody"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts")
}

/// Exit code, stdout and stderr.
async fn finish(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it can be signalled");
}

fn launched(seen: &Seen) -> Option<TaskInfo> {
    match seen {
        Seen::Launched(task) => Some(task.as_ref().clone()),
        _ => None,
    }
}

fn torn_down(seen: &Seen) -> Option<()> {
    (*seen == Seen::TornDown).then_some(())
}

#[tokio::test]
async fn output_is_streamed_across_an_agents_restart_and_the_exit_code_is_the_tasks() {
    for (command, code, complaint) in [
        (["exit", "0"], 0, ""),
        (
            ["exit", "7"],
            7,
            "t failed: Command exited with status 7 (REASON_COMMAND_EXECUTOR_FAILED)\n",
        ),
        (["signal", "9"], 137, "t failed\n"),
    ] {
        let mut cluster = FakeCluster::start(4.0).await;
        let child = start(&cluster, &["--name", "t", "--", command[0], command[1]]);
        let (status, stdout, stderr) = finish(child).await;
        assert_eq!((status, stdout.as_str()), (Some(code), "stdout of t\n"), "{stderr}");
        // Both are written to stderr, one by the task and one about it.
        assert!(stderr.contains("stderr of t\n") && stderr.contains(complaint), "{stderr}");
        cluster.wait_for(torn_down).await;
    }
}

#[tokio::test]
async fn what_was_asked_for_arrives_at_the_master() {
    let mut cluster = FakeCluster::start(4.0).await;
    let arguments =
        ["--role", "ads", "--cpus", "1.5", "--env", "A=b", "--name", "web", "--", "exit", "0"];
    let child = start(&cluster, &arguments);
    let framework = cluster
        .wait_for(|seen| match seen {
            Seen::Subscribed(info) => Some(info.clone()),
            _ => None,
        })
        .await;
    assert_eq!(
        (framework.user.as_str(), framework.roles.as_slice()),
        ("nobody", &["ads".to_owned()][..])
    );
    assert_eq!(framework.name, "mezzo run web");
    let task = cluster.wait_for(launched).await;
    assert_eq!(task.resources[0].scalar.map(|scalar| scalar.value), Some(1.5));
    let environment = task.command.and_then(|command| command.environment).expect("environment");
    assert_eq!(environment.variables[0].name, "A");
    assert_eq!(finish(child).await.0, Some(0));
}

#[tokio::test]
async fn copies_are_summed_up_as_json_and_fail_as_the_first_failed_one() {
    // Room for three at a time.
    let cluster = FakeCluster::start(0.3).await;
    let arguments = ["--instances", "20", "--name", "t", "--output", "json", "--", "exit", "0"];
    let (status, stdout, stderr) = finish(start(&cluster, &arguments)).await;
    assert_eq!(status, Some(0), "{stderr}");
    let summary: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&summary[0]["tasks"], &summary[0]["finished"]), (&20.into(), &20.into()));

    let arguments = ["--instances", "12", "--name", "t", "--", "exit", "3"];
    let (status, stdout, stderr) = finish(start(&cluster, &arguments)).await;
    assert_eq!(status, Some(3));
    assert!(stdout.starts_with("12 tasks: 0 finished, 12 failed in "), "{stdout}");
    assert!(stderr.ends_with("and 2 more\n"), "{stderr}");
}

#[tokio::test]
async fn an_interrupt_kills_the_task_and_waits_for_its_end() {
    let mut cluster = FakeCluster::start(4.0).await;
    let child = start(&cluster, &["--name", "t", "--", "sleep"]);
    cluster.wait_for(launched).await;
    interrupt(&child);
    let killed = cluster
        .wait_for(|seen| match seen {
            Seen::Killed(id) => Some(id.clone()),
            _ => None,
        })
        .await;
    assert_eq!(killed, "t");
    cluster.wait_for(torn_down).await;
    assert_eq!(finish(child).await.0, Some(130));
}

#[tokio::test]
async fn the_time_limit_kills_the_task() {
    let cluster = FakeCluster::start(4.0).await;
    let child = start(&cluster, &["--timeout", "10ms", "--", "sleep"]);
    let (status, _, stderr) = finish(child).await;
    assert_eq!(status, Some(124), "{stderr}");
    assert!(stderr.contains("the time is up"), "{stderr}");
}

#[tokio::test]
async fn a_detached_run_prints_the_id_and_leaves_the_framework_in_place() {
    let mut cluster = FakeCluster::start(4.0).await;
    let child = start(&cluster, &["--detach", "--name", "t", "--", "sleep"]);
    let (status, stdout, stderr) = finish(child).await;
    assert_eq!((status, stdout.as_str()), (Some(0), "t\n"), "{stderr}");
    cluster
        .wait_for(|seen| {
            assert_ne!(*seen, Seen::TornDown);
            (*seen == Seen::Left).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_task_too_large_for_every_offer_is_explained_and_can_be_given_up() {
    let cluster = FakeCluster::start(2.0).await;
    let mut child =
        start(&cluster, &["--cpus", "64", "--patience", "10ms", "--name", "t", "--", "sleep"]);
    let stderr = child.stderr.take().expect("piped");
    let mut lines = BufReader::new(stderr).lines();
    let mut said = String::new();
    // Offers may come after the first warning, then the next one tells of them.
    while let Some(line) = lines.next_line().await.expect("readable") {
        said.push_str(&line);
        said.push('\n');
        if said.contains("for an offer with") {
            break;
        }
    }
    assert!(said.contains("warning: a task waits for an offer with cpus:64; mem:32; "), "{said}");
    interrupt(&child);
    assert_eq!(finish(child).await.0, Some(130));
}
