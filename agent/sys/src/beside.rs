//! A process in the namespaces of another.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::process::threads;

/// All namespaces of a container. Those that it shares with us are entered like the others: nothing changes by that.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Takes this process into the namespaces of the process open at `pidfd`, and makes a sibling there, in which `child`
/// runs; its exit code is what that returns. Meant for a forked child, which is to end after that: its pid namespace is
/// still the old one, and its working directory is the root of the new mount namespace.
///
/// The new process is a child of our parent, in whose pid namespace the pid is given.
pub fn fork_beside(pidfd: BorrowedFd<'_>, child: impl FnOnce() -> i32) -> io::Result<i32> {
    // Before /proc may be another one.
    let count = threads()?;
    if count != 1 {
        return Err(io::Error::other(format!("cannot fork a process that has {count} threads")));
    }
    // SAFETY: takes numbers. This process has one thread (checked), as mount namespaces demand.
    if unsafe { libc::setns(pidfd.as_raw_fd(), NAMESPACES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: as in `fork`: without CLONE_VM and without a stack, clone is fork, and there is one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(255);
            // SAFETY: ends the child without running what the parent registered for its own exit.
            unsafe { libc::_exit(code) }
        }
        pid => i32::try_from(pid).map_err(io::Error::other),
    }
}
