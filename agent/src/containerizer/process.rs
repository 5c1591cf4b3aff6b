//! The first process of a container, watched without its parent.

use std::fs::{self, File};
use std::future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use mezzo_agent_launcher::read_exit_file;
use mezzo_agent_sys::PidFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Ending;
use crate::cgroups::{ContainerCgroup, watch_descriptor};

/// What the kernel calls a container's first process.
const INIT_NAME: &str = "mezzo-init";

/// Names one process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) start_time_ticks: u64,
}

impl Process {
    /// `None` when it has ended, be it that nobody has reaped it yet.
    pub(super) fn open(self) -> io::Result<Option<PidFd>> {
        let Some(pidfd) = PidFd::open_started(self.pid, self.start_time_ticks)? else {
            return Ok(None);
        };
        Ok((!pidfd.wait(Some(Duration::ZERO))?).then_some(pidfd))
    }

    /// The first process of a container whose launcher died before it could say what became of the
    /// launch. `None`: there is none, and none will come, or it is not that far yet.
    pub(super) fn first_of(cgroup: &ContainerCgroup) -> Option<Self> {
        let pids = cgroup.pids().unwrap_or_default();
        let inits = pids.into_iter().filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim_end() == INIT_NAME
        });
        // A command may call itself what it likes, but it is younger.
        inits
            .filter_map(|pid| {
                let start_time_ticks = mezzo_agent_sys::start_time(pid).ok()?;
                Some(Process { pid, start_time_ticks })
            })
            .min_by_key(|process| (process.start_time_ticks, process.pid))
    }

    /// Sends a signal; the container's init passes it on to the command. Nothing happens when it is gone.
    pub(super) fn signal(self, signal: i32) -> io::Result<()> {
        let Some(pidfd) = self.open()? else { return Ok(()) };
        match pidfd.signal(signal) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => Err(e),
            _ => Ok(()),
        }
    }
}

/// A watch on a process that another parent reaps, or none at all.
#[derive(Debug)]
pub(super) struct ExitWatch(Option<AsyncFd<File>>);

impl ExitWatch {
    /// Never ends.
    pub(super) fn none() -> Self {
        ExitWatch(None)
    }

    /// `None` when the process is gone already.
    pub(super) fn on(process: Process) -> io::Result<Option<Self>> {
        let Some(pidfd) = process.open()? else { return Ok(None) };
        let watch = watch_descriptor(OwnedFd::from(pidfd), Interest::READABLE)?;
        Ok(Some(ExitWatch(Some(watch))))
    }

    /// Waits until the process has ended. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        match &self.0 {
            // Readable means ended, and stays so; an error of the runtime ends the watch likewise.
            Some(process) => drop(process.readable().await),
            None => future::pending().await,
        }
    }
}

/// What the container's init wrote down; [`Ending::Unknown`] if it did not get to it.
pub(super) fn recorded_ending(exit_file: &Path) -> Ending {
    match File::open(exit_file).and_then(|file| read_exit_file(&file)) {
        Ok(Some(status)) => Ending::Status(status),
        Ok(None) => Ending::Unknown,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %exit_file.display(), error = %e, "could not read an exit file");
            }
            Ending::Unknown
        }
    }
}

/// What the launcher saw: the command's own status, or how the init died that took the command with it.
pub(super) fn told_ending(status: i32, recorded: bool) -> Ending {
    let killed_by = status & 0x7f;
    if recorded || (killed_by != 0 && killed_by != 0x7f) {
        Ending::Status(status)
    } else {
        // The init ended by itself without a word about the command: not a status of the command's.
        Ending::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_as_the_launcher_tells_them() {
        assert_eq!(told_ending(0, true), Ending::Status(0));
        assert_eq!(told_ending(768, true), Ending::Status(768));
        assert_eq!(told_ending(9, false), Ending::Status(9));
        assert_eq!(told_ending(256, false), Ending::Unknown);
    }
}
