//! pymesos, a Mesos client that nobody here wrote, from PyPI and unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;

use mezzo_tests::{Cluster, Options};

const SCHEDULER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/pymesos_scheduler.py");
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/pymesos_install.sh");

/// A virtual environment with pymesos, kept beside the build for the next time.
pub(crate) fn environment() -> PathBuf {
    let own = std::env::current_exe().expect("the test's executable");
    let target = own.ancestors().nth(3).expect("the target directory");
    let directory = target.join("pymesos-0.3.15");
    let output = Command::new("bash").arg(INSTALL).arg(&directory).output().expect("bash");
    assert!(
        output.status.success(),
        "pymesos could not be installed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    directory
}

fn run(environment: &Path, arguments: &[&str]) {
    let output = Command::new(environment.join("bin/python"))
        .arg(SCHEDULER)
        .args(arguments)
        .output()
        .expect("python");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("all tasks ended as they should"), "{out}{err}");
}

#[test]
fn pymesos_subscribes_launches_and_sees_tasks_end() {
    let environment = environment();
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    run(&environment, &[cluster.address()]);
}
