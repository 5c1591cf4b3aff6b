//! What takes a second process to show: the lock, `kill -9`, file systems that are full, read-only or gone.
//!
//! The second process is this test binary again, told by `MEZZO_STORE_CHILD` what directory to use; its parts
//! are the ignored tests in `child`.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use mezzo_store::{Batch, Layout, OpenError, Progress, Store, WriteError};
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

    /// Takes all that is left on the file system of the store.
    fn fill(path: &Path) {
        let mut file = fs::File::create(path).expect("creates");
        for size in [1 << 20, 1 << 12, 1] {
            while std::io::Write::write_all(&mut file, &vec![7; size]).is_ok() {}
        }
    }

    fn number_of(found: &(Box<[u8]>, Box<[u8]>)) -> u64 {
        u64::from_be_bytes((*found.0).try_into().expect("a number"))
    }

    /// Writes on a full disk until a write has to wait; returns how many were logged.
    fn write_until_held(store: &Store, tell: &std::sync::mpsc::Sender<u64>) -> u64 {
        for number in 0_u64.. {
            let tell = tell.clone();
            let batch = Batch::new().put(PLAIN, number.to_be_bytes(), vec![7; 1 << 14]);
            let told = move |outcome: Result<(), WriteError>| {
                outcome.expect("is written in the end");
                tell.send(number).expect("the test listens");
            };
            if store.write_or_hold(batch, told).expect("never fails") == Progress::Held {
                return number;
            }
        }
        unreachable!("the disk is small")
    }

    #[test]
    #[ignore = "the other half of a_full_disk_is_waited_for"]
    fn outlives_a_full_disk() {
        let store = store().expect("opens");
        let filler = store.dir().with_file_name("filler");
        store.write_and_sync(Batch::new().put(SYNCED, "kept", "x")).expect("there is room");
        store.check_room().expect("there is room");
        fill(&filler);
        say(store.check_room().expect_err("no room for promises"));
        let (tell, told) = std::sync::mpsc::channel();
        let held = write_until_held(&store, &tell);
        // Everything from here on waits, in order, and nobody else is kept.
        let ticket = store
            .write_synced(Batch::new().put(PLAIN, (held + 1).to_be_bytes(), "y"))
            .expect("waits");
        store.write(Batch::new().put(SYNCED, "late", "x")).expect("waits");
        assert!(store.get(SYNCED, "kept").expect("reads go on").is_some());
        assert_eq!(store.get(SYNCED, "late").expect("reads go on"), None);
        assert_eq!(store.counts().held, 3);
        say(store.check_room().expect_err("full"));
        fs::remove_file(&filler).expect("removes");
        ticket.wait().expect("is written, without a restart");
        assert_eq!(told.recv(), Ok(held));
        store.write_and_sync(Batch::new().put(SYNCED, "last", "x")).expect("as ever");
        assert!(store.get(SYNCED, "late").expect("reads").is_some());
        store.check_room().expect("there is room again");
        let dir = store.dir().to_owned();
        drop(store);
        let store = Store::open(dir, &layout()).expect("opens again");
        let found: Vec<u64> =
            store.scan(PLAIN, []).map(|item| number_of(&item.expect("reads"))).collect();
        assert_eq!(found, (0..=held + 1).collect::<Vec<_>>(), "all, whole, in order");
        say("done");
    }

    #[test]
    #[ignore = "the other half of a_used_up_quota_is_waited_for_and_the_store_opened_anew"]
    fn outlives_a_used_up_quota() {
        let store = store().expect("opens");
        let filler = store.dir().with_file_name("filler");
        store.write_and_sync(Batch::new().put(SYNCED, "kept", "x")).expect("there is room");
        fill(&filler);
        let (tell, told) = std::sync::mpsc::channel();
        let tell_reopen = tell.clone();
        let held = (0_u64..)
            .find(|number| {
                let batch = Batch::new().put(PLAIN, number.to_be_bytes(), vec![7; 1 << 14]);
                let tell = tell.clone();
                let told = move |outcome| tell.send(outcome).expect("the test listens");
                store.write_or_hold(batch, told).expect("never fails") == Progress::Held
            })
            .expect("the quota is small");
        // Everything from here on waits, and nothing new may be promised.
        store
            .write_synced_then(Batch::new().put(SYNCED, "late", "x"), move |outcome| {
                tell_reopen.send(outcome).expect("the test listens");
            })
            .expect("waits");
        assert!(store.get(SYNCED, "kept").expect("reads go on").is_some());
        assert_eq!(store.counts().held, 2);
        say(store.check_room().expect_err("used up"));
        fs::remove_file(&filler).expect("removes");
        for _ in 0..2 {
            let outcome = told.recv().expect("is told");
            assert!(matches!(outcome, Err(WriteError::Refusing { .. })), "{outcome:?}");
        }
        say(store.failure().expect("must be opened anew"));
        let dir = store.dir().to_owned();
        drop(store);
        let store = Store::open(dir, &layout()).expect("opens again");
        let found: Vec<u64> =
            store.scan(PLAIN, []).map(|item| number_of(&item.expect("reads"))).collect();
        // The first that was held may be in the log after all, whole.
        assert!(found.len() as u64 == held || found.len() as u64 == held + 1, "{found:?}");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "no hole");
        assert!(store.get(SYNCED, "kept").expect("reads").is_some());
        store.write_and_sync(Batch::new().put(SYNCED, "last", "x")).expect("as ever");
        store.check_room().expect("there is room again");
        say("done");
    }

    #[test]
    #[ignore = "the first half of a_full_disk_and_kill_9_lose_nothing_and_leave_no_half"]
    fn waits_on_a_full_disk_until_killed() {
        let store = store().expect("opens");
        fill(&store.dir().with_file_name("filler"));
        let (tell, _told) = std::sync::mpsc::channel();
        say(write_until_held(&store, &tell));
        std::io::stdin().lines().next();
    }

    #[test]
    #[ignore = "the second half of a_full_disk_and_kill_9_lose_nothing_and_leave_no_half"]
    fn opens_on_a_full_disk() {
        // The file system is as full as the other left it, and the reserve is used up.
        say(store().expect_err("full"));
        let dir = PathBuf::from(std::env::var(DIRECTORY).expect("started by its parent"));
        fs::remove_file(dir.with_file_name("filler")).expect("removes");
        let store = store().expect("opens");
        let found: Vec<u64> = store
            .scan(PLAIN, [])
            .map(|item| {
                let item = item.expect("reads");
                assert_eq!(*item.1, [7; 1 << 14], "no half");
                number_of(&item)
            })
            .collect();
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "no hole");
        say(found.len());
    }

    #[test]
    #[ignore = "the other half of a_directory_that_vanishes_is_noticed"]
    fn loses_its_directory() {
        let store = store().expect("opens");
        store.write_and_sync(Batch::new().put(SYNCED, "kept", "x")).expect("there is a disk");
        say("open");
        std::io::stdin().lines().next();
        let error = (0..1000)
            .find_map(|_| {
                let written = store.write_and_sync(Batch::new().put(SYNCED, "late", "x"));
                // The directory is looked at now and then only.
                std::thread::sleep(std::time::Duration::from_millis(5));
                written.err()
            })
            .expect("is noticed");
        say(error);
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

/// Mounts the ext4 image beside `dir` on `dir`; the mount and its loop device go with the namespace.
fn ext4(dir: &Path) -> String {
    let image = dir.with_extension("image");
    if !image.exists() {
        fs::File::create(&image).expect("creates").set_len(64 << 20).expect("sparse");
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        assert!(made.expect("mkfs.ext4 is installed (e2fsprogs)").success());
    }
    format!("mount -o loop '{}' '{}'", image.display(), dir.display())
}

/// A directory to mount on, and the place of a store in it.
fn mountable() -> (TempDir, PathBuf, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let mounted = dir.path().join("disk");
    fs::create_dir(&mounted).expect("creates");
    let store = mounted.join("store");
    (dir, mounted, store)
}

#[test]
fn a_full_disk_is_waited_for() {
    let (_dir, mounted, store) = mountable();
    let mut other = Other::start("outlives_a_full_disk", &store, Some(&ext4(&mounted)));
    let low = other.next().expect("fills it");
    assert!(low.contains("are kept for what runs already: nothing new is taken"), "{low}");
    let full = other.next().expect("writes on");
    assert!(full.contains("is full (") && full.contains("no restart is needed"), "{full}");
    assert_eq!(other.next().as_deref(), Some("done"));
    assert!(other.child.wait().expect("ends").success());
}

/// RocksDB cannot go on by itself after a used-up quota. Nothing is lost, and what is written waits until it is worth
/// to open it anew.
#[test]
fn a_used_up_quota_is_waited_for_and_the_store_opened_anew() {
    let (_dir, mounted, store) = mountable();
    let image = mounted.with_extension("image");
    fs::File::create(&image).expect("creates").set_len(256 << 20).expect("sparse");
    let made = Command::new("mkfs.btrfs").args(["-q", "-f"]).arg(&image).output();
    assert!(made.expect("mkfs.btrfs is installed (btrfs-progs)").status.success());
    let (image, at) = (image.display(), mounted.display());
    let setup = format!(
        "mount -o loop '{image}' '{at}'; btrfs quota enable '{at}'; btrfs qgroup limit 48M '{at}'"
    );
    let mut other = Other::start("outlives_a_used_up_quota", &store, Some(&setup));
    let used = other.next().expect("fills it");
    assert!(used.contains("the quota of ") && used.contains("is used up: nothing new"), "{used}");
    let reopen = other.next().expect("waits");
    assert!(reopen.contains("was used up and has room again"), "{reopen}");
    assert_eq!(other.next().as_deref(), Some("done"));
    assert!(other.child.wait().expect("ends").success());
}

#[test]
fn a_full_disk_and_kill_9_lose_nothing_and_leave_no_half() {
    let (_dir, mounted, store) = mountable();
    let mount = ext4(&mounted);
    let mut other = Other::start("waits_on_a_full_disk_until_killed", &store, Some(&mount));
    let logged: usize = other.next().expect("fills it").parse().expect("a number");
    drop(other);
    let mut other = Other::start("opens_on_a_full_disk", &store, Some(&mount));
    let full = other.next().expect("tries");
    assert!(full.contains("no space left on the file system of store directory"), "{full}");
    let found: usize = other.next().expect("opens").parse().expect("a number");
    assert!(found >= logged, "{logged} were written, {found} are there");
}

#[test]
fn a_directory_that_vanishes_is_noticed() {
    let dir = TempDir::new().expect("a directory");
    let store = dir.path().join("store");
    let mut other = Other::start("loses_its_directory", &store, None);
    assert_eq!(other.next().as_deref(), Some("open"));
    fs::remove_dir_all(&store).expect("removes");
    drop(other.child.stdin.take());
    let text = other.next().expect("notices");
    assert!(text.contains("was removed, replaced or unmounted under this process"), "{text}");
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
