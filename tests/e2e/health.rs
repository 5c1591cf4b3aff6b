//! Health checks and checks: told, acted upon, and not forgotten with the agent.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mezzo_sdk::v1::{TaskState, TaskStatus, task_status::Reason};
use mezzo_sdk::{Check, CheckPort, HealthCheck};
use mezzo_tests::{Cluster, Options};

use crate::framework::{Probe, task};

const OFTEN: Duration = Duration::from_millis(100);

/// From the start, often, and without grace.
fn eager(check: HealthCheck) -> HealthCheck {
    check.delay(Duration::ZERO).interval(OFTEN).grace(Duration::ZERO)
}

fn eager_check(check: Check) -> Check {
    check.delay(Duration::ZERO).interval(OFTEN)
}

/// A file whose existence is what the test's tasks call healthy.
struct Switch(PathBuf);

impl Switch {
    fn new(cluster: &Cluster, name: &str) -> Switch {
        Switch(cluster.directory().join(name))
    }

    fn on(&self) {
        fs::write(&self.0, "").expect("file");
    }

    fn off(&self) {
        fs::remove_file(&self.0).expect("remove");
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    fn check(&self) -> HealthCheck {
        HealthCheck::shell(format!("test -e {}", self.path()))
    }
}

fn updates<'p>(probe: &'p Probe, task: &str) -> &'p [TaskStatus] {
    probe.updates.get(task).map_or(&[], Vec::as_slice)
}

/// What was told of a task's health, in order.
fn health(probe: &Probe, task: &str) -> Vec<bool> {
    // One that the agent told before it was killed may come again.
    let mut known = BTreeSet::new();
    let told = updates(probe, task).iter().filter(|status| {
        known.insert(status.uuid.clone())
            && status.state() == TaskState::TaskRunning
            && status.reason.is_some()
            && status.reason() == Reason::TaskHealthCheckStatusUpdated
    });
    told.filter_map(|status| status.healthy).collect()
}

fn agent_metric(cluster: &Cluster, name: &str) -> f64 {
    let text = cluster.get(cluster.agent_address(), "/metrics/snapshot").expect("metrics");
    let all: serde_json::Value = serde_json::from_str(&text).expect("json");
    all[name].as_f64().unwrap_or_else(|| panic!("{name} in {text}"))
}

#[tokio::test]
async fn a_task_that_turns_unhealthy_is_killed_after_three_failures() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let up = Switch::new(&cluster, "up");
    up.on();
    let mut probe = Probe::connect(&cluster).await;
    let server = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    probe.launch(task("t").shell(server).health_check(eager(up.check())));
    probe.until("it is healthy", |probe| health(probe, "t") == [true]).await;
    let listed = cluster.mezzo(&["ps"]).expect("runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(" healthy "), "{listed}");
    up.off();
    let ending = probe.ending("t").await;
    assert_eq!(health(&probe, "t"), [true, false, false, false]);
    // It ended by itself when it was asked to, and is killed all the same.
    assert_eq!(ending.state(), TaskState::TaskKilled, "{ending:?}");
    assert_eq!((ending.healthy, ending.reason), (Some(false), None), "{ending:?}");
    let running = |status: &&TaskStatus| status.state() == TaskState::TaskRunning;
    let last = updates(&probe, "t").iter().rev().find(running);
    let said = last.expect("it was told").message().to_owned();
    let expected = "The health check failed 3 times in a row: the command exited with status 1";
    assert_eq!(said, expected);
    assert!(agent_metric(&cluster, "slave/health_checks_failed") >= 3.0);
    assert!(
        agent_metric(&cluster, "slave/health_checks")
            > agent_metric(&cluster, "slave/health_checks_failed")
    );
}

#[tokio::test]
async fn grace_ends_with_the_first_success() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let up = Switch::new(&cluster, "up");
    let mut probe = Probe::connect(&cluster).await;
    let patient = eager(up.check()).grace(Duration::from_secs(3600));
    probe.launch(task("t").shell("exec sleep 1000").health_check(patient));
    probe.until_running("t").await;
    cluster
        .wait("failures that do not count", |cluster| {
            (agent_metric(cluster, "slave/health_checks_failed") >= 5.0).then_some(())
        })
        .expect("it is looked at");
    up.on();
    probe.until("it is healthy", |probe| !health(probe, "t").is_empty()).await;
    assert_eq!(health(&probe, "t"), [true]);
    up.off();
    let ending = probe.ending("t").await;
    assert_eq!(health(&probe, "t"), [true, false, false, false]);
    assert_eq!(ending.state(), TaskState::TaskKilled);
}

#[tokio::test]
async fn health_outlives_the_agent() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let up = Switch::new(&cluster, "up");
    up.on();
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("t").shell("exec sleep 1000").health_check(eager(up.check())));
    probe.until("it is healthy", |probe| health(probe, "t") == [true]).await;
    cluster.kill_agent().expect("killed");
    cluster.start_agent().expect("started");
    cluster
        .wait("looks of the new agent", |cluster| {
            (agent_metric(cluster, "slave/health_checks") >= 2.0).then_some(())
        })
        .expect("it goes on");
    assert_eq!(health(&probe, "t"), [true], "what is known is not told again");
    up.off();
    let ending = probe.ending("t").await;
    assert_eq!(health(&probe, "t"), [true, false, false, false]);
    assert_eq!((ending.state(), ending.healthy), (TaskState::TaskKilled, Some(false)));
}

