//! fork(2) into new namespaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::process::threads;

/// Which namespaces a child gets anew; the others it shares with its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    pub pid: bool,
    pub mount: bool,
    pub ipc: bool,
    pub uts: bool,
}

impl Namespaces {
    /// All four.
    pub const ALL: Namespaces = Namespaces { pid: true, mount: true, ipc: true, uts: true };

    fn flags(self) -> libc::c_int {
        let choices = [
            (self.pid, libc::CLONE_NEWPID),
            (self.mount, libc::CLONE_NEWNS),
            (self.ipc, libc::CLONE_NEWIPC),
            (self.uts, libc::CLONE_NEWUTS),
        ];
        choices.into_iter().filter(|(chosen, _)| *chosen).fold(0, |flags, (_, flag)| flags | flag)
    }
}

/// Which descriptors a child has.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    All,
    /// The standard streams and these. The others are closed before anything else happens: a child that is
    /// held up must not keep its parent's locks and sockets alive when the parent is gone.
    Only(&'a [BorrowedFd<'a>]),
}

impl Keep<'_> {
    /// The ranges of numbers to close, both ends included.
    fn closed(self) -> Vec<(libc::c_uint, libc::c_uint)> {
        let Keep::Only(kept) = self else { return Vec::new() };
        let numbers = kept.iter().filter_map(|fd| libc::c_uint::try_from(fd.as_raw_fd()).ok());
        let mut numbers: Vec<libc::c_uint> = (0..3).chain(numbers).collect();
        numbers.sort_unstable();
        let ends = numbers.iter().skip(1).map(|number| number.saturating_sub(1));
        let gaps = numbers.iter().map(|number| number + 1).zip(ends.chain([libc::c_uint::MAX]));
        gaps.filter(|(first, last)| first <= last).collect()
    }
}

/// Forks; `child` runs in the child, whose exit code is what it returns (255 where it panics).
///
/// The parent gets the child's pid, in its own pid namespace. The child has a copy of everything;
/// it joins cgroups by writing to `cgroup.procs`, which works on every hierarchy and kernel,
/// where CLONE_INTO_CGROUP needs v2 and fails with some kernels when the cgroup was killed before.
///
/// The child owns nothing but what it is to keep: `child` must not use other descriptors.
///
/// Fails when this process has more than one thread: the child of such a process may find locks
/// held for ever, the allocator's for one.
pub fn fork(
    namespaces: Namespaces,
    keep: Keep<'_>,
    child: impl FnOnce() -> i32,
) -> io::Result<i32> {
    let closed = keep.closed();
    let count = threads()?;
    if count != 1 {
        return Err(io::Error::other(format!("cannot fork a process that has {count} threads")));
    }
    let flags = libc::c_long::from(namespaces.flags() | libc::SIGCHLD);
    // JUSTIFICATION: libc's fork() cannot enter namespaces at birth, and unshare(CLONE_NEWPID) would
    // cost a second fork.
    // SAFETY: clone without CLONE_VM and without a stack is fork. There is one thread (checked), so
    // no lock is held by another, and all memory is as the child expects it. glibc's fork handlers
    // do not run: nothing here registers any.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            for (first, last) in closed {
                // SAFETY: takes numbers. What owns these descriptors is a copy in this process, which ends
                // without running its destructors; the originals are the parent's.
                unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            }
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(255);
            // SAFETY: ends the child without running what the parent registered for its own exit.
            unsafe { libc::_exit(code) }
        }
        pid => i32::try_from(pid).map_err(io::Error::other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threaded_process_is_refused() {
        // The test harness itself runs this on a second thread.
        let error = fork(Namespaces::default(), Keep::All, || 0).expect_err("must not fork");
        assert!(error.to_string().contains("threads"), "{error}");
    }

    #[test]
    fn what_is_not_kept_is_closed() {
        // SAFETY: the numbers are compared, never used.
        let fd = |number| unsafe { BorrowedFd::borrow_raw(number) };
        assert_eq!(Keep::All.closed(), []);
        assert_eq!(Keep::Only(&[]).closed(), [(3, libc::c_uint::MAX)]);
        let some = [fd(9), fd(4), fd(3), fd(2), fd(9)];
        assert_eq!(Keep::Only(&some).closed(), [(5, 8), (10, libc::c_uint::MAX)]);
    }
}
