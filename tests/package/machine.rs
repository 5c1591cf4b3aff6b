//! A machine inside this one, with systemd as its first process: see `machine.sh`.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs until it is dropped.
pub struct Machine {
    /// Its first process, as this machine numbers it.
    init: i32,
    outer: Child,
    errors: File,
    group: String,
    _directory: TempDir,
}

impl Machine {
    /// Booted: systemd has started what it is to start.
    pub fn boot() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a machine of its own takes namespaces and mounts: run as root"
        );
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let errors = tempfile::tempfile().context("cannot make a temporary file")?;
        let group = format!("mezzo-package-{}", std::process::id());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("package/machine.sh");
        let mut command = Command::new("sh");
        command.arg(script).arg(&group).arg(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
        let outer = command.spawn().context("cannot run machine.sh")?;
        let mut machine = Self { init: 0, outer, errors, group, _directory: directory };
        machine.init = machine.wait("systemd to be there", Self::find_init)?;
        machine.wait("systemd to have booted", |machine| {
            let output = machine.run(&["systemctl", "is-system-running"]).ok()?;
            matches!(text(&output.stdout).as_str(), "running" | "degraded").then_some(())
        })?;
        Ok(machine)
    }

    /// The child of `unshare`, once it has become systemd.
    fn find_init(&self) -> Option<i32> {
        let outer = self.outer.id();
        let children = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            (parent.trim().parse() == Ok(outer) && status.starts_with("Name:\tsystemd\n"))
                .then_some(pid)
        });
        children.into_iter().next()
    }

    /// Runs a command in the machine, to its end.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--target={}", self.init));
        enter.args(["--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--root", "--wd"]);
        enter.args(command).stdin(Stdio::null());
        enter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        enter.env("DEBIAN_FRONTEND", "noninteractive");
        enter.output().with_context(|| format!("cannot run {command:?} in the machine"))
    }

    /// As [`run`](Self::run), and it must succeed: what it wrote to its standard output.
    #[track_caller]
    pub fn succeed(&self, command: &[&str]) -> String {
        let output = self.run(command).expect("nsenter");
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() {
            let journal = self.run(&["journalctl", "--no-pager", "--lines=60"]).expect("nsenter");
            panic!(
                "{command:?}: {}\n{said}\n{complained}\n{}",
                output.status,
                text(&journal.stdout)
            );
        }
        said
    }

    /// Looks until `look` sees something.
    pub fn wait<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            if let Some(status) = self.outer.try_wait().context("cannot wait for the machine")? {
                let mut said = String::new();
                self.errors.rewind().context("cannot rewind")?;
                self.errors.read_to_string(&mut said).context("cannot read")?;
                bail!("the machine ended with {status}: {said}");
            }
            std::thread::sleep(LOOK);
        }
        let journal = match self.init {
            0 => String::new(),
            _ => text(&self.run(&["journalctl", "--no-pager", "--lines=60"])?.stdout),
        };
        bail!("waited {} s for {what}: {journal}", PATIENCE.as_secs())
    }

    /// Puts a file of this machine into that one.
    pub fn put(&self, source: &Path, place: &str) -> Result<()> {
        let target = PathBuf::from(format!("/proc/{}/root{place}", self.init));
        std::fs::copy(source, &target).with_context(|| format!("cannot copy {source:?}"))?;
        Ok(())
    }

    /// Writes a file in the machine.
    pub fn write(&self, place: &str, content: &str) -> Result<()> {
        let target = PathBuf::from(format!("/proc/{}/root{place}", self.init));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {parent:?}"))?;
        }
        std::fs::write(&target, content).with_context(|| format!("cannot write {place}"))
    }

    /// Reads a file in the machine.
    pub fn read(&self, place: &str) -> Result<Vec<u8>> {
        let path = format!("/proc/{}/root{place}", self.init);
        std::fs::read(path).with_context(|| format!("cannot read {place}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process goes with it, and with that one all the others.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let groups = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (mountpoint, kind) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| Path::new(mountpoint).join(&self.group))
        });
        let end = Instant::now() + PATIENCE;
        for group in groups {
            // Busy until the last process is gone.
            while group.is_dir() && !remove(&group) && Instant::now() < end {
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// Innermost first; whether it is gone.
fn remove(group: &Path) -> bool {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    std::fs::remove_dir(group).is_ok()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
