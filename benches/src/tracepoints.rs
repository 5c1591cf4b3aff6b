//! Counting system calls of chosen processes with the kernel's tracepoints.
//!
//! Each counter is a tracing instance of its own, in a tracefs that is mounted for it and unmounted
//! after: other users of tracing notice nothing. Nothing is read of what is recorded; the ring
//! buffer's own statistics say how many events there were, overwritten ones included.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::counters;

/// Calls that make a process wait for the disk. The store uses the second.
pub const SYNCS: &[&str] = &[
    "syscalls/sys_enter_fsync",
    "syscalls/sys_enter_fdatasync",
    "syscalls/sys_enter_sync_file_range",
    "syscalls/sys_enter_sync",
    "syscalls/sys_enter_syncfs",
    "syscalls/sys_enter_msync",
];

/// Every system call.
pub const CALLS: &[&str] = &["raw_syscalls/sys_enter"];

/// A tracefs of our own.
pub struct Tracefs {
    directory: TempDir,
}

impl Tracefs {
    /// # Errors
    /// When tracefs cannot be mounted: it takes root and a kernel with tracepoints.
    pub fn mount() -> Result<Tracefs> {
        let directory = tempfile::Builder::new().prefix("mezzo-tracefs-").tempdir();
        let directory = directory.context("cannot make a directory for tracefs")?;
        let none = None::<&str>;
        mount(Some("tracefs"), directory.path(), Some("tracefs"), MsFlags::empty(), none)
            .context("cannot mount tracefs")?;
        Ok(Tracefs { directory })
    }

    /// Counts `events` of the processes, their threads and, with `children`, whatever they start from
    /// now on.
    ///
    /// # Errors
    /// When the kernel does not have these tracepoints.
    pub fn count(&self, events: &[&str], pids: &[i32], children: bool) -> Result<Counter<'_>> {
        let name = format!("mezzo-bench-{}-{}", std::process::id(), events.len() + pids.len());
        let instances = self.directory.path().join("instances");
        let free = (0..).map(|number| instances.join(format!("{name}-{number}")));
        let instance = free.into_iter().find(|path| !path.exists()).unwrap_or_default();
        fs::create_dir(&instance).context("cannot make a tracing instance")?;
        let counter = Counter { instance, _tracefs: self };
        if children {
            write(&counter.instance.join("options/event-fork"), "1")?;
        }
        let mut threads = Vec::new();
        for pid in pids {
            threads.extend(counters::threads(*pid)?.iter().map(i32::to_string));
        }
        write(&counter.instance.join("set_event_pid"), &threads.join(" "))?;
        for event in events {
            let enable = counter.instance.join("events").join(event).join("enable");
            write(&enable, "1").with_context(|| format!("cannot count {event}"))?;
        }
        Ok(counter)
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}

/// Counts until it is dropped.
pub struct Counter<'a> {
    instance: PathBuf,
    _tracefs: &'a Tracefs,
}

impl Counter<'_> {
    /// Events so far.
    ///
    /// # Errors
    /// When the kernel's statistics cannot be read.
    pub fn events(&self) -> Result<u64> {
        let directory = self.instance.join("per_cpu");
        let processors = fs::read_dir(&directory).context("cannot list processors")?.flatten();
        let mut sum = 0;
        for processor in processors {
            let text = fs::read_to_string(processor.path().join("stats"));
            sum += recorded(&text.context("cannot read statistics")?);
        }
        Ok(sum)
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        let _ = write(&self.instance.join("events/enable"), "0");
        let _ = fs::remove_dir(&self.instance);
    }
}

/// What a processor's ring buffer took, whether it still has it or not.
fn recorded(statistics: &str) -> u64 {
    let lines = statistics.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(name, _)| ["entries", "overrun", "dropped events", "read events"].contains(name))
        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
        .sum()
}

fn write(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_was_overwritten_counts() {
        let text = "entries: 5\noverrun: 20\ncommit overrun: 0\nbytes: 260\ndropped events: 0\n\
                    read events: 300\n";
        assert_eq!(recorded(text), 325);
    }

    #[test]
    fn syncs_of_this_process_are_counted() {
        let own = i32::try_from(std::process::id()).expect("pid");
        let tracefs = Tracefs::mount().expect("tracefs: run as root");
        let counter = tracefs.count(SYNCS, &[own], false).expect("a counter");
        let file = tempfile::NamedTempFile::new().expect("a file");
        for _ in 0..3 {
            File::open(file.path()).expect("open").sync_data().expect("sync");
        }
        assert_eq!(counter.events().expect("events"), 3);
    }
}
