//! exec of an open file, with descriptors laid out.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{AtFlags, FcntlArg, fcntl};
use nix::unistd::execveat;

/// Replaces this process by the program open at `program`.
///
/// Descriptor `n` of the new program is `descriptors[n]`; it has no others. When a step fails, `failed`
/// is called with `report` (still open, whatever its number) and the error, and the process exits
/// with code 255. Meant for a forked child: descriptors of this process are overwritten on the way.
pub fn execute(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
    descriptors: &[BorrowedFd<'_>],
    report: BorrowedFd<'_>,
    failed: impl FnOnce(BorrowedFd<'_>, io::Error),
) -> ! {
    let first_free = RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
    let mut report_at = None;
    let error = (|| {
        // Nothing that is still needed may lie where something else goes.
        let report = above(report, first_free)?;
        let program = above(program, first_free)?;
        report_at = Some(report);
        let sources = descriptors
            .iter()
            .map(|descriptor| above(*descriptor, first_free))
            .collect::<io::Result<Vec<_>>>()?;
        for (number, source) in (0..first_free).zip(&sources) {
            place(source.as_fd(), number)?;
        }
        close_on_exec_from(first_free)?;
        let flags = AtFlags::AT_EMPTY_PATH;
        match execveat(program.as_fd(), c"", arguments, environment, flags) {
            Ok(never) => match never {},
            Err(errno) => Err::<std::convert::Infallible, _>(io::Error::from(errno)),
        }
    })();
    let Err(error) = error;
    failed(report_at.as_ref().map_or(report, |copy| copy.as_fd()), error);
    // SAFETY: ends the process; it is a fork whose parent does the tidying up.
    unsafe { libc::_exit(255) }
}

/// A close-on-exec copy numbered `lowest` or higher.
fn above(descriptor: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: fcntl has just made this descriptor, nobody else knows it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

/// Makes `number` a copy of `source` that survives exec.
fn place(source: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: what `number` was before is lost. The process never returns to code that owns
    // it: `execute` diverges, and it uses copies with higher numbers only.
    match unsafe { libc::dup2(source.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Marks every descriptor from `first` on to be closed by exec: nothing is closed under an owner.
fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers, and changes flags only.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
