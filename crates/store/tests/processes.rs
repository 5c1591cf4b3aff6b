//! What takes a second process to show: the lock, `kill -9`, a full and a read-only file system.
//!
//! The second process is this test binary again, told by `MEZZO_STORE_CHILD` what directory to use; its parts
//! are the ignored tests in `child`.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use mezzo_store::{Batch, Layout, OpenError, Store, WriteError};
use tempfile::TempDir;

const SYNCED: &str = "synced";
const PLAIN: &str = "plain";
const DIRECTORY: &str = "MEZZO_STORE_CHILD";

/// Lines for the parent start with this; the test harness prints others.
const MARK: &str = "child: ";

fn layout() -> Layout {
    Layout::new("test", 1, [SYNCED, PLAIN])
}

/// The child's half of each test.
mod child {
    use super::*;

    fn store() -> Result<Store, OpenError> {
        Store::open(std::env::var(DIRECTORY).expect("started by its parent"), &layout())
    }

    fn say(what: impl std::fmt::Display) {
        println!("{MARK}{what}");
    }

    #[test]
    #[ignore = "the other half of acknowledged_writes_survive_kill_9"]
    fn writes_until_killed() {
        let store = store().expect("opens");
        for number in 0_u64.. {
            store.write(Batch::new().put(PLAIN, number.to_be_bytes(), "x")).expect("writes");
            store
                .write_synced(Batch::new().put(SYNCED, number.to_be_bytes(), "x"))
                .expect("writes")
                .wait()
                .expect("syncs");
            say(number);
        }
    }

    #[test]
    #[ignore = "the other half of the_lock_names_its_holder"]
    fn holds_the_store_until_told() {
        let store = store().expect("opens");
        say("open");
        std::io::stdin().lines().next();
        drop(store);
    }

    #[test]
    #[ignore = "the other half of a_full_disk_stops_writing_with_a_clear_error"]
    fn fills_the_disk() {
        let store = store().expect("opens");
        store
            .write_and_sync(Batch::new().put(SYNCED, "kept", "x"))
            .expect("there is room for this");
        let full = (0_u64..)
            .find_map(|number| {
                store
                    .write_and_sync(Batch::new().put(PLAIN, number.to_be_bytes(), [7; 1 << 16]))
                    .err()
            })
            .expect("the disk is small");
        say(&full);
        assert!(matches!(full, WriteError::OutOfSpace { .. }), "{full:?}");
        let refused = store.write(Batch::new().put(SYNCED, "late", "x")).expect_err("refused");
        say(&refused);
        assert!(
            matches!(refused, WriteError::Refusing { .. }) && refused.is_out_of_space(),
            "{refused:?}"
        );
        let refused =
            store.write_synced(Batch::new().put(SYNCED, "late", "x")).expect_err("refused");
        assert!(matches!(refused, WriteError::Refusing { .. }));
        assert!(store.get(SYNCED, "kept").expect("reads go on").is_some());
        say("done");
    }

    #[test]
    #[ignore = "the other half of a_read_only_file_system_is_named"]
    fn opens_read_only() {
        say(store().expect_err("cannot be opened"));
    }
}

struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Runs the child's half `name` on `dir`; with `setup`, in a mount namespace of its own after that shell command.
    fn start(name: &str, dir: &Path, setup: Option<&str>) -> Self {
        let executable = std::env::current_exe().expect("known");
        let arguments = ["--ignored", "--exact", "--nocapture", "--test-threads=1"];
        let mut command = match setup {
            None => Command::new(executable),
            Some(setup) => {
                let mut command = Command::new("unshare");
                // Root needs no user namespace of its own; others get one, in which they may mount.
                if fs::metadata("/proc/self").expect("exists").uid() != 0 {
                    command.arg("--map-root-user");
                }
                command
                    .args(["--mount", "--", "sh", "-ec", &format!("{setup}; exec \"$0\" \"$@\"")])
                    .arg(executable);
                command
            }
        };
        let mut child = command
            .args(arguments)
            .arg(format!("child::{name}"))
            .env(DIRECTORY, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// The next line that the child says, or nothing at its end.
    fn next(&mut self) -> Option<String> {
        // The harness prints `test … ... ` without a line end before the first one.
        self.lines
            .by_ref()
            .map(|line| line.expect("text"))
            .find_map(|line| line.split_once(MARK).map(|(_, said)| said.to_owned()))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Already gone in the good case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let dir = TempDir::new().expect("a directory");
    let mut acknowledged = None;
    for round in 0..3_u64 {
        let mut other = Other::start("writes_until_killed", dir.path(), None);
        for _ in 0..=(round * 40) {
            acknowledged = acknowledged
                .max(Some(other.next().expect("goes on").parse::<u64>().expect("a number")));
        }
        other.child.kill().expect("SIGKILL");
        // What it said before it died counts too.
        while let Some(said) = other.next() {
            acknowledged = acknowledged.max(Some(said.parse().expect("a number")));
        }
        other.child.wait().expect("dies");
        let store = Store::open(dir.path(), &layout()).expect("opens");
        let last = acknowledged.expect("something was written");
        for family in [SYNCED, PLAIN] {
            for number in 0..=last {
                assert!(
                    store.get(family, number.to_be_bytes()).expect("reads").is_some(),
                    "{family} {number} of {last}"
                );
            }
        }
    }
}

#[test]
fn the_lock_names_its_holder() {
    let dir = TempDir::new().expect("a directory");
    let mut other = Other::start("holds_the_store_until_told", dir.path(), None);
    assert_eq!(other.next().as_deref(), Some("open"));
    let error = Store::open(dir.path(), &layout()).expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("is in use by process {} (", other.child.id())), "{text}");
    assert!(text.contains("stop that process or name another directory"), "{text}");
    drop(other.child.stdin.take());
    assert!(other.child.wait().expect("ends").success());
    Store::open(dir.path(), &layout()).expect("free again");
}

#[test]
fn a_full_disk_stops_writing_with_a_clear_error() {
    let dir = TempDir::new().expect("a directory");
    let mount = format!("mount -t tmpfs -o size=3m tmpfs '{}'", dir.path().display());
    let mut other = Other::start("fills_the_disk", dir.path(), Some(&mount));
    let full = other.next().expect("fills it");
    assert!(full.contains("no space left on the file system of store"), "{full}");
    let refused = other.next().expect("tries again");
    assert!(refused.contains("takes no writes since an earlier one failed"), "{refused}");
    assert_eq!(other.next().as_deref(), Some("done"));
    assert!(other.child.wait().expect("ends").success());
}

#[test]
fn a_read_only_file_system_is_named() {
    let dir = TempDir::new().expect("a directory");
    let mount = format!("mount -t tmpfs -o ro tmpfs '{}'", dir.path().display());
    let text = Other::start("opens_read_only", dir.path(), Some(&mount)).next().expect("answers");
    assert!(text.contains("lies on a file system that is mounted read-only"), "{text}");

    let below = dir.path().join("new");
    let text = Other::start("opens_read_only", &below, Some(&mount)).next().expect("answers");
    assert!(text.contains("lies on a file system that is mounted read-only"), "{text}");
}
