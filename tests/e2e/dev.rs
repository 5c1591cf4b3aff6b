//! `mezzo dev`: one command brings a cluster up, one Ctrl-C takes all of it away.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Processes whose command line contains `mark`.
fn processes(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(mark)).collect()
}

#[test]
fn dev_runs_a_task_and_an_interrupt_leaves_nothing_behind() {
    let directory = tempfile::Builder::new().prefix("mezzo-dev-").tempdir().expect("a directory");
    let mark = directory.path().to_string_lossy().into_owned();
    let mezzo = mezzo_tests::binary("mezzo").expect("built");
    let mut dev = Command::new(&mezzo)
        .args(["dev", "--data-dir", &mark, "--port", "0", "--agent-port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let stdout = dev.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("ready ").expect("ready").to_owned();
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(&mezzo);
        command.args(["--master", &address]).args(arguments).output().expect("runs")
    };
    let output = run(&["run", "--", "sh", "-c", "echo hello; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"hello\n");
    // A number that no other process of this machine sleeps for.
    let nap = format!("{}.25", 1_000_000 + std::process::id());
    let output = run(&["run", "--detach", "--", "sleep", &nap]);
    assert!(output.status.success(), "{output:?}");
    assert!(!processes(&format!("sleep {nap}")).is_empty(), "the task runs on");
    kill(Pid::from_raw(i32::try_from(dev.id()).expect("a pid")), Signal::SIGINT).expect("sent");
    let status = dev.wait().expect("ends");
    assert!(status.success(), "{status}");
    assert_eq!(processes(&format!("sleep {nap}")), [""; 0], "the task was ended");
    assert_eq!(processes(&mark), [""; 0], "no launcher stays");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&mark));
}
