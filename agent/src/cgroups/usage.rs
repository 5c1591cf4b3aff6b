//! What a container uses, as its control groups count it.

use std::path::Path;

use super::{CgroupError, Version, files};

/// What v1 counts processor time of user and system in: USER_HZ is 100 on every architecture that agents run on.
const TICK_NS: u64 = 10_000_000;

/// One reading. What no controller counts here is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu: Option<CpuUsage>,
    pub memory: Option<MemoryUsage>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// Processor time of all processes that ever were in the container, in nanoseconds.
    pub total_ns: u64,
    /// The same in programs and in the kernel for them, as its ticks have it: the sum may differ from the exact figure.
    pub user_ns: u64,
    pub system_ns: u64,
    /// Windows in which the container ran, those in which its quota ran out, and how long it then waited.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Charged now, page cache included, and the most that ever was.
    pub bytes: u64,
    pub peak_bytes: u64,
    /// Parts of it: anonymous memory, page cache, of that what is mapped, what cannot be reclaimed.
    pub anon_bytes: u64,
    pub cache_bytes: u64,
    pub mapped_bytes: u64,
    pub unevictable_bytes: u64,
    pub swap_bytes: u64,
    /// The hard and the soft limit in force; `u64::MAX` is none.
    pub limit_bytes: u64,
    pub soft_limit_bytes: u64,
}

pub(super) fn read_cpu(dir: &Path, version: Version, usage: &mut Usage) -> Result<(), CgroupError> {
    let stat = files::read(&dir.join("cpu.stat"))?;
    let usage = usage.cpu.get_or_insert_default();
    usage.periods = files::keyed(&stat, "nr_periods");
    usage.throttled_periods = files::keyed(&stat, "nr_throttled");
    match version {
        Version::V1 => usage.throttled_ns = files::keyed(&stat, "throttled_time"),
        Version::V2 => {
            usage.throttled_ns = files::keyed(&stat, "throttled_usec").saturating_mul(1000);
            usage.total_ns = files::keyed(&stat, "usage_usec").saturating_mul(1000);
            usage.user_ns = files::keyed(&stat, "user_usec").saturating_mul(1000);
            usage.system_ns = files::keyed(&stat, "system_usec").saturating_mul(1000);
        }
    }
    Ok(())
}

pub(super) fn read_cpuacct(dir: &Path, usage: &mut Usage) -> Result<(), CgroupError> {
    let total_ns = files::read_number(&dir.join("cpuacct.usage"))?;
    let stat = files::read(&dir.join("cpuacct.stat"))?;
    let usage = usage.cpu.get_or_insert_default();
    usage.total_ns = total_ns;
    usage.user_ns = files::keyed(&stat, "user").saturating_mul(TICK_NS);
    usage.system_ns = files::keyed(&stat, "system").saturating_mul(TICK_NS);
    Ok(())
}

pub(super) fn read_memory(
    dir: &Path,
    version: Version,
    usage: &mut Usage,
) -> Result<(), CgroupError> {
    let stat = files::read(&dir.join("memory.stat"))?;
    let usage = usage.memory.get_or_insert_default();
    match version {
        Version::V1 => {
            usage.bytes = files::read_number(&dir.join("memory.usage_in_bytes"))?;
            usage.peak_bytes = files::read_number(&dir.join("memory.max_usage_in_bytes"))?;
            usage.anon_bytes = files::keyed(&stat, "total_rss");
            usage.cache_bytes = files::keyed(&stat, "total_cache");
            usage.mapped_bytes = files::keyed(&stat, "total_mapped_file");
            usage.unevictable_bytes = files::keyed(&stat, "total_unevictable");
            usage.swap_bytes = files::keyed(&stat, "total_swap");
            usage.limit_bytes = limit(dir, "memory.limit_in_bytes")?;
            usage.soft_limit_bytes = limit(dir, "memory.soft_limit_in_bytes")?;
        }
        Version::V2 => {
            usage.bytes = files::read_number(&dir.join("memory.current"))?;
            // `memory.peak` came with Linux 5.19.
            usage.peak_bytes = files::read_number(&dir.join("memory.peak")).unwrap_or(usage.bytes);
            usage.anon_bytes = files::keyed(&stat, "anon");
            usage.cache_bytes = files::keyed(&stat, "file");
            usage.mapped_bytes = files::keyed(&stat, "file_mapped");
            usage.unevictable_bytes = files::keyed(&stat, "unevictable");
            // Without swap accounting there is no such file.
            usage.swap_bytes = files::read_number(&dir.join("memory.swap.current")).unwrap_or(0);
            usage.limit_bytes = limit(dir, "memory.max")?;
            // What asked for memory is protected up to there: what v1 calls a soft limit.
            usage.soft_limit_bytes = limit(dir, "memory.low")?;
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
    usage.pids = Some(files::read_number(&dir.join("pids.current"))?);
    Ok(())
}
