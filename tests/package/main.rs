//! The Debian package: built, installed, started, upgraded and removed, under a systemd of its own and with
//! a task that must not notice.

mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Machine, text};

/// `cargo xtask dist` of what the tests are built with; the package's path.
fn dist(revision: u32, output: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--locked", "--package", "xtask", "--", "dist"]);
    command.arg("--profile=dev").arg(format!("--revision={revision}")).arg("--output").arg(output);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let said = command.current_dir(root).output().expect("cargo");
    assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));
    let path = PathBuf::from(text(&said.stdout).lines().last().expect("a path"));
    assert!(path.is_file(), "{path:?}");
    path
}

/// The same package with a launcher of another build in it.
fn with_another_launcher(package: &Path, directory: &Path) -> PathBuf {
    let script = r#"set -e
        dpkg-deb --raw-extract "$1" "$2/tree"
        printf later >>"$2/tree/usr/bin/mezzo-launcher"
        (cd "$2/tree" && find usr etc -type f | sort | xargs md5sum >DEBIAN/md5sums)
        dpkg-deb --root-owner-group -Zgzip --build "$2/tree" "$2/another.deb""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(package).arg(directory);
    let said = shell.output().expect("sh");
    assert!(said.status.success(), "{}", text(&said.stderr));
    directory.join("another.deb")
}

fn property(machine: &Machine, unit: &str, name: &str) -> String {
    machine.succeed(&["systemctl", "show", "--value", "--property", name, unit])
}

fn is_active(machine: &Machine, unit: &str) -> bool {
    machine.run(&["systemctl", "is-active", "--quiet", unit]).expect("nsenter").status.success()
}

/// A process of the machine, so that another with its number is not taken for it.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: String,
    started: String,
}

fn process(machine: &Machine, pid: &str) -> Option<Process> {
    let stat = text(&machine.run(&["cat", &format!("/proc/{pid}/stat")]).ok()?.stdout);
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned();
    Some(Process { pid: pid.to_owned(), started })
}

/// The one process with this name and argument.
fn find(machine: &Machine, pattern: &str) -> Process {
    let pids = machine.succeed(&["pgrep", "--full", "--exact", pattern]);
    let [pid] = pids.lines().collect::<Vec<_>>()[..] else { panic!("one {pattern}: {pids}") };
    process(machine, pid).expect("it lives")
}

/// The state of a task as `mezzo ps` has it.
fn state(machine: &Machine, task: &str) -> Option<String> {
    let output = machine.run(&["mezzo", "ps", "--all", "--output", "json"]).ok()?;
    let tasks: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let task = tasks.as_array()?.iter().find(|row| row["task_id"] == task)?;
    Some(task["state"].as_str()?.to_owned())
}

fn wait_for_state(machine: &mut Machine, task: &str, expected: &str) {
    let what = format!("task {task} to be {expected}");
    machine
        .wait(&what, |machine| (state(machine, task)?.contains(expected)).then_some(()))
        .expect("the state");
}

const AGENT: &str = "mezzo-agent.service";
const MASTER: &str = "mezzo-master.service";

