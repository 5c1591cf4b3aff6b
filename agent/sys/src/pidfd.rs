//! A process that cannot be mistaken for another.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::process::start_time;

/// A descriptor of a process, child or not. It becomes readable (poll, epoll) when the process ends.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has this pid now. `ESRCH`: none.
    pub fn open(pid: i32) -> io::Result<PidFd> {
        // SAFETY: takes numbers.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let number = RawFd::try_from(number).map_err(io::Error::other)?;
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: pidfd_open has just made this descriptor (close-on-exec), nobody else knows it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// The process that had this pid and start time; `None` if it is gone and the pid free or reused.
    /// A zombie still counts as there.
    pub fn open_started(pid: i32, start_time_ticks: u64) -> io::Result<Option<PidFd>> {
        let pidfd = match PidFd::open(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            other => other?,
        };
        // The descriptor pins the pid's owner; the time read afterwards is the owner's, or of a
        // successor whose time differs.
        match start_time(pid) {
            Ok(ticks) if ticks == start_time_ticks => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal; `ESRCH` when the process has ended and been reaped.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: takes numbers; no siginfo is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until the process has ended, at most `timeout` (`None`: for ever); whether it has.
    pub fn wait(&self, timeout: Option<std::time::Duration>) -> io::Result<bool> {
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        loop {
            let remaining = match deadline {
                None => PollTimeout::NONE,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(std::time::Instant::now());
                    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
                }
            };
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], remaining) {
                Ok(0) if deadline.is_some_and(|d| d > std::time::Instant::now()) => {}
                Ok(ready) => return Ok(ready > 0),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_is_watched_and_signalled_and_not_confused() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let ticks = start_time(pid).expect("start time");
        let pidfd = PidFd::open_started(pid, ticks).expect("open").expect("it runs");
        assert!(PidFd::open_started(pid, ticks + 1).expect("open").is_none());
        assert!(!pidfd.wait(Some(Duration::ZERO)).expect("poll"));
        pidfd.signal(libc::SIGKILL).expect("signal");
        assert!(pidfd.wait(None).expect("poll"));
        child.wait().expect("reap");
        assert!(PidFd::open_started(pid, ticks).expect("open").is_none());
        let error = pidfd.signal(libc::SIGKILL).expect_err("gone");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
