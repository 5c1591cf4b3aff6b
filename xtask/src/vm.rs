//! `cargo xtask vm`: a virtual machine with Debian's stock kernel and nothing but cgroup v2, on this machine's files.
//!
//! - `kernel`: Debian's package, unpacked below `target/vm`; nothing is installed.
//! - `archive`: what the kernel starts with: busybox, drivers, [`archive::INIT`].
//! - `machine`: QEMU and the daemon that serves it this machine's files, and their end.
//! - `suite`: the tests that run in it.
//!
//! The machine sees the root file system as it is, read-only; what it writes goes to memory and is gone with it. So a
//! program that was built here runs there without a copy.

mod archive;
mod kernel;
mod machine;
mod suite;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use self::kernel::Kernel;
use self::machine::Machine;
use crate::host;

pub use self::machine::file_server;
pub use self::suite::run as suite;

/// Most that a command of somebody's own may take: a forgotten machine must end.
const COMMAND_LIMIT: Duration = Duration::from_secs(3600);

/// Boots, runs a command, and ends with its code; without a command runs the suite.
///
/// # Errors
/// When the machine cannot be prepared or does not come to an end of its own; when a test fails.
pub fn run(command: &[String]) -> Result<ExitCode> {
    if command.is_empty() {
        return suite().map(|()| ExitCode::SUCCESS);
    }
    host::prepare_machine()?;
    let line = Vec::from_iter(command.iter().map(|word| quoted(word))).join(" ");
    let code = Machine::new(Kernel::prepare()?).run(&line, COMMAND_LIMIT)?;
    Ok(ExitCode::from(code))
}

/// A word as the shell takes it for itself.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_stays_one() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $x"), r"'it'\''s $x'");
    }
}
