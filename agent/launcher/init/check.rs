//! A check's command, attended to: its ending is told, and nothing of it stays.
//!
//! The agent holds the other end of the status socket. When it closes that, be it because the time is over, be it because
//! it died, or when the command has ended by itself, everything that descends from the command is killed: orphans come
//! to this process, a subreaper, so that the list of its children leads to all of them in the end.

use core::mem::MaybeUninit;

use crate::protocol::{KIND_ENDED, STATUS_FD, record};
use crate::syscall;

const SIGKILL: i32 = 9;

/// The process ids that fit are killed first, the others on the next round.
const LIST_SIZE: usize = 1024;

/// Attends to the command until nothing is left.
pub fn attend(command: i32) -> ! {
    let signals = syscall::signal_descriptor();
    while signals >= 0 {
        let unwanted = syscall::wait_readable(signals, STATUS_FD);
        while syscall::pending_signal() > 0 {}
        while let Some((pid, status)) = syscall::reap() {
            if pid == command {
                // At once: what follows may take as long as the slowest of its children.
                syscall::write(STATUS_FD, &record(KIND_ENDED, 0, 0, status));
                end(command);
            }
        }
        if unwanted {
            break;
        }
    }
    end(command)
}

/// Kills all descendants, nearest first: a parent that is dead makes no more of them.
fn end(command: i32) -> ! {
    loop {
        // Not zeroed: there is no `memset` in this process.
        let mut list = MaybeUninit::<[u8; LIST_SIZE]>::uninit();
        let Some(list) = syscall::read_file(c"/proc/thread-self/children", &mut list) else {
            // A kernel that does not list them (CONFIG_PROC_CHILDREN).
            syscall::signal_group(command, SIGKILL);
            syscall::exit(0);
        };
        let mut found = false;
        // What was cut off at the end is on the next list.
        let complete = list.rsplitn(2, |&byte| byte == b' ').nth(1).unwrap_or_default();
        for text in complete.split(|&byte| byte == b' ') {
            if let Some(pid) = number(text) {
                found = true;
                syscall::kill(pid, SIGKILL);
            }
        }
        if !found || !syscall::wait_for_child() {
            syscall::exit(0);
        }
        while syscall::reap().is_some() {}
    }
}

fn number(text: &[u8]) -> Option<i32> {
    let mut value = 0i32;
    for &digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i32::from(digit - b'0'))?;
    }
    (value > 1).then_some(value)
}
