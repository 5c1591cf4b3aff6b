//! Where programs and maps are pinned.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{CAPACITY, is_bpffs, mount_bpffs};
use nix::fcntl::{Flock, FlockArg};

/// Settings of [`Accounts`](super::Accounts).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsOptions {
    /// Whether to count and guard by eBPF at all.
    pub enabled: bool,
    /// Where the bpffs is, or is to be mounted.
    pub bpffs: PathBuf,
    /// Keep run-queue delays as histograms too.
    pub delays: bool,
    /// Containers at a time; of no effect on maps that are taken over.
    pub capacity: u32,
}

impl Default for AccountsOptions {
    fn default() -> Self {
        AccountsOptions {
            enabled: true,
            bpffs: "/sys/fs/bpf".into(),
            delays: true,
            capacity: CAPACITY,
        }
    }
}

impl AccountsOptions {
    /// The directory of the agents' pins, which has one directory per agent.
    pub(super) fn agents(&self) -> PathBuf {
        self.bpffs.join("mezzo")
    }

    /// Pins of the agent with this cgroup root, which one agent at a time may use.
    pub(super) fn pins(&self, cgroups_root: &str) -> PathBuf {
        // No name in a bpffs may have a dot, nor a slash. What stands for them must not make two roots one.
        let name = cgroups_root.trim_matches('/').replace('_', "__").replace('.', "_d");
        self.agents().join(name.replace('/', "_s"))
    }
}

/// Mounts a bpffs on an empty directory if there is none. Two agents that do it at once would hide one another's pins: one of them waits.
pub(super) fn ensure_bpffs(bpffs: &Path) -> io::Result<()> {
    if is_bpffs(bpffs) {
        return Ok(());
    }
    std::fs::create_dir_all(bpffs)?;
    let directory = File::open(bpffs)?;
    let _turn = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| io::Error::from(errno))?;
    if is_bpffs(bpffs) {
        return Ok(());
    }
    if std::fs::read_dir(bpffs)?.next().is_some() {
        // What is in it would be hidden, from everybody.
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    mount_bpffs(bpffs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_over_what_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("file"), "").expect("writes");
        let refused = ensure_bpffs(directory.path()).expect_err("must not mount");
        assert_eq!(refused.kind(), io::ErrorKind::DirectoryNotEmpty);
        assert!(directory.path().join("file").exists());
    }

    #[test]
    fn each_root_has_pins_of_its_own() {
        let options = AccountsOptions::default();
        assert_eq!(options.pins("/mezzo/a.b_c/"), Path::new("/sys/fs/bpf/mezzo/mezzo_sa_db__c"));
    }
}
