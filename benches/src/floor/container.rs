//! The hand-written container: the system calls that isolation takes, in a row, and nothing else.
//!
//! Control groups with limits in each hierarchy, pid, mount, uts, ipc and cgroup namespaces, a root
//! of its own, `/proc`, exec, wait, and the removal of the groups. No sandbox, no records, nobody
//! to tell: what it takes is the kernel's.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mezzo_agent_sys::{Keep, Namespaces, fork};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, execve, pipe2, pivot_root, read, sethostname, write};
use tempfile::TempDir;

use super::{PROGRAM, Round};

const MOUNT_POINT: &str = "/sys/fs/cgroup";
/// Hierarchies of a v1 or hybrid machine.
const HIERARCHIES: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", "unified"];
/// Limits, written where the file exists: v1's and v2's names.
const LIMITS: [(&str, &str); 5] = [
    ("memory.limit_in_bytes", "67108864"),
    ("memory.max", "67108864"),
    ("cpu.shares", "512"),
    ("cpu.weight", "50"),
    ("pids.max", "64"),
];

pub(super) struct Floor {
    /// Where the root of the container is put together.
    root: TempDir,
    /// One per hierarchy, below its mount point.
    parents: Vec<PathBuf>,
    count: u64,
}

impl Floor {
    pub(super) fn new() -> Result<Floor> {
        let root = tempfile::Builder::new().prefix("mezzo-floor-").tempdir();
        let base = Path::new(MOUNT_POINT);
        let mut parents: Vec<PathBuf> = if base.join("cgroup.controllers").exists() {
            vec![base.to_owned()]
        } else {
            HIERARCHIES.map(|name| base.join(name)).into_iter().filter(|dir| dir.is_dir()).collect()
        };
        ensure!(!parents.is_empty(), "there are no control groups in {MOUNT_POINT}");
        for parent in &mut parents {
            parent.push(format!("mezzo-floor-{}", std::process::id()));
            fs::create_dir(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
            // On v2 the children have the controllers that this file says; v1 has no such file.
            let control = parent.join("cgroup.subtree_control");
            let _ = fs::write(control, "+cpu +memory +pids");
        }
        Ok(Floor { root: root.context("cannot make a directory")?, parents, count: 0 })
    }

    pub(super) fn round(&mut self) -> Result<Round> {
        self.count += 1;
        let name = self.count.to_string();
        let groups = Vec::from_iter(self.parents.iter().map(|parent| parent.join(&name)));
        let (go, gate) = pipe()?;
        let (say, said) = pipe()?;

        let begin = Instant::now();
        for group in &groups {
            fs::create_dir(group).with_context(|| format!("cannot make {}", group.display()))?;
        }
        for (file, value) in LIMITS {
            for group in &groups {
                // Only one hierarchy has the file.
                let _ = write_existing(&group.join(file), value);
            }
        }
        let root = self.root.path();
        let child = || match contain(root, &gate) {
            Ok(never) => match never {},
            Err(step) => {
                let _ = write(&say, step.as_bytes());
                1
            }
        };
        let pid = fork(Namespaces::ALL, Keep::All, child).context("cannot fork")?;
        for group in &groups {
            write_existing(&group.join("cgroup.procs"), &pid.to_string())
                .with_context(|| format!("cannot enter {}", group.display()))?;
        }
        write(&go, b"x").context("cannot open the gate")?;
        drop(say);
        // Its copy of the writing end is closed by the exec, or by its end after a word.
        let mut word = String::new();
        fs::File::from(said).read_to_string(&mut word).context("cannot listen")?;
        let exec = begin.elapsed();
        let status = waitpid(Pid::from_raw(pid), None).context("cannot wait")?;
        for group in &groups {
            fs::remove_dir(group).with_context(|| format!("cannot remove {}", group.display()))?;
        }
        let life = begin.elapsed();
        match status {
            WaitStatus::Exited(_, 0) => Ok(Round { exec, life }),
            status => bail!("the hand-written container failed: {word} ({status:?})"),
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for parent in &self.parents {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// In the child: everything between fork and exec. The error is the step that failed.
fn contain(root: &Path, gate: &OwnedFd) -> Result<std::convert::Infallible, String> {
    let at = |step: &'static str| move |errno: nix::Error| format!("{step}: {errno}");
    let none = None::<&str>;
    read(gate.as_fd(), &mut [0]).map_err(at("wait"))?;
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(at("cgroup namespace"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(at("private mounts"))?;
    mount(Some("/"), root, none, MsFlags::MS_BIND, none).map_err(at("bind"))?;
    chdir(root).map_err(at("chdir"))?;
    pivot_root(".", ".").map_err(at("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at("umount"))?;
    chdir("/").map_err(at("chdir"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(at("proc"))?;
    sethostname("floor").map_err(at("hostname"))?;
    let program = std::ffi::CString::new(PROGRAM).map_err(|error| error.to_string())?;
    execve(&program, &[&program], &[] as &[&std::ffi::CStr]).map_err(at("exec"))
}

/// Writing end, reading end.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    Ok((writer, reader))
}

fn write_existing(file: &Path, value: &str) -> std::io::Result<()> {
    std::io::Write::write_all(&mut fs::File::options().write(true).open(file)?, value.as_bytes())
}
