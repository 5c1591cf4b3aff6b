//! A request to launch, as the agent states it and as the launcher checks it.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use mezzo_agent_sys::Namespaces;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};

use crate::protocol::INIT_NAME;
use crate::wire::{FIXED_DESCRIPTORS, LaunchCall, MAX_CGROUPS};

/// Longest container id in bytes; it is also a directory's name.
const MAX_ID: usize = 255;

/// Longest host name that the kernel takes.
const MAX_HOSTNAME: usize = 64;

/// Most supplementary groups that the kernel takes.
const MAX_GROUPS: usize = 65_536;

/// A container to start.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// Names the container in all later calls; not yet in use. 1 to 255 bytes, no control characters.
    pub container: String,
    /// The program; without a slash it is looked up in the `PATH` of `environment`, inside the
    /// container and as its user.
    pub program: OsString,
    /// The command's argument vector, `argv[0]` included.
    pub arguments: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
    /// A pid namespace needs a mount namespace (for its `/proc`).
    pub namespaces: Namespaces,
    /// Needs a uts namespace.
    pub hostname: Option<String>,
    /// The working directory.
    pub directory: BorrowedFd<'a>,
    pub stdin: BorrowedFd<'a>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// As [`create_exit_file`](crate::create_exit_file) makes it: open for reading and writing.
    pub exit_file: BorrowedFd<'a>,
    /// `cgroup.procs` of each cgroup to join, open for writing; at most 16.
    pub cgroup_procs: Vec<BorrowedFd<'a>>,
}

impl Launch<'_> {
    pub(crate) fn call(&self) -> LaunchCall {
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        let variable = |(name, value): &(OsString, OsString)| {
            [name.as_bytes(), b"=", value.as_bytes()].concat()
        };
        LaunchCall {
            container: self.container.clone(),
            program: bytes(&self.program),
            arguments: self.arguments.iter().map(bytes).collect(),
            environment: self.environment.iter().map(variable).collect(),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            pid_namespace: self.namespaces.pid,
            mount_namespace: self.namespaces.mount,
            ipc_namespace: self.namespaces.ipc,
            uts_namespace: self.namespaces.uts,
            hostname: self.hostname.clone(),
        }
    }

    /// In the order of the wire.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let fixed = [self.directory, self.stdin, self.stdout, self.stderr, self.exit_file];
        fixed.into_iter().chain(self.cgroup_procs.iter().copied()).collect()
    }
}

/// A launch that has been checked: all that the child needs, nothing left to go wrong before its
/// system calls.
#[derive(Debug)]
pub(crate) struct Plan {
    pub container: String,
    /// Of `mezzo-init`.
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub namespaces: Namespaces,
    pub hostname: Option<String>,
    pub directory: OwnedFd,
    /// stdin, stdout, stderr.
    pub output: [OwnedFd; 3],
    pub exit_file: OwnedFd,
    pub cgroup_procs: Vec<OwnedFd>,
}

impl Plan {
    /// Checks a request; the error is a sentence for the one who sent it.
    pub fn new(call: LaunchCall, mut descriptors: Vec<OwnedFd>) -> Result<Plan, String> {
        let id = &call.container;
        if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
            return Err(format!(
                "container id {id:?} must have 1 to {MAX_ID} bytes and no control characters"
            ));
        }
        if call.arguments.is_empty() {
            return Err("the argument vector is empty; argv[0] is the least".to_owned());
        }
        check_ids(call.uid, call.gid, &call.groups)?;
        if call.pid_namespace && !call.mount_namespace {
            return Err("a pid namespace needs a mount namespace for its /proc".to_owned());
        }
        if let Some(name) = &call.hostname {
            if !call.uts_namespace {
                return Err("a host name needs a uts namespace".to_owned());
            }
            if name.is_empty() || name.len() > MAX_HOSTNAME {
                return Err(format!("host name {name:?} must have 1 to {MAX_HOSTNAME} bytes"));
            }
        }
        check_environment(&call.environment)?;
        let count = descriptors.len();
        if !(FIXED_DESCRIPTORS..=FIXED_DESCRIPTORS + MAX_CGROUPS).contains(&count) {
            return Err(format!(
                "{count} descriptors came with the launch, {FIXED_DESCRIPTORS} to {} are needed",
                FIXED_DESCRIPTORS + MAX_CGROUPS
            ));
        }
        let cgroup_procs = descriptors.split_off(FIXED_DESCRIPTORS);
        let fixed = <[OwnedFd; FIXED_DESCRIPTORS]>::try_from(descriptors);
        let [directory, stdin, stdout, stderr, exit_file] =
            fixed.map_err(|_| "descriptors are missing".to_owned())?;
        let mode = fcntl(&exit_file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        if mode.map(|flags| flags & OFlag::O_ACCMODE) != Ok(OFlag::O_RDWR) {
            return Err("the exit file must be open for reading and writing".to_owned());
        }
        // It is read when the container ends, when nothing may hang.
        let kind = fstat(&exit_file).map(|status| SFlag::from_bits_retain(status.st_mode));
        if kind.map(|mode| mode & SFlag::S_IFMT) != Ok(SFlag::S_IFREG) {
            return Err("the exit file must be a regular file".to_owned());
        }
        let mut arguments = vec![INIT_NAME.to_owned(), text("the program", call.program)?];
        arguments.extend(texts("an argument", call.arguments)?);
        Ok(Plan {
            environment: texts("the environment", call.environment)?,
            container: call.container,
            arguments,
            uid: call.uid,
            gid: call.gid,
            groups: call.groups,
            namespaces: Namespaces {
                pid: call.pid_namespace,
                mount: call.mount_namespace,
                ipc: call.ipc_namespace,
                uts: call.uts_namespace,
            },
            hostname: call.hostname,
            directory,
            output: [stdin, stdout, stderr],
            exit_file,
            cgroup_procs,
        })
    }
}

