//! `mezzo-init`: process 1 of a container, and the only helper a task has.
//!
//! It runs one command in a session of its own, passes signals on to it (process 1 of a pid
//! namespace ignores SIGTERM by default, so a bare command there could not be asked to end), reaps
//! orphans, and writes the command's wait status to a file opened beforehand, so that the ending
//! is known even when agent and launcher are dead. Then it ends, and with it the namespace.
//!
//! Called `mezzo-check` it attends to a check's command beside a task instead, see `check`.
//!
//! One of these lives as long as each task, so its memory counts: no libc, no allocator, no
//! threads, and the text pages are shared by all of them because they run from one memfd.
//!
//! ```text
//! _start -> block all signals -> vfork ---------> child: setsid, unblock, execve
//!             | child failed: report errno, exit 127        |
//!             v child runs:   report started                v
//!           wait for a signal <---------------------- the command
//!             | SIGCHLD: reap; the command ended: write the exit file, exit
//!             | other:   send to the command's process group
//! ```

#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

mod check;
mod command;
mod protocol;
mod syscall;

use command::Command;
use protocol::{CHECK_NAME, EXIT_FD, INIT_NAME, KIND_FAILED, KIND_STARTED, STATUS_FD, STEP_EXEC};

const SIGPIPE: i32 = 13;
const SIGCHLD: i32 = 17;
/// What shells and Mesos use for a command that could not be executed.
const EXIT_NOT_EXECUTED: i32 = 127;

/// Called by `_start` with the address of the initial stack: argc, argv, 0, envp, 0.
///
/// # Safety
/// `stack` is what the kernel handed to a new process; called once.
#[unsafe(no_mangle)]
unsafe extern "C" fn mezzo_init(stack: *mut usize) -> ! {
    // SAFETY: the layout above is fixed by the kernel's ABI.
    let (argc, argv, environment) = unsafe {
        let argc = *stack;
        let argv = stack.add(1).cast::<*const u8>();
        (argc, argv, argv.add(argc + 1).cast_const())
    };
    // The launcher always gives program and argv[0]; run by hand it is refused.
    if argc < 3 {
        syscall::exit(EXIT_NOT_EXECUTED);
    }
    // Blocked signals are queued even for process 1 of a namespace, which would otherwise never
    // see those it has no handler for. The launcher has blocked them before the exec already.
    syscall::block_all_signals();
    // SAFETY: argv[0] is a C string.
    let checks = unsafe { command::bytes(*argv) } == CHECK_NAME.to_bytes();
    syscall::set_name(if checks { CHECK_NAME } else { INIT_NAME });
    if syscall::own_pid() != 1 {
        // Without a pid namespace orphans are to come here nevertheless.
        syscall::become_subreaper();
    }
    syscall::set_close_on_exec(EXIT_FD);
    syscall::set_close_on_exec(STATUS_FD);

    // SAFETY: argv and environment are null-terminated arrays of C strings that live for ever;
    // argc >= 3.
    let command = match unsafe { Command::spawn(argv, environment) } {
        Ok(pid) => pid,
        Err(errno) => {
            syscall::write(STATUS_FD, &protocol::record(KIND_FAILED, STEP_EXEC, 0, errno));
            if checks {
                syscall::exit(EXIT_NOT_EXECUTED);
            }
            // For an agent whose launcher is gone: the report has no reader.
            finish(EXIT_NOT_EXECUTED << 8);
        }
    };
    syscall::write(STATUS_FD, &protocol::record(KIND_STARTED, 0, 0, 0));
    // The launcher may have died meanwhile. That is nothing to end the command for, as the signal would
    // when it is passed on.
    syscall::take_back(SIGPIPE);
    // The command's files and directory are the command's alone: whoever reads its output sees the
    // end when the command closes it, and the sandbox can be unmounted.
    for fd in [0, 1, 2] {
        syscall::close(fd);
    }
    syscall::change_directory(c"/");
    if checks {
        syscall::close(EXIT_FD);
        check::attend(command);
    }
    syscall::close(STATUS_FD);

    loop {
        match syscall::next_signal() {
            SIGCHLD => {
                // Signals merge: one may stand for many children.
                while let Some((pid, status)) = syscall::reap() {
                    if pid == command {
                        finish(status);
                    }
                }
            }
            signal if signal > 0 => syscall::signal_group(command, signal),
            _ => {}
        }
    }
}

/// Writes the ending and ends likewise, as far as a process can choose: a signal becomes 128 + n.
fn finish(status: i32) -> ! {
    let mut text = [0u8; 12];
    let mut at = text.len() - 1;
    text[at] = b'\n';
    let mut rest = status as u32;
    loop {
        at -= 1;
        if let Some(digit) = text.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    if let Some(text) = text.get(at..) {
        syscall::write_at_start(EXIT_FD, text);
    }
    let signal = status & 0x7f;
    syscall::exit(if signal == 0 { (status >> 8) & 0xff } else { 128 + signal })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    syscall::exit(EXIT_NOT_EXECUTED)
}
