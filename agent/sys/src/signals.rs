//! Signal dispositions.

use std::io;

/// The highest signal number of Linux on the supported machines.
const LAST_SIGNAL: libc::c_int = 64;

/// The kernel's `struct sigaction`, at least as large as on any supported machine. All zeros mean the
/// default disposition, no flags and an empty mask.
const DEFAULT_ACTION: [u64; 8] = [0; 8];

/// Size of the kernel's signal set.
const SIGNAL_SET_SIZE: usize = 8;

/// Gives every signal its default disposition: an ignored one would stay ignored through exec, and
/// Rust programs ignore SIGPIPE.
pub fn default_signals() {
    for signal in 1..=LAST_SIGNAL {
        // JUSTIFICATION: libc refuses to touch the two signals that it uses itself, which a parent may
        // have left ignored all the same.
        // SAFETY: the default disposition runs no code of ours; the kernel reads the structure only.
        // KILL and STOP cannot be changed and are refused, which is as well.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT_ACTION.as_ptr(),
                std::ptr::null::<u64>(),
                SIGNAL_SET_SIZE,
            )
        };
    }
}

/// Ignores one signal, also in what this process executes.
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
