//! What the host must offer: a v2 tree, a bpffs, capabilities.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs, statfs};

use crate::error::OpenError;

/// Names a task to the kernel: the id of its cgroup in the v2 tree. Never given twice while the machine is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

impl TaskId {
    /// Of the cgroup's directory in the v2 tree, directly under the agent's.
    ///
    /// # Errors
    /// When the directory is not there.
    pub fn of(directory: &Path) -> std::io::Result<Self> {
        // kernfs gives a directory the id of its node as inode number.
        Ok(TaskId(fs::metadata(directory)?.ino()))
    }
}

/// The agent's cgroup.
#[derive(Debug)]
pub struct Root {
    pub directory: File,
    pub id: u64,
    /// Depth of its children in the v2 tree; the tree's own root has depth 0.
    pub level: u32,
}

impl Root {
    /// Looks at a directory of the v2 tree.
    ///
    /// # Errors
    /// When it is not in a v2 tree, or its depth cannot be told.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Root { path: path.to_owned(), source };
        let path = path.canonicalize().map_err(failed)?;
        let directory = File::open(&path).map_err(failed)?;
        let system = fstatfs(directory.as_fd()).map_err(|errno| failed(errno.into()))?;
        if system.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(OpenError::NotUnified { path });
        }
        let data = directory.metadata().map_err(failed)?;
        let mut level = 1;
        let mut top = path.as_path();
        while let Some(parent) = top.parent()
            && fs::metadata(parent).map_err(failed)?.dev() == data.dev()
        {
            top = parent;
            level += 1;
        }
        // Every cgroup but the tree's own root has this file.
        if top.join("cgroup.type").exists() {
            return Err(OpenError::PartOfTree { mount: top.to_owned() });
        }
        if level == 1 {
            return Err(OpenError::WholeTree { path });
        }
        Ok(Root { directory, id: data.ino(), level })
    }
}

/// Mounts a bpffs; makes the directory if it is not there.
///
/// # Errors
/// When the kernel refuses either.
pub fn mount_bpffs(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), directory, Some("bpf"), flags, Some("mode=0700"))?;
    Ok(())
}

/// Whether directories made at `path`, which need not be there yet, are in a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    let existing: Option<PathBuf> =
        path.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_owned);
    let system = existing.and_then(|existing| statfs(&existing).ok());
    system.is_some_and(|system| system.filesystem_type() == BPF_FS_MAGIC)
}

/// Name and number of each capability that loading needs.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
/// Before Linux 5.8, and still, it stands for the latter two.
const SYS_ADMIN: u32 = 21;

/// Names of the needed capabilities that this thread lacks.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn missing_capabilities() -> std::io::Result<Vec<&'static str>> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    Ok(missing_in(&status))
}

fn missing_in(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    let has = |number: u32| effective >> number & 1 == 1;
    let lacks = |(_, number): &&(&str, u32)| !has(*number) && (*number == 12 || !has(SYS_ADMIN));
    NEEDED.iter().filter(lacks).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::missing_in;

    #[test]
    fn what_is_missing_is_named() {
        assert!(missing_in("CapEff:\t000001ffffffffff\n").is_empty());
        assert!(missing_in("CapEff:\t000000c000001000\n").is_empty());
        // SYS_ADMIN and NET_ADMIN.
        assert!(missing_in("CapEff:\t0000000000201000\n").is_empty());
        assert_eq!(missing_in("CapEff:\t0000004000001000\n"), ["CAP_BPF"]);
        assert_eq!(missing_in("CapEff:\t0000000000000000\n").len(), 3);
    }
}
