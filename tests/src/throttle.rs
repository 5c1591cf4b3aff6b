//! A disk that is slow for some processes: the block layer's throttle, by a control group of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;

const UNIFIED: &str = "/sys/fs/cgroup";
const LEGACY: &str = "/sys/fs/cgroup/blkio";

/// How fast a disk is for the processes in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// One write in a second: a sync takes about one.
    Slow,
    /// One byte in a second: a sync takes an hour.
    Stuck,
    /// As fast as it is.
    Full,
}

/// A control group whose processes write slowly to one disk. Dropping it makes them fast and removes it, so drop it
/// before whoever waits for those processes.
#[derive(Debug)]
pub struct Throttle {
    group: PathBuf,
    /// `major:minor` of the disk.
    device: String,
    unified: bool,
}

impl Throttle {
    /// Puts the process `pid` into a group of its own, with `disk` as fast as it is. Its children that run stay where
    /// they are.
    ///
    /// # Errors
    /// There is no controller for block devices, neither the one of cgroup v1 nor that of v2.
    pub fn put(pid: i32, disk: &Disk) -> Result<Self> {
        let unified = Path::new(UNIFIED).join("cgroup.controllers").exists();
        let root = Path::new(if unified { UNIFIED } else { LEGACY });
        let control = if unified { "cgroup.procs" } else { "blkio.throttle.write_iops_device" };
        ensure!(
            root.join(control).exists(),
            "{} is not there: the test makes a disk slow by the controller for block devices; mount it",
            root.join(control).display()
        );
        if unified {
            fs::write(root.join("cgroup.subtree_control"), "+io")
                .context("cannot have the io controller of cgroup v2")?;
        }
        let group = root.join(format!("mezzo-e2e-slow-{pid}"));
        fs::create_dir(&group).with_context(|| format!("cannot make {}", group.display()))?;
        let facts = fs::metadata(disk.path()).context("cannot tell the disk's device");
        let device = facts.map(|facts| {
            let device = facts.dev();
            format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device))
        });
        let throttle = Self { group, device: device?, unified };
        throttle.write("cgroup.procs", &pid.to_string())?;
        Ok(throttle)
    }

    /// Makes the disk this fast from now on, also for what waits for it already.
    pub fn set(&self, speed: Speed) -> Result<()> {
        let device = &self.device;
        // Writes and bytes in a second; none is no limit.
        let (writes, bytes) = match speed {
            Speed::Slow => (Some(1), None),
            Speed::Stuck => (None, Some(1)),
            Speed::Full => (None, None),
        };
        let number = |limit: Option<u32>, none: &str| {
            limit.map_or_else(|| none.to_owned(), |limit| limit.to_string())
        };
        if self.unified {
            let (writes, bytes) = (number(writes, "max"), number(bytes, "max"));
            return self.write("io.max", &format!("{device} wiops={writes} wbps={bytes}"));
        }
        let (writes, bytes) = (number(writes, "0"), number(bytes, "0"));
        self.write("blkio.throttle.write_iops_device", &format!("{device} {writes}"))?;
        self.write("blkio.throttle.write_bps_device", &format!("{device} {bytes}"))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.group.join(file);
        fs::write(&path, text)
            .with_context(|| format!("cannot write '{text}' to {}", path.display()))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // What goes wrong here shows as a group that is left; there is nobody to tell.
        let _ = self.set(Speed::Full);
        let processes = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        let above = self.group.with_file_name("cgroup.procs");
        for pid in processes.lines() {
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.group);
    }
}
