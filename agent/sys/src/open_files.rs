//! The limit of open files of a program that is about to be started.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

/// Starts the program with this soft and hard limit of open files instead of the caller's.
pub fn limit_open_files(command: &mut Command, soft: u64, hard: u64) {
    // SAFETY: between fork and exec there is one system call, on copies of two numbers.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_own_limit() {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn; ulimit -Hn"]);
        limit_open_files(&mut command, 100, 200);
        let output = command.output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "100\n200\n");
    }
}
