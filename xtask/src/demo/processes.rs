//! What the kernel says about processes, independent of what Mezzo says.

use std::path::Path;
use std::time::Duration;

/// A process, told apart from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot.
    pub started: u64,
    /// CPU time so far, in clock ticks.
    cpu_ticks: u64,
}

impl Process {
    /// `None` when there is no such process (any more), or only its zombie.
    pub fn of(pid: i32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may itself contain spaces and parentheses.
        let (_, after) = stat.rsplit_once(") ")?;
        let fields = Vec::from_iter(after.split(' '));
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return None;
        }
        Some(Process { pid, started: field(22)?, cpu_ticks: field(14)? + field(15)? })
    }

    pub fn is_same(&self, other: &Process) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    pub fn cpu_time(&self) -> Duration {
        // USER_HZ is 100 in every Linux ABI.
        Duration::from_millis(self.cpu_ticks * 10)
    }
}

/// The processes whose argument list has exactly this argument, and which `sh` runs.
pub fn shells_with_argument(argument: &str) -> Vec<Process> {
    let is_it = |pid: i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut parts = command.split(|byte| *byte == 0);
        let shell = parts.next().is_some_and(|program| program.ends_with(b"sh"));
        shell && parts.any(|part| part == argument.as_bytes())
    };
    pids().into_iter().filter(|pid| is_it(*pid)).filter_map(Process::of).collect()
}

/// The processes in control groups of this name, or below.
pub fn in_cgroup(name: &str) -> Vec<i32> {
    let component = |line: &str| {
        line.splitn(3, ':').nth(2).is_some_and(|path| path.split('/').any(|part| part == name))
    };
    let is_in = |pid: &i32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.lines().any(component)
    };
    pids().into_iter().filter(is_in).collect()
}

/// The processes that name a path below the directory among their arguments.
pub fn with_path_below(directory: &Path) -> Vec<i32> {
    let directory = directory.as_os_str().as_encoded_bytes();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let names = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.windows(directory.len()).any(|window| window == directory)
    };
    pids().into_iter().filter(|pid| *pid != own).filter(names).collect()
}

fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let process = Process::of(pid).unwrap();
        assert!(process.is_same(&Process::of(pid).unwrap()));
        assert!(process.started > 0);
        assert!(pids().contains(&pid));
        assert_eq!(Process::of(-1), None);
        assert!(in_cgroup("no-such-group").is_empty());
    }
}
