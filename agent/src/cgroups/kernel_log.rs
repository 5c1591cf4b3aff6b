//! Who was killed: the kernel names the victim of an out-of-memory kill only in its log.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// The process that the kernel chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomVictim {
    /// As the agent's machine sees it, not as the container does.
    pub pid: i32,
    /// At most 15 characters, as the kernel keeps it.
    pub name: String,
}

/// Greatest record that `/dev/kmsg` hands out.
const RECORD_BYTES: usize = 8192;

/// The newest victim in the cgroup called `name`, if the kernel's log still tells. The log is limited in size and rate and may
/// not be readable at all, so its silence means nothing.
pub(super) fn victim_in(name: &str) -> Option<OomVictim> {
    let mut log =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut record = vec![0; RECORD_BYTES];
    let mut newest = None;
    loop {
        match log.read(&mut record) {
            Ok(0) => return newest,
            Ok(length) => {
                let line = String::from_utf8_lossy(&record[..length]);
                newest = parse(&line, name).or(newest);
            }
            // Overwritten while we read: the next read continues with what is left.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return newest,
        }
    }
}

/// A record like `6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/root/name,task=python3,pid=12,uid=0`.
pub(super) fn parse(record: &str, name: &str) -> Option<OomVictim> {
    let (_, summary) = record.split_once(";oom-kill:")?;
    let summary = summary.lines().next()?;
    let (_, place) = summary.split_once("task_memcg=")?;
    let (path, task) = place.split_once(",task=")?;
    if !path.split('/').any(|component| component == name) {
        return None;
    }
    // The name may hold commas itself, so the fields after it are found from the end.
    let (task, _uid) = task.rsplit_once(",uid=")?;
    let (task, pid) = task.rsplit_once(",pid=")?;
    Some(OomVictim { pid: pid.parse().ok()?, name: task.to_owned() })
}
