//! What a container uses, as its control groups count it.

use std::path::Path;

use super::{CgroupError, Version, files};

/// One reading. A figure whose controller is absent is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all processes that ever were in the container, in nanoseconds.
    pub cpu_ns: u64,
    /// Windows in which the container ran, those in which its quota ran out, and how long it then waited.
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_ns: u64,
    /// Memory charged now, page cache included, and the most that ever was; bytes.
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    /// Parts of it: anonymous memory and page cache; bytes.
    pub memory_anon_bytes: u64,
    pub memory_cache_bytes: u64,
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
        }
    }
    Ok(())
}

pub(super) fn read_cpuacct(dir: &Path, usage: &mut Usage) -> Result<(), CgroupError> {
    usage.cpu_ns = files::read_number(&dir.join("cpuacct.usage"))?;
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
        }
        Version::V2 => {
            usage.memory_bytes = files::read_number(&dir.join("memory.current"))?;
            // `memory.peak` came with Linux 5.19.
            usage.memory_peak_bytes =
                files::read_number(&dir.join("memory.peak")).unwrap_or(usage.memory_bytes);
            usage.memory_anon_bytes = files::keyed(&stat, "anon");
            usage.memory_cache_bytes = files::keyed(&stat, "file");
        }
    }
    Ok(())
}

pub(super) fn read_pids(dir: &Path, usage: &mut Usage) -> Result<(), CgroupError> {
    usage.pids = files::read_number(&dir.join("pids.current"))?;
    Ok(())
}
