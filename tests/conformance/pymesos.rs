//! pymesos, a Mesos client that nobody here wrote, from PyPI and unchanged.
//!
//! The distribution on PyPI holds the library, not the examples of its repository: the scripts beside this file do
//! what those do and more, with all its drivers. What they and the daemons say is recorded and compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use mezzo_tests::{Cluster, Options};

use crate::transcript;
use crate::wiretap::Wiretap;

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "conformance", "pymesos", name].iter().collect()
}

/// A virtual environment with pymesos, kept beside the build for the next time.
fn environment() -> PathBuf {
    let own = std::env::current_exe().expect("the test's executable");
    let target = own.ancestors().nth(3).expect("the target directory");
    let directory = target.join("pymesos-0.3.15");
    let output = Command::new("bash").arg(script("install.sh")).arg(&directory).output();
    let output = output.expect("bash");
    assert!(
        output.status.success(),
        "pymesos could not be installed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    directory
}

fn run(environment: &Path, name: &str, arguments: &[&str]) {
    let output = Command::new(environment.join("bin/python"))
        .arg(script(name))
        .args(arguments)
        .output()
        .expect("python");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("all went as it should"), "{out}{err}");
}

#[test]
fn a_scheduler_of_pymesos_runs_command_tasks() {
    let environment = environment();
    let resources = "cpus:4;mem:1024;disk:1024;ports:[31000-31009]".to_owned();
    let cluster = Cluster::start(Options { resources, ..Options::default() }).expect("a cluster");
    let tap = Wiretap::before(cluster.address());
    run(&environment, "scheduler.py", &[tap.address()]);
    transcript::check("scheduler", &tap.said());
}

#[test]
fn an_executor_of_pymesos_runs_tasks_and_talks_to_its_scheduler() {
    let environment = environment();
    let resources = "cpus:4;mem:1024;disk:1024;ports:[31000-31009]".to_owned();
    let cluster = Cluster::start(Options { resources, ..Options::default() }).expect("a cluster");
    let (master, agent) =
        (Wiretap::before(cluster.address()), Wiretap::before(cluster.agent_address()));
    run(&environment, "executors.py", &[master.address(), agent.address()]);
    transcript::check("executors-scheduler", &master.said());
    transcript::check("executors-executor", &agent.said());
}

#[test]
fn operators_of_pymesos_are_answered() {
    let environment = environment();
    let resources = "cpus:4;mem:1024;disk:1024;ports:[31000-31009]".to_owned();
    let cluster = Cluster::start(Options { resources, ..Options::default() }).expect("a cluster");
    let (master, agent) =
        (Wiretap::before(cluster.address()), Wiretap::before(cluster.agent_address()));
    run(&environment, "operators.py", &[master.address(), agent.address()]);
    transcript::check("operators-master", &master.said());
    transcript::check("operators-agent", &agent.said());
}
