//! Signal dispositions.

use std::io;

/// The highest signal number of Linux on the supported machines.
const LAST_SIGNAL: libc::c_int = 64;

/// Gives every signal its default disposition: an ignored one would stay ignored through exec, and
/// Rust programs ignore SIGPIPE.
pub fn default_signals() {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: SIG_DFL runs no code of ours. Numbers that cannot be changed (KILL, STOP and two that
        // libc keeps) are refused, which is as well.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Ignores one signal, also in what this process executes.
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