impl Plan {
    /// All descriptors that the child needs.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let fixed = [self.directory.as_fd(), self.exit_file.as_fd()].into_iter();
        fixed.chain(self.output.iter().chain(&self.cgroup_procs).map(AsFd::as_fd)).collect()
    }
}

pub(crate) fn check_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), String> {
    if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(format!("{} is no user or group id", u32::MAX));
    }
    if groups.len() > MAX_GROUPS {
        return Err(format!("{} groups, {MAX_GROUPS} allowed", groups.len()));
    }
    Ok(())
}

pub(crate) fn check_environment(environment: &[Vec<u8>]) -> Result<(), String> {
    for variable in environment {
        if !variable.iter().skip(1).any(|&byte| byte == b'=') {
            let variable = String::from_utf8_lossy(variable);
            return Err(format!("environment entry {variable:?} is not NAME=value"));
        }
    }
    Ok(())
}

pub(crate) fn texts(what: &str, all: Vec<Vec<u8>>) -> Result<Vec<CString>, String> {
    all.into_iter().map(|bytes| text(what, bytes)).collect()
}

pub(crate) fn text(what: &str, bytes: Vec<u8>) -> Result<CString, String> {
    CString::new(bytes).map_err(|error| {
        let position = error.nul_position();
        let shown = String::from_utf8_lossy(&error.into_vec()).into_owned();
        format!("{what} {shown:?} has a zero byte at {position}")
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn call() -> LaunchCall {
        LaunchCall {
            container: "c1".into(),
            program: b"sh".to_vec(),
            arguments: vec![b"sh".to_vec()],
            environment: vec![b"A=1".to_vec()],
            pid_namespace: true,
            mount_namespace: true,
            ..LaunchCall::default()
        }
    }

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| OwnedFd::from(tempfile::tempfile().expect("file"))).collect()
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut LaunchCall), fragment: &str) {
        let mut call = call();
        change(&mut call);
        let error = Plan::new(call, descriptors(5)).expect_err("must be refused");
        assert!(error.contains(fragment), "{error}");
    }

    #[test]
    fn each_wrong_field_is_named() {
        check(|call| call.container.clear(), "container id \"\"");
        check(|call| call.container = "x".repeat(256), "1 to 255 bytes");
        check(|call| call.container = "a\nb".into(), "control characters");
        check(|call| call.arguments.clear(), "argument vector is empty");
        check(|call| call.uid = u32::MAX, "no user or group id");
        check(|call| call.groups = vec![u32::MAX], "no user or group id");
        check(|call| call.mount_namespace = false, "mount namespace");
        check(|call| call.hostname = Some("h".into()), "uts namespace");
        check(|call| call.environment = vec![b"A".to_vec()], "entry \"A\" is not");
        check(|call| call.environment = vec![b"=A".to_vec()], "entry \"=A\" is not");
        check(|call| call.program = b"a\0b".to_vec(), "zero byte at 1");
        check(|call| call.arguments.push(b"\0".to_vec()), "zero byte at 0");
    }

    #[test]
    fn descriptors_are_counted_and_the_exit_file_must_be_readable() {
        Plan::new(call(), descriptors(21)).expect("five and sixteen cgroups");
        for count in [0, 4, 22] {
            let error = Plan::new(call(), descriptors(count)).expect_err("wrong count");
            assert!(error.contains("descriptors"), "{error}");
        }
        let mut wrong = descriptors(4);
        let null = File::options().write(true).open("/dev/null").expect("/dev/null");
        wrong.push(null.into());
        let error = Plan::new(call(), wrong).expect_err("write only");
        assert!(error.contains("reading and writing"), "{error}");
        let mut wrong = descriptors(4);
        let null = File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
        wrong.push(null.into());
        let error = Plan::new(call(), wrong).expect_err("a device");
        assert!(error.contains("regular file"), "{error}");
    }
}
