//! What processes have used, from `/proc`: figures that do not depend on who else is busy.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Processor time of a process and its threads, ended ones included, in seconds. With `children`,
/// also that of children that ended and were waited for, and of theirs. Resolution: a clock tick.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: i32, children: bool) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("a process is gone")?;
    let ticks = ticks(&stat, children).context("a process' state is not as it should be")?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Fields 14 to 17: user and system time, the same of children.
fn ticks(stat: &str, children: bool) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(14 - 3);
    let count = if children { 4 } else { 2 };
    (0..count).map(|_| fields.next()?.parse::<u64>().ok()).sum()
}

/// Processor time of the live threads of a process, in nanoseconds, exactly.
///
/// # Errors
/// When there is no such process.
pub fn cpu_nanoseconds(pid: i32) -> Result<u64> {
    sum_over_threads(pid, "schedstat", |text| text.split(' ').next()?.parse().ok())
}

/// Context switches of the live threads of a process.
///
/// # Errors
/// When there is no such process.
pub fn context_switches(pid: i32) -> Result<u64> {
    sum_over_threads(pid, "status", |text| {
        let switches = text.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
        switches.map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    })
}

fn sum_over_threads(pid: i32, file: &str, number: impl Fn(&str) -> Option<u64>) -> Result<u64> {
    let mut sum = 0;
    for thread in threads(pid)? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}"));
        sum += text.ok().and_then(|text| number(&text)).unwrap_or(0);
    }
    Ok(sum)
}

/// Threads of a process.
///
/// # Errors
/// When there is no such process.
pub fn threads(pid: i32) -> Result<Vec<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).context("a process is gone")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Memory that a process has to itself and its part of what it shares (PSS), in KiB.
///
/// # Errors
/// When there is no such process.
pub fn memory_kib(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let text = text.context("a process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.context("no PSS in smaps_rollup")
}

/// Resident memory of a process, in KiB: in a large process quicker to read than its PSS.
///
/// # Errors
/// When there is no such process.
pub fn resident_kib(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("a process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.context("no VmRSS in status")
}

/// Bytes that went over loopback: all of the machine's, so only a bound for what one program sent.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn loopback_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/dev").context("cannot read /proc/net/dev")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("there is no loopback in /proc/net/dev")
}

/// The process with this name in its command line's first word and `mark` in another.
///
/// # Errors
/// When none or several are found.
pub fn process(name: &str, mark: &str) -> Result<i32> {
    let entries = fs::read_dir("/proc").context("cannot list processes")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = Vec::from_iter(command.split(|byte| *byte == 0).map(String::from_utf8_lossy));
        words.first().is_some_and(|word| word.ends_with(name))
            && words.iter().skip(1).any(|word| word.contains(mark))
    };
    let found = Vec::from_iter(pids.filter(is_it));
    match found.as_slice() {
        [pid] => Ok(*pid),
        _ => anyhow::bail!("{} processes {name} of {mark} were found", found.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_summed_with_or_without_children() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0";
        assert_eq!(ticks(stat, false), Some(30));
        assert_eq!(ticks(stat, true), Some(4330));
        assert_eq!(ticks("7 (a) S 1", false), None);
    }

    #[test]
    fn a_process_can_be_measured() {
        let own = i32::try_from(std::process::id()).expect("pid");
        let begin = cpu_nanoseconds(own).expect("time");
        let mut work = 0u64;
        while cpu_nanoseconds(own).expect("time") == begin {
            work = std::hint::black_box(work + 1);
        }
        assert!(memory_kib(own).expect("memory") > 100.0);
        assert!(resident_kib(own).expect("memory") > 100.0);
        assert!(context_switches(own).expect("switches") > 0);
        assert!(threads(own).expect("threads").contains(&own));
        loopback_bytes().expect("loopback");
        cpu_seconds(own, true).expect("seconds");
        process("no-such-program", "x").expect_err("there is none");
    }
}
