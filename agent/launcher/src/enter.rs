//! A request to run a command beside a container's own, as the agent states it and as the launcher checks it.
//!
//! Nothing of it is kept: who asked holds the other end of a socket, on which everything that becomes of the
//! command is told ([`CheckReport`]), and whose closing ends it with all its descendants.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::failure::{Failure, Report, parse_report};
use crate::launch::{check_environment, check_ids, text, texts};
use crate::protocol::{self, CHECK_NAME};
use crate::wire::{ENTER_DESCRIPTORS, EnterCall, MAX_CGROUPS};

/// A command to run in the namespaces of a process that lives.
#[derive(Clone, Debug)]
pub struct Enter<'a> {
    /// As in [`Launch`](crate::Launch).
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// The whole environment, `NAME=value`.
    pub environment: Vec<OsString>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// The working directory, absolute, as the process sees it.
    pub directory: PathBuf,
    /// A file in it to which the command's output is appended, if the user may and it is a regular file; else, and where
    /// none is named, the output goes where the input comes from.
    pub output: Option<OsString>,
    /// Descriptor of the process whose namespaces are entered.
    pub pidfd: BorrowedFd<'a>,
    /// Open for reading and writing.
    pub stdin: BorrowedFd<'a>,
    /// The command's end of [`check_socket`].
    pub report: BorrowedFd<'a>,
    /// `cgroup.procs` of each cgroup to join, open for writing; at most 16.
    pub cgroup_procs: Vec<BorrowedFd<'a>>,
}

/// Two ends of a socket: the caller's, which does not block, and the one for [`Enter::report`].
pub fn check_socket() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (own, report) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    let nonblocking = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    nix::fcntl::fcntl(&own, nonblocking)?;
    Ok((own, report))
}

/// What becomes of a command that was entered. The socket ends after the last one; if that is `Started`, or there is none,
/// who attended to the command was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckReport {
    /// It was executed.
    Started,
    /// It was not.
    Failed(Failure),
    /// It ended, with this raw status of wait(2).
    Ended(i32),
}

impl CheckReport {
    /// Bytes that suffice for any report.
    pub const SIZE: usize = protocol::RECORD_SIZE;

    /// Reads one packet of the socket; `None` for anything that is no report.
    pub fn parse(packet: &[u8]) -> Option<CheckReport> {
        match parse_report(packet)? {
            Report::Started => Some(CheckReport::Started),
            Report::Failed(failure) => Some(CheckReport::Failed(failure)),
            Report::Ended(status) => Some(CheckReport::Ended(status)),
        }
    }
}

impl Enter<'_> {
    pub(crate) fn call(&self) -> EnterCall {
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        EnterCall {
            program: bytes(&self.program),
            arguments: self.arguments.iter().map(bytes).collect(),
            environment: self.environment.iter().map(bytes).collect(),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            directory: self.directory.as_os_str().as_bytes().to_vec(),
            output: self.output.as_ref().map(bytes).unwrap_or_default(),
        }
    }

    /// In the order of the wire.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let fixed = [self.pidfd, self.stdin, self.report];
        fixed.into_iter().chain(self.cgroup_procs.iter().copied()).collect()
    }
}

/// A request that has been checked.
#[derive(Debug)]
pub(crate) struct EnterPlan {
    /// Of `mezzo-init`.
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub directory: CString,
    /// Empty for none.
    pub output: CString,
    pub pidfd: OwnedFd,
    pub stdin: OwnedFd,
    pub report: OwnedFd,
    pub cgroup_procs: Vec<OwnedFd>,
}

impl EnterPlan {
    /// Checks a request; the error is a sentence for the one who sent it.
    pub fn new(call: EnterCall, mut descriptors: Vec<OwnedFd>) -> Result<EnterPlan, String> {
        if call.arguments.is_empty() {
            return Err("the argument vector is empty; argv[0] is the least".to_owned());
        }
        check_ids(call.uid, call.gid, &call.groups)?;
        check_environment(&call.environment)?;
        if !call.directory.starts_with(b"/") {
            let directory = String::from_utf8_lossy(&call.directory);
            return Err(format!("the working directory {directory:?} is not absolute"));
        }
        if call.output.contains(&b'/') {
            let output = String::from_utf8_lossy(&call.output);
            return Err(format!("the output {output:?} must be in the working directory"));
        }
        let count = descriptors.len();
        let allowed = ENTER_DESCRIPTORS..=ENTER_DESCRIPTORS + MAX_CGROUPS;
        if !allowed.contains(&count) {
            return Err(format!(
                "{count} descriptors came with the command, {} to {} are needed",
                allowed.start(),
                allowed.end()
            ));
        }
        let cgroup_procs = descriptors.split_off(ENTER_DESCRIPTORS);
        let fixed = <[OwnedFd; ENTER_DESCRIPTORS]>::try_from(descriptors);
        let [pidfd, stdin, report] = fixed.map_err(|_| "descriptors are missing".to_owned())?;
        let mut arguments = vec![CHECK_NAME.to_owned(), text("the program", call.program)?];
        arguments.extend(texts("an argument", call.arguments)?);
        Ok(EnterPlan {
            arguments,
            environment: texts("the environment", call.environment)?,
            uid: call.uid,
            gid: call.gid,
            groups: call.groups,
            directory: text("the working directory", call.directory)?,
            output: text("the output", call.output)?,
            pidfd,
            stdin,
            report,
            cgroup_procs,
        })
    }

    /// All descriptors that the child needs.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let fixed = [&self.pidfd, &self.stdin, &self.report].into_iter();
        fixed.chain(&self.cgroup_procs).map(AsFd::as_fd).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| OwnedFd::from(tempfile::tempfile().expect("file"))).collect()
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut EnterCall), fragment: &str) {
        let mut call = EnterCall {
            program: b"sh".to_vec(),
            arguments: vec![b"sh".to_vec()],
            environment: vec![b"A=1".to_vec()],
            directory: b"/tmp".to_vec(),
            ..EnterCall::default()
        };
        EnterPlan::new(call.clone(), descriptors(5)).expect("it is fine");
        change(&mut call);
        let error = EnterPlan::new(call, descriptors(5)).expect_err("must be refused");
        assert!(error.contains(fragment), "{error}");
    }

    #[test]
    fn each_wrong_field_is_named() {
        check(|call| call.arguments.clear(), "argument vector is empty");
        check(|call| call.uid = u32::MAX, "no user or group id");
        check(|call| call.environment = vec![b"A".to_vec()], "entry \"A\" is not");
        check(|call| call.directory = b"tmp".to_vec(), "\"tmp\" is not absolute");
        check(|call| call.directory = b"/\0".to_vec(), "zero byte at 1");
        check(|call| call.output = b"../x".to_vec(), "must be in the working directory");
        for count in [0, 2, 20] {
            let call = EnterCall {
                arguments: vec![b"sh".to_vec()],
                directory: b"/".to_vec(),
                ..EnterCall::default()
            };
            let error = EnterPlan::new(call, descriptors(count)).expect_err("wrong count");
            assert!(error.contains("3 to 19 are needed"), "{error}");
        }
    }
}
