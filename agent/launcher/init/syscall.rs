//! The system calls, by hand: there is no libc in this process.

use core::ffi::CStr;
use core::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod machine;

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod machine;

use machine::{call, number};

const EINTR: isize = -4;
const F_SETFD: usize = 2;
const FD_CLOEXEC: usize = 1;
const PR_SET_NAME: usize = 15;
const PR_SET_CHILD_SUBREAPER: usize = 36;
const SIG_SETMASK: usize = 2;
const SIGCHLD: usize = 17;
const WNOHANG: usize = 1;
/// Also children that were made with another signal than SIGCHLD.
const WALL: usize = 0x4000_0000;
const AT_FDCWD: isize = -100;
const O_CLOEXEC: usize = 0x8_0000;
const POLLIN: i16 = 1;
const CLONE_VM: usize = 0x100;
const CLONE_VFORK: usize = 0x4000;
/// The kernel's signal set: 64 bits.
const SIGNAL_SET_SIZE: usize = 8;

pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { call(number::EXIT_GROUP, [code as usize, 0, 0, 0]) };
    }
}

pub fn own_pid() -> i32 {
    // SAFETY: no arguments, no effect.
    (unsafe { call(number::GETPID, [0; 4]) }) as i32
}

pub fn close(fd: i32) {
    // SAFETY: descriptors are plain numbers here, nothing owns them.
    unsafe { call(number::CLOSE, [fd as usize, 0, 0, 0]) };
}

pub fn set_close_on_exec(fd: i32) {
    // SAFETY: takes numbers.
    unsafe { call(number::FCNTL, [fd as usize, F_SETFD, FD_CLOEXEC, 0]) };
}

/// Writes once; a reader that has gone is not this process' concern (SIGPIPE is blocked, and stays until
/// it is taken back).
pub fn write(fd: i32, bytes: &[u8]) {
    loop {
        // SAFETY: the kernel reads `bytes`.
        let done =
            unsafe { call(number::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0]) };
        if done != EINTR {
            return;
        }
    }
}

/// Writes `bytes` at offset 0, whatever the offset of the descriptor.
pub fn write_at_start(fd: i32, bytes: &[u8]) {
    loop {
        // SAFETY: the kernel reads `bytes`.
        let done = unsafe {
            call(number::PWRITE64, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0])
        };
        if done != EINTR {
            return;
        }
    }
}

pub fn change_directory(path: &CStr) {
    // SAFETY: the kernel reads a C string.
    unsafe { call(number::CHDIR, [path.as_ptr() as usize, 0, 0, 0]) };
}

pub fn set_name(name: &CStr) {
    // SAFETY: the kernel reads a C string.
    unsafe { call(number::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0]) };
}

pub fn become_subreaper() {
    // SAFETY: takes numbers.
    unsafe { call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0]) };
}

pub fn new_session() {
    // SAFETY: takes nothing.
    unsafe { call(number::SETSID, [0; 4]) };
}

pub fn block_all_signals() {
    set_mask(u64::MAX);
}

pub fn unblock_all_signals() {
    set_mask(0);
}

fn set_mask(mask: u64) {
    let mask = &raw const mask;
    // SAFETY: the kernel reads eight bytes.
    unsafe { call(number::RT_SIGPROCMASK, [SIG_SETMASK, mask as usize, 0, SIGNAL_SET_SIZE]) };
}

/// Waits for the next signal, whichever. Not positive: interrupted, ask again.
pub fn next_signal() -> i32 {
    let all = u64::MAX;
    let all = &raw const all;
    // SAFETY: the kernel reads eight bytes; details and time-out are not asked for.
    (unsafe { call(number::RT_SIGTIMEDWAIT, [all as usize, 0, 0, SIGNAL_SET_SIZE]) }) as i32
}

/// Takes a signal that has come, whichever. Not positive: there is none.
pub fn pending_signal() -> i32 {
    let all = u64::MAX;
    let all = &raw const all;
    let now = [0u64; 2];
    let now = &raw const now;
    // SAFETY: the kernel reads eight bytes of the set and sixteen of the time-out, which is zero; details
    // are not asked for.
    let signal =
        unsafe { call(number::RT_SIGTIMEDWAIT, [all as usize, 0, now as usize, SIGNAL_SET_SIZE]) };
    signal as i32
}

