//! Starting the command: fork without copying, and the search in `PATH`.

use crate::syscall;

const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;
const ENOTDIR: i32 = 20;
const ENAMETOOLONG: i32 = 36;
const ETIMEDOUT: i32 = 110;
const ESTALE: i32 = 116;

/// Where programs are looked up when the environment has no `PATH`, as in execvp(3).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Longest path that the kernel takes, its end mark included.
const PATH_MAX: usize = 4096;

/// Stack of the child between fork and exec. Only the pages it touches cost memory.
const STACK_SIZE: usize = 16 * 1024;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

static mut STACK: Stack = Stack([0; STACK_SIZE]);
static mut CANDIDATE: [u8; PATH_MAX] = [0; PATH_MAX];

/// What the child needs and what it leaves behind: both processes see this memory.
pub struct Command {
    argv: *mut *const u8,
    environment: *const *const u8,
    errno: i32,
}

impl Command {
    /// Runs `argv[1]` with arguments `argv[2..]` in a new session. Returns its pid after the exec,
    /// or the errno of the exec.
    ///
    /// # Safety
    /// Both arrays hold C strings and end with a null pointer; `argv` has three elements or more
    /// and may be overwritten; called once.
    pub unsafe fn spawn(argv: *mut *const u8, environment: *const *const u8) -> Result<i32, i32> {
        let mut command = Command { argv, environment, errno: 0 };
        let shared: *mut Command = &raw mut command;
        // SAFETY: the child has its own stack and shares all else; this thread sleeps until the
        // child has left that memory by exec or exit, so nothing is touched by both at once.
        let pid = unsafe {
            let top = (&raw mut STACK).cast::<u8>().add(STACK_SIZE);
            syscall::vfork(top, Self::child, shared.cast())
        };
        if pid < 0 {
            return Err(-pid);
        }
        // SAFETY: the child is gone from this memory; read through the pointer it wrote through.
        match unsafe { (&raw const (*shared).errno).read_volatile() } {
            0 => Ok(pid),
            errno => Err(errno),
        }
    }

    unsafe extern "C" fn child(shared: *mut u8) -> ! {
        let command = shared.cast::<Command>();
        syscall::new_session();
        syscall::unblock_all_signals();
        // SAFETY: see `spawn`.
        unsafe {
            let errno = execute((*command).argv, (*command).environment);
            (&raw mut (*command).errno).write_volatile(errno);
        }
        syscall::exit(crate::EXIT_NOT_EXECUTED)
    }
}

/// execvpe(3): returns only on failure, with the errno that says most.
unsafe fn execute(argv: *mut *const u8, environment: *const *const u8) -> i32 {
    // SAFETY: the caller's arrays are as `Command::spawn` demands.
    unsafe {
        let program = bytes(*argv.add(1));
        if program.is_empty() {
            return ENOENT;
        }
        if program.contains(&b'/') {
            return execute_at(*argv.add(1), argv, environment);
        }
        let path = variable(environment, b"PATH=").unwrap_or(DEFAULT_PATH);
        let mut denied = false;
        let mut errno = ENOENT;
        for directory in path.split(|&byte| byte == b':') {
            // An empty element is the working directory.
            let directory: &[u8] = if directory.is_empty() { b"." } else { directory };
            if directory.len() + program.len() + 2 > PATH_MAX {
                errno = ENAMETOOLONG;
                continue;
            }
            let candidate = (&raw mut CANDIDATE).cast::<u8>();
            let mut end = candidate;
            for &byte in directory.iter().chain(b"/").chain(program).chain(b"\0") {
                end.write_volatile(byte);
                end = end.add(1);
            }
            errno = execute_at(candidate, argv, environment);
            match errno {
                EACCES => denied = true,
                ENOENT | ENOTDIR | ENODEV | ESTALE | ETIMEDOUT => {}
                _ => return errno,
            }
        }
        if denied { EACCES } else { errno }
    }
}

/// Executes one path; a text file without `#!` goes to the shell, as in execvp(3).
unsafe fn execute_at(path: *const u8, argv: *mut *const u8, environment: *const *const u8) -> i32 {
    // SAFETY: as above; a script takes the places of program and argv[0], which it replaces.
    unsafe {
        let errno = syscall::execve(path, argv.add(2).cast_const(), environment);
        if errno != ENOEXEC {
            return errno;
        }
        let shell = c"/bin/sh".as_ptr().cast::<u8>();
        *argv.add(1) = shell;
        *argv.add(2) = path;
        syscall::execve(shell, argv.add(1).cast_const(), environment)
    }
}

unsafe fn variable(environment: *const *const u8, name: &[u8]) -> Option<&'static [u8]> {
    let mut entry = environment;
    // SAFETY: a null-terminated array of C strings.
    unsafe {
        while !(*entry).is_null() {
            if let Some(value) = bytes(*entry).strip_prefix(name) {
                return Some(value);
            }
            entry = entry.add(1);
        }
    }
    None
}

/// # Safety
/// A C string that is never freed.
pub unsafe fn bytes(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: a C string on the initial stack, which is never unmapped.
    unsafe {
        while text.add(length).read_volatile() != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(text, length)
    }
}
