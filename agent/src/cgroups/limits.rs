//! Limits of a container: the numbers that Mesos users know, written and read back.

use std::path::Path;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;

use super::{CgroupError, Version, files};

/// Length of the window in which a quota of processor time may be used, in microseconds.
pub const CPU_PERIOD_US: u64 = 100_000;
/// The least quota per window: below it the kernel's own granularity starves a container.
pub const MIN_CPU_QUOTA_US: u64 = 1_000;
/// The least share that the kernel accepts.
pub const MIN_CPU_SHARES: u64 = 2;
/// The least memory limit, as in Mesos: below it not even a shell starts.
pub const MIN_MEMORY_BYTES: u64 = 32 * 1024 * 1024;

/// The kernel reports "no limit" on v1 as the greatest multiple of its page size.
const UNLIMITED_FROM: u64 = 1 << 62;
/// Limits are rounded down to the page; no page of a supported machine is greater than this.
const LARGEST_PAGE: u64 = 64 * 1024;

/// A hard share of processor time: `quota_us` in each `period_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    pub quota_us: u64,
    pub period_us: u64,
}

/// Processor limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuLimits {
    /// Weight against siblings, on v1's scale: 1024 for one processor.
    pub shares: u64,
    /// `None`: may use whatever is idle.
    pub quota: Option<CpuQuota>,
}

impl CpuLimits {
    /// Share of `request_millis` thousandths of a processor, at most `limit_millis` of it if given.
    pub fn of_millis(request_millis: u64, limit_millis: Option<u64>) -> Self {
        CpuLimits {
            shares: (request_millis.saturating_mul(1024) / 1000).max(MIN_CPU_SHARES),
            quota: limit_millis.map(|millis| CpuQuota {
                quota_us: (millis.saturating_mul(CPU_PERIOD_US) / 1000).max(MIN_CPU_QUOTA_US),
                period_us: CPU_PERIOD_US,
            }),
        }
    }
}

/// Memory limits, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// What the container asked for: reclaim spares it (v2 `memory.low`), or falls first on what exceeds it (v1 soft limit).
    pub soft_bytes: u64,
    /// Beyond it the kernel kills; memory and swap together. `None`: no limit.
    pub hard_bytes: Option<u64>,
}