/// A descriptor that is readable while any signal waits. Negative: an errno.
pub fn signal_descriptor() -> i32 {
    let all = u64::MAX;
    let all = &raw const all;
    let none = -1isize as usize;
    // SAFETY: the kernel reads eight bytes. The flag of close-on-exec is that of open(2).
    let fd = unsafe { call(number::SIGNALFD4, [none, all as usize, SIGNAL_SET_SIZE, O_CLOEXEC]) };
    fd as i32
}

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// Waits until there is something to read from one of two descriptors, an end included; whether from the second.
pub fn wait_readable(first: i32, second: i32) -> bool {
    let mut files = [first, second].map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
    // SAFETY: the kernel reads and writes two records; neither a time-out nor a set of signals is given.
    unsafe { call(number::PPOLL, [files.as_mut_ptr() as usize, files.len(), 0, 0]) };
    files[1].revents != 0
}

/// What one read of a file gives, from its start. `None`: it cannot be opened or read.
pub fn read_file<'b, const N: usize>(
    path: &CStr,
    buffer: &'b mut MaybeUninit<[u8; N]>,
) -> Option<&'b [u8]> {
    let at = AT_FDCWD as usize;
    // SAFETY: the kernel reads a C string.
    let fd = unsafe { call(number::OPENAT, [at, path.as_ptr() as usize, O_CLOEXEC, 0]) };
    if fd < 0 {
        return None;
    }
    let start = buffer.as_mut_ptr().cast::<u8>();
    // SAFETY: the kernel writes into `buffer`.
    let done = unsafe { call(number::READ, [fd as usize, start as usize, N, 0]) };
    close(fd as i32);
    let length = usize::try_from(done).ok()?;
    // SAFETY: the kernel has written so many bytes, N at most.
    Some(unsafe { core::slice::from_raw_parts(start, length) })
}

/// Forgets a signal that has come and was not looked at.
pub fn take_back(signal: i32) {
    let only = 1u64 << (signal - 1);
    let only = &raw const only;
    let now = [0u64; 2];
    let now = &raw const now;
    // SAFETY: the kernel reads eight bytes of the set and sixteen of the time-out, which is zero; details
    // are not asked for.
    unsafe {
        call(number::RT_SIGTIMEDWAIT, [only as usize, 0, now as usize, SIGNAL_SET_SIZE]);
    }
}

/// Sends a signal to the process group of `leader`. It may be gone: nothing to do then.
pub fn signal_group(leader: i32, signal: i32) {
    // SAFETY: takes numbers.
    unsafe { call(number::KILL, [-(leader as isize) as usize, signal as usize, 0, 0]) };
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: takes numbers.
    unsafe { call(number::KILL, [pid as usize, signal as usize, 0, 0]) };
}

/// Waits until a child has ended, and takes it. `false`: there is none.
pub fn wait_for_child() -> bool {
    loop {
        // SAFETY: the status is not asked for.
        match unsafe { call(number::WAIT4, [usize::MAX, 0, WALL, 0]) } {
            EINTR => {}
            pid => return pid > 0,
        }
    }
}

/// Takes one ended child: its pid and raw wait status.
pub fn reap() -> Option<(i32, i32)> {
    let mut status = 0i32;
    let out = &raw mut status;
    // SAFETY: the kernel writes one int.
    let pid = unsafe { call(number::WAIT4, [usize::MAX, out as usize, WNOHANG | WALL, 0]) };
    (pid > 0).then_some((pid as i32, status))
}

/// Returns only on failure, with the errno.
///
/// # Safety
/// `path` is a C string; the arrays hold C strings and end with a null pointer.
pub unsafe fn execve(
    path: *const u8,
    argv: *const *const u8,
    environment: *const *const u8,
) -> i32 {
    // SAFETY: the caller's promise.
    let result =
        unsafe { call(number::EXECVE, [path as usize, argv as usize, environment as usize, 0]) };
    -result as i32
}

/// Starts `function(argument)` as a child on its own stack and in the same memory; returns its pid
/// when it has executed something or ended, or a negative errno.
///
/// # Safety
/// `top` is the aligned upper end of a stack used for nothing else.
pub unsafe fn vfork(
    top: *mut u8,
    function: unsafe extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> i32 {
    // SAFETY: the caller's promise; CLONE_VFORK keeps this thread asleep meanwhile.
    (unsafe { machine::clone(CLONE_VM | CLONE_VFORK | SIGCHLD, top, function, argument) }) as i32
}
