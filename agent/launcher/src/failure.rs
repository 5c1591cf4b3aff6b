//! What can fail between the fork and the command's exec.

use std::fmt;

use nix::errno::Errno;

use crate::protocol;

/// The step at which a launch failed. The numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Step {
    /// A step of a newer launcher.
    Unknown = 0,
    /// Making the process, with its namespaces.
    Fork = 1,
    /// A session of its own.
    Session = 2,
    /// Joining a cgroup.
    Cgroup = 3,
    /// Cutting mounts off from the host's.
    Mounts = 4,
    /// Mounting the namespace's own `/proc`.
    Proc = 5,
    Hostname = 6,
    /// Entering the sandbox.
    Directory = 7,
    /// Restoring the limit of open files.
    Limits = 8,
    /// Supplementary groups.
    Groups = 9,
    Gid = 10,
    Uid = 11,
    /// Executing `mezzo-init`, or `mezzo-init` itself before it ran the command.
    Init = 12,
    /// Giving up the launcher's protection from the kernel's memory killer.
    OomScore = 13,
    /// Entering the namespaces of another process, and making one there.
    Enter = 15,
    /// Executing the command.
    Exec = protocol::STEP_EXEC,
}

impl Step {
    const ALL: [Step; 15] = [
        Step::Fork,
        Step::Session,
        Step::Cgroup,
        Step::Mounts,
        Step::Proc,
        Step::Hostname,
        Step::Directory,
        Step::Limits,
        Step::Groups,
        Step::Gid,
        Step::Uid,
        Step::Init,
        Step::OomScore,
        Step::Enter,
        Step::Exec,
    ];

    pub(crate) fn from_number(number: u32) -> Step {
        Step::ALL.into_iter().find(|step| u32::from(*step as u8) == number).unwrap_or(Step::Unknown)
    }
}

/// Why a launch failed. Displayed as "cannot execute the command: No such file or directory".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub step: Step,
    /// Of [`Step::Cgroup`]: which of the request's `cgroup_procs`, from 0.
    pub index: u8,
    /// The errno; 0 where the process died without a word.
    pub errno: i32,
    /// The raw wait status of a process that died without a word.
    pub status: Option<i32>,
}

impl Failure {
    pub(crate) fn new(step: Step, errno: Errno) -> Failure {
        Failure { step, index: 0, errno: errno as i32, status: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot ")?;
        match self.step {
            Step::Unknown => f.write_str("prepare the container"),
            Step::Fork => f.write_str("create the process and its namespaces"),
            Step::Session => f.write_str("begin a session"),
            Step::Cgroup => write!(f, "join cgroup number {}", self.index),
            Step::Mounts => f.write_str("make mounts private"),
            Step::Proc => f.write_str("mount /proc"),
            Step::Hostname => f.write_str("set the host name"),
            Step::Directory => f.write_str("enter the working directory"),
            Step::Limits => f.write_str("set the limit of open files"),
            Step::Groups => f.write_str("set supplementary groups"),
            Step::Gid => f.write_str("set the group id"),
            Step::Uid => f.write_str("set the user id"),
            Step::Init => f.write_str("start mezzo-init"),
            Step::OomScore => f.write_str("set the score of the memory killer"),
            Step::Enter => f.write_str("enter the container"),
            Step::Exec => f.write_str("execute the command"),
        }?;
        match self.status {
            Some(status) if status & 0x7f != 0 => write!(f, ": killed by signal {}", status & 0x7f),
            Some(status) => write!(f, ": ended with code {}", status >> 8 & 0xff),
            None => write!(f, ": {}", Errno::from_raw(self.errno).desc()),
        }
    }
}

/// What came through a status pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Started,
    Failed(Failure),
    /// Of a check's command only: the raw status of wait(2).
    Ended(i32),
}

/// Reads a record of the status pipe; `None` for anything that is none.
pub(crate) fn parse_report(bytes: &[u8]) -> Option<Report> {
    let [kind, step, index, 0, errno @ ..] = <[u8; protocol::RECORD_SIZE]>::try_from(bytes).ok()?
    else {
        return None;
    };
    match kind {
        protocol::KIND_STARTED => Some(Report::Started),
        protocol::KIND_FAILED => Some(Report::Failed(Failure {
            step: Step::from_number(u32::from(step)),
            index,
            errno: i32::from_le_bytes(errno),
            status: None,
        })),
        protocol::KIND_ENDED => Some(Report::Ended(i32::from_le_bytes(errno))),
        _ => None,
    }
}

/// The record that [`parse_report`] reads.
pub(crate) fn failure_record(failure: &Failure) -> [u8; protocol::RECORD_SIZE] {
    protocol::record(protocol::KIND_FAILED, failure.step as u8, failure.index, failure.errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went() {
        for step in Step::ALL {
            let failure = Failure { step, index: 3, errno: 13, status: None };
            let read = parse_report(&failure_record(&failure));
            assert_eq!(read, Some(Report::Failed(failure)));
        }
        let started = protocol::record(protocol::KIND_STARTED, 0, 0, 0);
        assert_eq!(parse_report(&started), Some(Report::Started));
        assert_eq!(parse_report(&started[..7]), None);
        assert_eq!(parse_report(&[9; 8]), None);
    }

    #[test]
    fn failures_read_as_sentences() {
        let exec = Failure::new(Step::Exec, Errno::ENOENT);
        assert_eq!(exec.to_string(), "cannot execute the command: No such file or directory");
        let killed = Failure { step: Step::Init, index: 0, errno: 0, status: Some(9) };
        assert_eq!(killed.to_string(), "cannot start mezzo-init: killed by signal 9");
        let cgroup = Failure { index: 2, ..Failure::new(Step::Cgroup, Errno::ENODEV) };
        assert_eq!(cgroup.to_string(), "cannot join cgroup number 2: No such device");
    }
}
