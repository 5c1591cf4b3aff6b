//! Facts about processes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Threads of this process.
pub fn threads() -> io::Result<u64> {
    // The directory's link count is two and one per thread: one call, no listing.
    Ok(fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// When a process started: clock ticks after boot, field 22 of `/proc/<pid>/stat`. With the boot id
/// and the pid it names the process for ever. `NotFound`: there is none.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let text = match fs::read(format!("/proc/{pid}/stat")) {
        // What a process that ends between open and read gives.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            return Err(io::ErrorKind::NotFound.into());
        }
        other => other?,
    };
    parse_start_time(&text).ok_or_else(|| {
        let text = String::from_utf8_lossy(&text).into_owned();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no start time in /proc/{pid}/stat: {text:?}"),
        )
    })
}

/// The second field is the program's name in parentheses, which may itself hold any byte.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// The kernel's random id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Takes one ended child, if any: its pid and the raw status of wait(2).
pub fn reap() -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return Ok(None),
            pid if pid > 0 => return Ok(Some((pid, status))),
            _ => {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::ECHILD) => return Ok(None),
                    _ => return Err(error),
                }
            }
        }
    }
}

/// Ends this process at once with `code`: no exit handlers, no destructors of statics.
///
/// For a process whose other threads may still be inside a C++ library: the handlers would take the
/// library's statics from under them. What was written to files is written; nothing else is flushed.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: `_exit` takes no pointers, does not return, and runs no code of this process.
    unsafe { libc::_exit(i32::from(code)) }
}

/// `CLOCK_MONOTONIC`, the clock of eBPF's `bpf_ktime_get_ns`.
pub fn monotonic() -> std::time::Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for the call, which every kernel knows for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    std::time::Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_survives_odd_names() {
        let mut stat = b"42 (a) b (c) ) S".to_vec();
        for field in 4..=30 {
            stat.extend(format!(" {field}").bytes());
        }
        assert_eq!(parse_start_time(&stat), Some(22));
        assert_eq!(parse_start_time(b"42 (a) S 1 2"), None);
        assert_eq!(parse_start_time(b""), None);
    }

    #[test]
    fn own_facts() {
        assert!(threads().expect("threads") >= 2, "the harness runs tests on a second thread");
        let pid = i32::try_from(std::process::id()).expect("pid");
        assert!(start_time(pid).expect("start time") > 0);
        let gone = start_time(i32::MAX).expect_err("no such process");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(boot_id().expect("boot id").len(), 36);
    }
}
