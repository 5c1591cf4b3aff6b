//! What the launcher and `mezzo-init` agree on. Compiled into both: no `std`, no dependencies.
//!
//! Descriptors that `mezzo-init` finds open, beside 0, 1 and 2 of the command:
//! `EXIT_FD`, the exit file, and `STATUS_FD`, the write end of a pipe on which everything between
//! the fork and the command's exec reports one `Record`.
//!
//! Arguments: `argv[0]` is `INIT_NAME`, `argv[1]` the program to run (looked up in the `PATH` of
//! the environment where it has no slash), `argv[2..]` the command's own argument vector.
//!
//! Exit file: the raw status of wait(2) as decimal text and a line feed, written at offset 0 in one
//! write. Bytes without a line feed are no record: the file may be pre-filled, so that a full
//! disk cannot lose the ending.

/// First argument, and name in process lists.
pub const INIT_NAME: &core::ffi::CStr = c"mezzo-init";

/// First argument, and name in process lists, of the process that attends to a check. There is no exit file then;
/// the status pipe is a socket, on which the command's ending is told as well, and whose closing ends the command.
pub const CHECK_NAME: &core::ffi::CStr = c"mezzo-check";

/// The exit file, open for writing.
pub const EXIT_FD: i32 = 3;

/// The status pipe.
pub const STATUS_FD: i32 = 4;

/// Size of a [`Record`] on the pipe: `[kind, step, index, 0]`, then the errno, little endian.
pub const RECORD_SIZE: usize = 8;

/// The command has been executed.
pub const KIND_STARTED: u8 = 1;

/// A step before that failed.
pub const KIND_FAILED: u8 = 2;

/// The command of a check ended; the raw status of wait(2) is in the place of the errno.
pub const KIND_ENDED: u8 = 3;

/// The step which `mezzo-init` itself reports: the exec of the command.
pub const STEP_EXEC: u8 = 14;

/// Lays a record out.
pub const fn record(kind: u8, step: u8, index: u8, errno: i32) -> [u8; RECORD_SIZE] {
    let errno = errno.to_le_bytes();
    [kind, step, index, 0, errno[0], errno[1], errno[2], errno[3]]
}
