//! Descriptors that the program before the exec left open for this one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first number that is not a standard stream.
const FIRST: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes every descriptor beside the standard streams that came through exec, by number, and marks each
/// as close-on-exec. Once per process: a second call is refused.
///
/// Whatever this process has opened by itself before is told apart by its close-on-exec flag, which
/// Rust's library and this project's own calls always set.
pub fn inherited_descriptors() -> io::Result<BTreeMap<RawFd, OwnedFd>> {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(io::Error::other("the inherited descriptors have been taken already"));
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        // SAFETY: reads a flag of a number.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if number < FIRST || flags == -1 || flags & libc::FD_CLOEXEC != 0 {
            continue;
        }
        // SAFETY: it was open before this program began, so nothing in it owns it; and it is taken
        // once only, see above.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        // SAFETY: changes a flag of a descriptor that is ours.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            return Err(io::Error::last_os_error());
        }
        found.insert(number, descriptor);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_what_survives_exec_is_taken_and_only_once() {
        let own = File::open("/dev/null").expect("file");
        // Nobody owns this one, as after an exec.
        // SAFETY: makes a new descriptor.
        let left = unsafe { libc::dup(own.as_raw_fd()) };
        assert!(left >= FIRST);
        let taken = inherited_descriptors().expect("take");
        assert!(taken.contains_key(&left));
        assert!(!taken.contains_key(&own.as_raw_fd()), "it is owned here");
        // SAFETY: reads a flag.
        let flags = unsafe { libc::fcntl(left, libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
        inherited_descriptors().expect_err("once only");
    }
}
