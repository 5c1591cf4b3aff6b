//! A cgroup, a bpffs and tasks of a test's own, removed with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mezzo_agent_accounting::{
    Accounting, Devices, Grant, Object, Options, PortPolicy, PortRule, TaskId, Usage, mount_bpffs,
};
use nix::mount::{MntFlags, umount2};

/// The interpreter itself: what is on the path may be a script that finds it, and start processes of its own.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let mut ask = Command::new("python3");
        ask.args(["-c", "import sys; print(sys.executable)"]);
        succeeded(ask.output().expect("python3"))
    })
}

/// How much slower than others this machine is, by `MEZZO_TEST_TIME_SCALE`.
pub fn time_scale() -> u32 {
    let scale = std::env::var("MEZZO_TEST_TIME_SCALE").ok();
    scale.map_or(1, |scale| scale.parse().expect("MEZZO_TEST_TIME_SCALE is a number"))
}

/// Nothing here takes longer, however loaded the machine is.
fn patience() -> Duration {
    Duration::from_secs(60) * time_scale()
}

pub struct Rig {
    /// The agent's cgroup.
    pub root: PathBuf,
    pub directory: tempfile::TempDir,
}

impl Rig {
    pub fn new(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests load eBPF programs: run them as root"
        );
        let root = unified().join(format!("mezzo-kernel-{name}-{}", std::process::id()));
        fs::create_dir(&root).expect("a cgroup");
        let directory = tempfile::tempdir().expect("a directory");
        let rig = Rig { root, directory };
        mount_bpffs(&rig.bpffs()).expect("a bpffs");
        rig
    }

    pub fn bpffs(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    /// The committed object, or the one that `cargo xtask build-ebpf --check` has just built.
    pub fn options(&self) -> Options {
        let mut options = Options::new(&self.root, self.bpffs().join("mezzo/agent"));
        if let Some(path) = std::env::var_os("MEZZO_EBPF_OBJECT") {
            options.object = Object::new(fs::read(path).expect("the object"));
        }
        options
    }

    pub fn open(&self) -> Accounting {
        let accounting = Accounting::open(&self.options(), &[]).expect("opens");
        assert_eq!(accounting.state().complaints(), Vec::<String>::new());
        accounting
    }

    /// A task that is counted and not restrained.
    pub fn counted(&self, accounting: &Accounting, name: &str) -> Task {
        self.granted(accounting, name, &Grant::default())
    }

    pub fn granted(&self, accounting: &Accounting, name: &str, grant: &Grant) -> Task {
        let task = self.task(name);
        accounting.admit(task.id, grant).expect("admits");
        task
    }

    /// A task's cgroup; nobody knows of it yet.
    pub fn task(&self, name: &str) -> Task {
        let cgroup = self.root.join(name);
        fs::create_dir(&cgroup).expect("a cgroup");
        let id = TaskId::of(&cgroup).expect("an id");
        Task { cgroup, id }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        let begin = Instant::now();
        while remove(&self.root).is_err() && begin.elapsed() < patience() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = umount2(&self.bpffs(), MntFlags::MNT_DETACH);
    }
}

fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.path().is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Where the v2 tree is mounted.
fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let mut lines = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let path = lines.next().and_then(|line| line.split(' ').nth(4)).expect("a cgroup v2 tree");
    PathBuf::from(path)
}

pub struct Task {
    pub cgroup: PathBuf,
    pub id: TaskId,
}

impl Task {
    /// A command in the task's cgroup, or in a child of it such as `a/b`, which is made.
    pub fn command(&self, child: &str, command: &[&str]) -> Command {
        let cgroup = self.cgroup.join(child);
        fs::create_dir_all(&cgroup).expect("a child cgroup");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(cgroup)
            .args(command);
        shell
    }

    /// Runs a command to its end; what it wrote.
    pub fn run(&self, command: &[&str]) -> String {
        succeeded(self.command("", command).output().expect("runs"))
    }

    /// Runs a Python program to its end; what it wrote.
    pub fn python(&self, program: &str) -> String {
        self.run(&[python(), "-c", program])
    }

    /// Starts a Python program and waits for its first line.
    pub fn serve(&self, program: &str) -> Served {
        let mut child = self
            .command("", &[python(), "-uc", program])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        std::io::BufRead::read_line(&mut output, &mut first).expect("reads");
        assert!(!first.is_empty(), "the program ended at once");
        Served { child, first: first.trim().to_owned(), _output: output }
    }

    pub fn usage(&self, accounting: &Accounting) -> Usage {
        accounting.usage(self.id).expect("reads").expect("a task")
    }
}

/// A program that runs until it is dropped.
pub struct Served {
    pub child: Child,
    pub first: String,
    _output: std::io::BufReader<std::process::ChildStdout>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn succeeded(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Waits until something is so.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < patience(), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn ports(policy: PortPolicy, ephemeral: bool, ranges: &[(u16, u16)]) -> Grant {
    let ports = PortRule { policy, ephemeral, ranges: ranges.to_vec() };
    Grant { ports, devices: Devices::Unguarded }
}