#[test]
fn the_package_is_installed_started_upgraded_and_removed_and_a_task_does_not_notice() {
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).expect("directory");
        path
    };
    let first = dist(1, &at("first"));
    let again = dist(1, &at("again"));
    assert_eq!(first.file_name(), again.file_name());
    let bytes = |path: &Path| std::fs::read(path).expect("package");
    assert!(bytes(&first) == bytes(&again), "the same inputs make the same bytes");
    let second = with_another_launcher(&dist(2, &at("second")), &at("another"));

    let mut machine = Machine::boot().expect("a machine");
    machine.put(&first, "/root/first.deb").expect("copy");
    machine.put(&second, "/root/second.deb").expect("copy");

    // Installed: nothing runs that nobody asked for.
    machine.succeed(&["dpkg", "--install", "/root/first.deb"]);
    machine.succeed(&["dpkg", "--verify", "mezzo"]);
    for unit in [AGENT, MASTER] {
        let path = format!("/usr/lib/systemd/system/{unit}");
        assert_eq!(machine.succeed(&["systemd-analyze", "verify", &path]), "");
        assert!(!is_active(&machine, unit));
        assert_eq!(property(&machine, unit, "UnitFileState"), "disabled");
    }

    // Started: `start` returns when they serve.
    let defaults = "MEZZO_MASTER_OPTIONS=\"--root-submissions\"\n";
    machine.write("/etc/default/mezzo-master", defaults).expect("defaults");
    let defaults = "MEZZO_AGENT_OPTIONS=\"--resources cpus:2;mem:512;disk:512\"\n";
    machine.write("/etc/default/mezzo-agent", defaults).expect("defaults");
    machine.succeed(&["systemctl", "enable", "--now", MASTER, AGENT]);
    assert_eq!(property(&machine, MASTER, "StatusText"), "serving at 127.0.0.1:5050");
    assert_eq!(property(&machine, AGENT, "StatusText"), "serving at 127.0.0.1:5051");
    let master = property(&machine, MASTER, "MainPID");
    assert_eq!(machine.succeed(&["stat", "--format=%U", &format!("/proc/{master}")]), "mezzo");

    // Used.
    let hello = machine.succeed(&["mezzo", "run", "--mem", "32", "--", "echo", "hello"]);
    assert_eq!(hello, "hello");
    let sleeper = ["mezzo", "run", "--mem", "32", "--detach", "--name", "sleeper", "--"];
    machine.succeed(&[&sleeper[..], &["sleep", "1000001"]].concat());
    wait_for_state(&mut machine, "sleeper", "RUNNING");
    let task = find(&machine, "sleep 1000001");
    let launcher = machine.succeed(&["pgrep", "--full", "^/usr/bin/mezzo-launcher"]);
    let launcher = process(&machine, &launcher).expect("the launcher");
    // Read inside: from the outside its control groups have other names.
    let read = |place: String| machine.succeed(&["cat", &place]);
    for process in [&task, &launcher] {
        let groups = read(format!("/proc/{}/cgroup", process.pid));
        let unified = groups.lines().find(|line| line.starts_with("0::")).expect("v2");
        assert!(unified.starts_with("0::/mezzo/"), "outside of the unit: {unified}");
    }
    // -900, where this machine lets systemd have it; the task has nothing of it.
    let agent = read(format!("/proc/{}/oom_score_adj", property(&machine, AGENT, "MainPID")));
    assert_eq!(read(format!("/proc/{}/oom_score_adj", launcher.pid)), agent);
    assert_eq!(read(format!("/proc/{}/oom_score_adj", task.pid)), "0");
    let unharmed = |machine: &mut Machine, when: &str| {
        assert_eq!(process(machine, &task.pid).as_ref(), Some(&task), "the task, {when}");
        assert_eq!(process(machine, &launcher.pid).as_ref(), Some(&launcher), "{when}");
        wait_for_state(machine, "sleeper", "RUNNING");
    };

    // Restarted, killed, and replaced because it hangs.
    machine.succeed(&["systemctl", "restart", AGENT, MASTER]);
    unharmed(&mut machine, "after a restart");
    let replaced = |machine: &mut Machine, why: &str| {
        let before = property(machine, AGENT, "MainPID");
        machine.succeed(&["kill", why, &before]);
        machine
            .wait("systemd to start the agent anew", |machine| {
                let other = property(machine, AGENT, "MainPID") != before;
                (other && is_active(machine, AGENT)).then_some(())
            })
            .expect("a new agent");
    };
    replaced(&mut machine, "-KILL");
    unharmed(&mut machine, "after a kill");
    let watchdog = "[Service]\nWatchdogSec=2\n";
    machine
        .write(&format!("/run/systemd/system/{AGENT}.d/watchdog.conf"), watchdog)
        .expect("drop-in");
    machine.succeed(&["systemctl", "daemon-reload"]);
    machine.succeed(&["systemctl", "restart", AGENT]);
    let fed = property(&machine, AGENT, "WatchdogTimestampMonotonic");
    machine
        .wait("the agent to show a sign of life", |machine| {
            (property(machine, AGENT, "WatchdogTimestampMonotonic") != fed).then_some(())
        })
        .expect("a sign");
    replaced(&mut machine, "-STOP");
    assert_eq!(property(&machine, AGENT, "NRestarts"), "1");
    unharmed(&mut machine, "after a hang");
    machine.succeed(&["rm", "-r", &format!("/run/systemd/system/{AGENT}.d")]);
    machine.succeed(&["systemctl", "daemon-reload"]);

    // Upgraded: the daemons by a restart, the launcher in place.
    let before = property(&machine, AGENT, "MainPID");
    machine.succeed(&["dpkg", "--install", "/root/second.deb"]);
    assert_ne!(property(&machine, AGENT, "MainPID"), before);
    assert!(is_active(&machine, MASTER) && is_active(&machine, AGENT));
    let image = machine.read(&format!("/proc/{}/exe", launcher.pid)).expect("image");
    assert!(image.ends_with(b"later"), "the launcher of the new package runs");
    unharmed(&mut machine, "after an upgrade");
    let kept = machine.read("/etc/default/mezzo-agent").expect("defaults");
    assert!(text(&kept).contains("cpus:2"), "settings are kept");

    // Stopped: tasks go on, and are found again.
    machine.succeed(&["systemctl", "stop", AGENT]);
    assert_eq!(property(&machine, AGENT, "ActiveState"), "inactive");
    assert_eq!(process(&machine, &task.pid).as_ref(), Some(&task), "the task, without an agent");
    machine.succeed(&["systemctl", "start", AGENT]);
    unharmed(&mut machine, "after a stop");

    // Removed, and installed again.
    machine.succeed(&["dpkg", "--remove", "mezzo"]);
    assert!(!is_active(&machine, AGENT) && !is_active(&machine, MASTER));
    assert_eq!(process(&machine, &task.pid).as_ref(), Some(&task), "the task, without a package");
    machine.succeed(&["dpkg", "--install", "/root/second.deb"]);
    machine.succeed(&["systemctl", "start", MASTER, AGENT]);
    unharmed(&mut machine, "after a removal");

    // Left: the agent ends its tasks, and does not come back.
    machine.succeed(&["systemctl", "kill", "--kill-who=main", "--signal=USR1", AGENT]);
    machine
        .wait("the agent to leave", |machine| {
            (property(machine, AGENT, "ActiveState") == "inactive").then_some(())
        })
        .expect("it leaves");
    assert_eq!(process(&machine, &task.pid), None, "the task is ended");

    machine.succeed(&["dpkg", "--purge", "mezzo"]);
    for gone in ["/etc/default/mezzo-agent", "/etc/default/mezzo-master", "/usr/bin/mezzo"] {
        machine.succeed(&["test", "!", "-e", gone]);
    }
    let wants = "/etc/systemd/system/multi-user.target.wants";
    assert_eq!(machine.succeed(&["find", wants, "-name", "mezzo*"]), "");
    machine.succeed(&["test", "-d", "/var/lib/mezzo/master"]);
}
