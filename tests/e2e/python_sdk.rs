//! The Python package, installed with pip from the tree, and its examples against real processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use mezzo_tests::{Cluster, Options};

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/python");
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python_sdk_install.sh");

/// A virtual environment with the package, kept beside the build for the next time.
static ENVIRONMENT: LazyLock<PathBuf> = LazyLock::new(|| {
    let own = std::env::current_exe().expect("the test's executable");
    let target = own.ancestors().nth(3).expect("the target directory");
    let directory = target.join("python-sdk");
    let output = Command::new("bash")
        .args([INSTALL.as_ref(), directory.as_path(), PACKAGE.as_ref()])
        .output();
    let output = output.expect("bash");
    assert!(
        output.status.success(),
        "the package could not be installed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    directory
});

/// What python prints, which has to end well.
fn python(arguments: &[&str]) -> String {
    let output = Command::new(ENVIRONMENT.join("bin/python"))
        .args(arguments)
        .current_dir(PACKAGE)
        .output()
        .expect("python");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    format!("{out}{err}")
}

#[test]
fn the_packages_own_tests_pass() {
    let out = python(&["-W", "error", "-m", "unittest", "discover", "tests"]);
    assert!(out.contains("\nOK"), "{out}");
    let ran = out.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next());
    assert!(ran.and_then(|count| count.parse().ok()).is_some_and(|count: u32| count > 20), "{out}");
}

#[test]
fn what_is_installed_comes_from_the_tree_and_holds_every_message() {
    let installed = python(&["-c", "import mezzo, mezzo.v1.task_pb2 as t; print(mezzo.__file__)"]);
    assert!(Path::new(installed.trim()).starts_with(&*ENVIRONMENT), "{installed}");
    let listed = python(&["-c", "from mezzo import v1; print('\\n'.join(v1.__all__))"]);
    let directory = Path::new(PACKAGE).join("../../proto/mezzo/v1");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("the protos") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a proto");
        if !text.contains("\npackage mezzo.v1;") {
            continue;
        }
        let names = text.lines().filter_map(|line| line.strip_prefix("message "));
        for name in names.filter_map(|rest| rest.split([' ', '{']).next()) {
            assert!(listed.lines().any(|line| line == name), "{name} is missing");
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} messages were looked for");
}

#[test]
fn the_example_scheduler_runs_its_tasks() {
    let _ = &*ENVIRONMENT;
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let out = python(&["examples/hello.py", cluster.address()]);
    assert!(out.starts_with("subscribed as "), "{out}");
    for n in 1..=5 {
        for state in ["TASK_RUNNING", "TASK_FINISHED"] {
            assert!(out.contains(&format!("hello.{n}: {state}")), "{out}");
        }
    }
}

#[test]
fn the_example_executor_runs_its_tasks() {
    let _ = &*ENVIRONMENT;
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let out = python(&["examples/sleepers.py", cluster.address(), "0.1", "0.2"]);
    for n in 1..=2 {
        assert!(out.contains(&format!("sleeper.{n}: TASK_RUNNING")), "{out}");
        assert!(out.contains(&format!("sleepers says: sleeper.{n} is over")), "{out}");
        assert!(out.contains(&format!("sleeper.{n}: TASK_FINISHED")), "{out}");
    }
}
