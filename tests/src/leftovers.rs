//! What a cluster leaves on the machine while it runs: processes, control groups and pinned eBPF programs. All are
//! found by names that only this cluster has, so that nothing else is ever touched.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mezzo_agent_sys::BpfMap;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::patience;

const LOOK: Duration = Duration::from_millis(10);
const PATIENCE_S: u64 = 20;

/// The marks of one cluster: its directory in command lines, its root among control groups.
#[derive(Debug, Clone)]
pub(crate) struct Leftovers {
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: String,
}

impl Leftovers {
    /// Processes that carry a mark, tasks and launcher among them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let directory = self.directory.as_os_str().as_encoded_bytes();
        let ours = |pid: &i32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            groups.split(['/', '\n']).any(|part| part == self.cgroup)
                || command.windows(directory.len()).any(|window| window == directory)
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != own).filter(ours).collect()
    }

    /// The cluster's root in every hierarchy that has it.
    pub(crate) fn roots(&self) -> Vec<PathBuf> {
        let base = Path::new("/sys/fs/cgroup");
        let below = std::fs::read_dir(base).into_iter().flatten().flatten();
        let hierarchies = below.map(|entry| entry.path()).chain([base.to_owned()]);
        let groups = hierarchies.map(|hierarchy| hierarchy.join(&self.cgroup));
        groups.filter(|group| group.is_dir()).collect()
    }

    /// Groups of containers: what is below the roots, but for the launcher's own.
    pub(crate) fn containers(&self) -> Vec<PathBuf> {
        let below = |root: PathBuf| std::fs::read_dir(root).into_iter().flatten().flatten();
        self.roots()
            .into_iter()
            .flat_map(below)
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && !path.ends_with("launcher"))
            .collect()
    }

    /// Ends and removes everything that carries a mark.
    pub(crate) fn remove(&self) {
        let end = Instant::now() + patience(PATIENCE_S);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > end {
                break;
            }
            for pid in left {
                // It may have ended since.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
        for root in self.roots() {
            remove_group(&root);
        }
        remove_pins(&self.pins());
    }

    /// Entries in the agent's map of counters.
    pub(crate) fn accounted(&self) -> usize {
        let layouts = std::fs::read_dir(self.pins()).into_iter().flatten().flatten();
        let count = |layout: std::fs::DirEntry| {
            let mut entries = 0;
            let map = BpfMap::open(&layout.path().join("COUNTERS")).ok()?;
            map.for_each(|_, _| entries += 1).ok()?;
            Some(entries)
        };
        layouts.filter_map(count).sum()
    }

    /// Where its agent's eBPF programs and maps are pinned.
    pub(crate) fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/mezzo").join(self.cgroup.replace('_', "__").replace('.', "_d"))
    }
}

/// One directory per layout, with files only. Without its pin a program is detached.
fn remove_pins(pins: &Path) {
    let list = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
    for layout in list(pins) {
        for pin in list(&layout.path()) {
            let _ = std::fs::remove_file(pin.path());
        }
        let _ = std::fs::remove_dir(layout.path());
    }
    let _ = std::fs::remove_dir(pins);
}

/// Innermost first. A group whose last process was just killed is busy for a moment.
fn remove_group(group: &Path) {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_group(&entry.path());
    }
    let end = Instant::now() + Duration::from_secs(2);
    while std::fs::remove_dir(group).is_err() && group.is_dir() && Instant::now() < end {
        std::thread::sleep(LOOK);
    }
}