/// `/health` and `/ready` answer 200 while a file of that name exists, else 503.
fn web_server(switches: &str) -> String {
    format!(
        "exec python3 -c \"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists('{switches}' + self.path) else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT0'])), Handler).serve_forever()
\""
    )
}

#[tokio::test]
async fn a_web_server_is_asked_for_its_health_and_for_its_readiness() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let (healthy, ready) = (Switch::new(&cluster, "health"), Switch::new(&cluster, "ready"));
    healthy.on();
    let mut probe = Probe::connect(&cluster).await;
    let server = web_server(&cluster.directory().display().to_string());
    // Until it listens there is no answer, which does not count.
    let check = eager(HealthCheck::http(CheckPort::Own(0), "/health"));
    let check = check.grace(Duration::from_secs(3600));
    let readiness = eager_check(Check::http(CheckPort::Own(0), "/ready"));
    probe.launch(task("web").ports(1).shell(server).health_check(check).check(readiness));
    let code = |probe: &Probe| {
        let http = updates(probe, "web").last()?.check_status?.http?;
        http.status_code
    };
    probe.until("it is not ready", |probe| code(probe) == Some(503)).await;
    let first = &updates(&probe, "web")[0];
    let empty = first.check_status.and_then(|status| status.http).expect("from the start");
    assert_eq!(empty.status_code, None);
    probe.until("it is healthy", |probe| health(probe, "web") == [true]).await;
    ready.on();
    probe.until("it is ready", |probe| code(probe) == Some(200)).await;
    let told = updates(&probe, "web").last().expect("it was told");
    assert_eq!(told.reason(), Reason::TaskCheckStatusUpdated);
    assert_eq!(told.healthy, Some(true), "what the other check found stays told");
    let listed = cluster.mezzo(&["ps"]).expect("runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("healthy, HTTP 200"), "{listed}");
    healthy.off();
    let ending = probe.ending("web").await;
    assert_eq!((ending.state(), ending.healthy), (TaskState::TaskKilled, Some(false)));
    // The readiness is nobody's any more.
    let http = ending.check_status.and_then(|status| status.http).expect("its type is told");
    assert_eq!(http.status_code, None);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unhealthy() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let check = eager(HealthCheck::tcp(CheckPort::Own(0))).consecutive_failures(2);
    let deaf = task("deaf").ports(1).shell("exec sleep 1000").health_check(check.clone());
    let ending = probe.run(deaf).await;
    assert_eq!(health(&probe, "deaf"), [false, false]);
    assert_eq!((ending.state(), ending.healthy), (TaskState::TaskKilled, Some(false)));
    let server = "exec python3 -c \"import os, socket, time
s = socket.create_server(('127.0.0.1', int(os.environ['PORT0']))); time.sleep(1000)\"";
    let check = check.grace(Duration::from_secs(3600));
    probe.launch(task("server").ports(1).shell(server).health_check(check));
    probe.until("it is healthy", |probe| health(probe, "server") == [true]).await;
}

/// Among other things: a check that hangs is a failure, and nothing of it stays.
#[tokio::test]
async fn a_check_that_hangs_ends_its_task_and_leaves_nothing() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let hang = HealthCheck::shell("setsid sleep 1234567 & sleep 1234567");
    let check = eager(hang).timeout(Duration::from_millis(300)).consecutive_failures(1);
    let ending = probe.run(task("t").shell("exec sleep 1000").health_check(check)).await;
    assert_eq!((ending.state(), ending.healthy), (TaskState::TaskKilled, Some(false)));
    let said = updates(&probe, "t").iter().filter_map(|status| status.message.as_deref());
    let said: Vec<&str> = said.collect();
    assert!(
        said.contains(&"The health check failed: it took longer than timeout_seconds, 0.3 s"),
        "{said:?}"
    );
    cluster
        .wait("the control groups to go", |cluster| {
            cluster.container_cgroups().is_empty().then_some(())
        })
        .expect("nothing stays");
}

#[tokio::test]
async fn what_is_no_check_is_refused_with_a_sentence() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    // It has no port.
    let check = HealthCheck::tcp(CheckPort::Own(0));
    let ending = probe.run(task("t").shell("true").health_check(check)).await;
    assert_eq!((ending.state(), ending.reason()), (TaskState::TaskError, Reason::TaskInvalid));
    let expected = "task 't' has health_check.tcp.port 0, but ports are 1 to 65535";
    assert_eq!(ending.message(), expected);
}

#[tokio::test]
async fn mezzo_run_has_its_command_looked_after() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let run = cluster
        .mezzo(&[
            "run",
            "--name",
            "sick",
            "--health-cmd",
            "exit 9",
            "--health-delay",
            "0",
            "--health-interval",
            "100ms",
            "--health-start-period",
            "0",
            "--health-retries",
            "2",
            "--",
            "sleep",
            "1000",
        ])
        .expect("runs");
    assert_eq!(run.status.code(), Some(128 + 15), "{run:?}");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(said.contains("sick was killed because its health check failed"), "{said}");
}
