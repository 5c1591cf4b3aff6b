//! What the kernel knows of a task: the facts that its command was started with, be it by an earlier run of the agent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use mezzo_agent_sys::PidFd;

/// Bytes of an environment at most; the launcher takes no larger request either.
const ENVIRONMENT_MAX: u64 = 1024 * 1024;

/// Whom a task runs as, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// `NAME=value`.
    pub(super) environment: Vec<OsString>,
}

/// The container's first process, unless it has ended.
pub(super) fn open((pid, start_time_ticks): (i32, u64)) -> io::Result<PidFd> {
    PidFd::open_started(pid, start_time_ticks)?.ok_or_else(gone)
}

fn gone() -> io::Error {
    io::Error::other("the task has ended")
}

/// Reads something of the process at `pidfd`, which has this pid: what is read is its own, because it lived after that.
pub(super) fn read_of<T>(pidfd: &PidFd, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let read = read();
    if pidfd.wait(Some(Duration::ZERO))? {
        return Err(gone());
    }
    read
}

pub(super) fn facts(pid: i32, pidfd: &PidFd) -> io::Result<Facts> {
    read_of(pidfd, || {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mut environment = Vec::new();
        let file = File::open(format!("/proc/{pid}/environ"))?;
        file.take(ENVIRONMENT_MAX).read_to_end(&mut environment)?;
        let malformed = || io::Error::other("its status cannot be read");
        let (uid, gid, groups) = ids(&status).ok_or_else(malformed)?;
        Ok(Facts { uid, gid, groups, environment: variables(&environment) })
    })
}

/// Effective user and group, and the supplementary groups.
fn ids(status: &str) -> Option<(u32, u32, Vec<u32>)> {
    let line = |name: &str| {
        let of = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
        status.lines().find_map(of)
    };
    let effective = |name: &str| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let groups = line("Groups")?;
    let groups = groups.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((effective("Uid")?, effective("Gid")?, groups))
}

fn variables(bytes: &[u8]) -> Vec<OsString> {
    let entries = bytes.split(|&byte| byte == 0);
    // The launcher takes nothing else.
    let valid = entries.filter(|entry| entry.iter().skip(1).any(|&byte| byte == b'='));
    valid.map(|entry| OsString::from_vec(entry.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_a_process_are_what_it_was_started_with() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .env_clear()
            .envs([("A", "1"), ("B", "x=y z")])
            .spawn()
            .expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let ticks = mezzo_agent_sys::start_time(pid).expect("start time");
        let pidfd = open((pid, ticks)).expect("it runs");
        let facts = facts(pid, &pidfd).expect("facts");
        assert_eq!(facts.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(facts.environment, ["A=1", "B=x=y z"]);
        child.kill().expect("kill");
        child.wait().expect("reap");
        assert!(super::facts(pid, &pidfd).is_err(), "what is not there any more is not read");
        assert!(open((pid, ticks)).is_err());
    }

    #[test]
    fn ids_are_the_effective_ones() {
        let status = "Name:\tsh\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t6 20 30 \n";
        assert_eq!(ids(status), Some((2, 6, vec![6, 20, 30])));
        assert_eq!(ids("Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t \n"), Some((2, 6, vec![])));
        assert_eq!(ids("Uid:\t1\n"), None);
    }
}
