//! The bare floor: vfork, exec, wait.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{PROGRAM, Round};

/// One child, isolated from nothing. The C library's `posix_spawn` is vfork and exec, and the
/// standard library uses it for a command as plain as this one.
pub(super) fn round() -> Result<Round> {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null());
    let begin = Instant::now();
    // Returns when the child has left this process' memory: at its exec.
    let mut child = command.spawn().context("cannot spawn")?;
    let exec = begin.elapsed();
    let status = child.wait().context("cannot wait for a child")?;
    let life = begin.elapsed();
    ensure!(status.success(), "{PROGRAM} ended with {status}");
    Ok(Round { exec, life })
}
