//! What a container uses, as its control groups count it.

use std::path::Path;

use super::{CgroupError, Version, files};

/// What v1 counts processor time of user and system in: USER_HZ is 100 on every architecture that agents run on.
const TICK_NS: u64 = 10_000_000;

/// One reading. A figure whose controller is absent is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all processes that ever were in the container, in nanoseconds.
    pub cpu_ns: u64,
    /// The same in programs and in the kernel for them, as its ticks have it: the sum may differ from the exact figure.
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    /// Windows in which the container ran, those in which its quota ran out, and how long it then waited.
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_ns: u64,
    /// Memory charged now, page cache included, and the most that ever was; bytes.
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    /// Parts of it: anonymous memory, page cache, of that what is mapped, what cannot be reclaimed; bytes.
    pub memory_anon_bytes: u64,
    pub memory_cache_bytes: u64,
    pub memory_mapped_bytes: u64,
    pub memory_unevictable_bytes: u64,
    pub memory_swap_bytes: u64,
    /// The hard and the soft limit in force; `u64::MAX` is none.
    pub memory_limit_bytes: u64,
    pub memory_soft_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

pub(super) fn read_cpu(dir: &Path, version: Version, usage: &mut Usage) -> Result<(), CgroupError> {
    let stat = files::read(&dir.join("cpu.stat"))?;
    usage.cpu_periods = files::keyed(&stat, "nr_periods");
    usage.cpu_throttled_periods = files::keyed(&stat, "nr_throttled");
    match version {
        Version::V1 => usage.cpu_throttled_ns = files::keyed(&stat, "throttled_time"),
        Version::V2 => {
            usage.cpu_throttled_ns = files::keyed(&stat, "throttled_usec").saturating_mul(1000);
            usage.cpu_ns = files::keyed(&stat, "usage_usec").saturating_mul(1000);
            usage.cpu_user_ns = files::keyed(&stat, "user_usec").saturating_mul(1000);
            usage.cpu_system_ns = files::keyed(&stat, "system_usec").saturating_mul(1000);
        }
    }
    Ok(())
}

pub(super) fn read_cpuacct(dir: &Path, usage: &mut Usage) -> Result<(), CgroupError> {
    usage.cpu_ns = files::read_number(&dir.join("cpuacct.usage"))?;
    let stat = files::read(&dir.join("cpuacct.stat"))?;
    usage.cpu_user_ns = files::keyed(&stat, "user").saturating_mul(TICK_NS);
    usage.cpu_system_ns = files::keyed(&stat, "system").saturating_mul(TICK_NS);
    Ok(())
}

pub(super) fn read_memory(
    dir: &Path,
    version: Version,
    usage: &mut Usage,
) -> Result<(), CgroupError> {
    let stat = files::read(&dir.join("memory.stat"))?;
    match version {
        Version::V1 => {
            usage.memory_bytes = files::read_number(&dir.join("memory.usage_in_bytes"))?;
            usage.memory_peak_bytes = files::read_number(&dir.join("memory.max_usage_in_bytes"))?;
            usage.memory_anon_bytes = files::keyed(&stat, "total_rss");
            usage.memory_cache_bytes = files::keyed(&stat, "total_cache");
            usage.memory_mapped_bytes = files::keyed(&stat, "total_mapped_file");
            usage.memory_unevictable_bytes = files::keyed(&stat, "total_unevictable");
            usage.memory_swap_bytes = files::keyed(&stat, "total_swap");
            usage.memory_limit_bytes = limit(dir, "memory.limit_in_bytes")?;
            usage.memory_soft_limit_bytes = limit(dir, "memory.soft_limit_in_bytes")?;
        }
        Version::V2 => {
            usage.memory_bytes = files::read_number(&dir.join("memory.current"))?;
            // `memory.peak` came with Linux 5.19.
            usage.memory_peak_bytes =
                files::read_number(&dir.join("memory.peak")).unwrap_or(usage.memory_bytes);
            usage.memory_anon_bytes = files::keyed(&stat, "anon");
            usage.memory_cache_bytes = files::keyed(&stat, "file");
            usage.memory_mapped_bytes = files::keyed(&stat, "file_mapped");
            usage.memory_unevictable_bytes = files::keyed(&stat, "unevictable");
            // Without swap accounting there is no such file.
            usage.memory_swap_bytes =
                files::read_number(&dir.join("memory.swap.current")).unwrap_or(0);
            usage.memory_limit_bytes = limit(dir, "memory.max")?;
            // What asked for memory is protected up to there: what v1 calls a soft limit.
            usage.memory_soft_limit_bytes = limit(dir, "memory.low")?;
        }
    }
    Ok(())
}

/// A limit so large that it is none reads as `u64::MAX`.
fn limit(dir: &Path, file: &str) -> Result<u64, CgroupError> {
    let bytes = files::read_number(&dir.join(file))?;
    Ok(if bytes < 1 << 62 { bytes } else { u64::MAX })
}

pub(super) fn read_pids(dir: &Path, usage: &mut Usage) -> Result<(), CgroupError> {
    usage.pids = files::read_number(&dir.join("pids.current"))?;
    Ok(())
}