/// v1's shares (2 to 262144) on v2's scale (1 to 10000).
pub fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(MIN_CPU_SHARES, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

/// Writes processor limits into the cgroup `dir` and reads them back.
pub(super) fn set_cpu(dir: &Path, version: Version, limits: &CpuLimits) -> Result<(), CgroupError> {
    let (file, share) = match version {
        Version::V1 => ("cpu.shares", limits.shares.min(262_144)),
        Version::V2 => ("cpu.weight", weight_of_shares(limits.shares)),
    };
    files::write(&dir.join(file), &share.to_string())?;
    check(&dir.join(file), share, |found| found == share)?;

    let cpu = CpuController::new(dir.to_owned(), dir.to_owned(), version == Version::V2);
    let (quota_us, period_us) = match limits.quota {
        Some(quota) => (i64::try_from(quota.quota_us).unwrap_or(i64::MAX), quota.period_us),
        None => (-1, CPU_PERIOD_US),
    };
    let (quota_file, found) = match version {
        Version::V1 => {
            // The period first: with the quota of a longer period in place a shorter one may be refused.
            let path = dir.join("cpu.cfs_period_us");
            cpu.set_cfs_period(period_us).map_err(|e| refused(&path, period_us, e))?;
            let path = dir.join("cpu.cfs_quota_us");
            cpu.set_cfs_quota(quota_us).map_err(|e| refused(&path, quota_us, e))?;
            (path, (cpu.cfs_quota(), cpu.cfs_period()))
        }
        Version::V2 => {
            let path = dir.join("cpu.max");
            cpu.set_cfs_quota_and_period(Some(quota_us), Some(period_us))
                .map_err(|e| refused(&path, quota_us, e))?;
            (path, (cpu.cfs_quota(), cpu.cfs_period()))
        }
    };
    match found {
        (Ok(quota), Ok(period)) if quota == quota_us && period == period_us => Ok(()),
        (quota, period) => Err(CgroupError::NotApplied {
            path: quota_file,
            wanted: format!("{quota_us} per {period_us}"),
            found: format!("{} per {}", shown(quota), shown(period)),
        }),
    }
}

/// Writes memory limits into the cgroup `dir` and reads them back.
pub(super) fn set_memory(
    dir: &Path,
    version: Version,
    limits: &MemoryLimits,
) -> Result<(), CgroupError> {
    let memory = MemController::new(dir.to_owned(), dir.to_owned(), version == Version::V2);
    let soft = signed(Some(limits.soft_bytes));
    let hard = signed(limits.hard_bytes);
    let (soft_file, hard_file) = match version {
        Version::V1 => ("memory.soft_limit_in_bytes", "memory.limit_in_bytes"),
        Version::V2 => ("memory.low", "memory.max"),
    };
    let hard_path = dir.join(hard_file);
    let set_hard = || {
        memory.set_limit(hard).map_err(|e| refused(&hard_path, hard, e))?;
        check_bytes(&hard_path, limits.hard_bytes)
    };
    match version {
        Version::V1 => {
            // Memory and swap together may never be below memory alone, so their order depends on the direction.
            let both = dir.join("memory.memsw.limit_in_bytes");
            let set_both = || {
                if !both.exists() {
                    return Ok(()); // a kernel without swap accounting
                }
                memory.set_memswap_limit(hard).map_err(|e| refused(&both, hard, e))?;
                check_bytes(&both, limits.hard_bytes)
            };
            let raised = limits.hard_bytes.unwrap_or(u64::MAX) > files::read_number(&hard_path)?;
            if raised {
                set_both()?;
                set_hard()?;
            } else {
                set_hard()?;
                set_both()?;
            }
        }
        Version::V2 => {
            set_hard()?;
            // On v2 swap has a limit of its own: none at all keeps memory and swap together at the limit.
            let swap = dir.join("memory.swap.max");
            if limits.hard_bytes.is_some() && swap.exists() {
                files::write(&swap, "0")?;
                check(&swap, 0, |found| found == 0)?;
            }
        }
    }
    let soft_path = dir.join(soft_file);
    memory.set_soft_limit(soft).map_err(|e| refused(&soft_path, soft, e))?;
    check_bytes(&soft_path, Some(limits.soft_bytes))
}

/// Writes the limit on processes and threads into the cgroup `dir` and reads it back.
pub(super) fn set_pids(
    dir: &Path,
    version: Version,
    limit: Option<u64>,
) -> Result<(), CgroupError> {
    let path = dir.join("pids.max");
    let value = limit
        .map_or(MaxValue::Max, |limit| MaxValue::Value(i64::try_from(limit).unwrap_or(i64::MAX)));
    let pids = PidController::new(dir.to_owned(), dir.to_owned(), version == Version::V2);
    pids.set_pid_max(value).map_err(|e| refused(&path, value.to_string(), e))?;
    let wanted = limit.unwrap_or(u64::MAX);
    check(&path, wanted, |found| found == wanted)
}

fn signed(bytes: Option<u64>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn refused(path: &Path, value: impl ToString, cause: cgroups_rs::fs::error::Error) -> CgroupError {
    CgroupError::Write { path: path.to_owned(), value: value.to_string(), source: cause.into() }
}

fn shown<T: ToString, E: ToString>(found: Result<T, E>) -> String {
    found.map_or_else(|e| e.to_string(), |value| value.to_string())
}

fn check_bytes(path: &Path, wanted: Option<u64>) -> Result<(), CgroupError> {
    match wanted {
        Some(bytes) => check(path, bytes, |found| found <= bytes && bytes - found < LARGEST_PAGE),
        None => check(path, u64::MAX, |found| found >= UNLIMITED_FROM),
    }
}

fn check(path: &Path, wanted: u64, holds: impl Fn(u64) -> bool) -> Result<(), CgroupError> {
    let found = files::read_number(path)?;
    if holds(found) {
        return Ok(());
    }
    Err(CgroupError::NotApplied {
        path: path.to_owned(),
        wanted: wanted.to_string(),
        found: found.to_string(),
    })
}
