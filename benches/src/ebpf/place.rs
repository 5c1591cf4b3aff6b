//! A cgroup and a bpffs of the bench's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mezzo_agent_accounting::{TaskId, mount_bpffs};
use nix::mount::{MntFlags, umount2};

pub struct Place {
    /// The agent's cgroup.
    pub root: PathBuf,
    /// The one task's.
    pub task: PathBuf,
    directory: tempfile::TempDir,
}

impl Place {
    /// # Errors
    /// When there is no v2 tree, or this is not root.
    pub fn make() -> Result<Place> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mounts")?;
        let tree = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let tree = tree.and_then(|line| line.split(' ').nth(4)).context("no cgroup v2 tree")?;
        let root = Path::new(tree).join(format!("mezzo-bench-ebpf-{}", std::process::id()));
        let task = root.join("task");
        fs::create_dir_all(&task).with_context(|| format!("cannot make {task:?}"))?;
        let place = Place { root, task, directory: tempfile::tempdir().context("no directory")? };
        mount_bpffs(place.directory.path()).context("cannot mount a bpffs")?;
        Ok(place)
    }

    pub fn pins(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// The pinned maps and links.
    pub fn layout(&self) -> Result<PathBuf> {
        let mut entries = fs::read_dir(self.pins()).context("nothing is pinned")?;
        Ok(entries.next().context("nothing is pinned")??.path())
    }

    pub fn id(&self) -> Result<TaskId> {
        TaskId::of(&self.task).context("the task's cgroup is gone")
    }

    /// Cgroups of so many tasks.
    pub fn crowd(&self, count: usize) -> Result<Vec<PathBuf>> {
        let make = |number| {
            let path = self.root.join(format!("crowd{number}"));
            fs::create_dir(&path).with_context(|| format!("cannot make {path:?}"))?;
            Ok(path)
        };
        (0..count).map(make).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(&self.root);
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}
