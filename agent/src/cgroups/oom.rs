//! Out-of-memory kills, reported by the kernel's events.
//!
//! v2 raises a priority event on `memory.events` after each kill. v1 signals an eventfd when memory has run out, *before* it
//! kills, so the counter of kills is read until it has moved. Failure counters are not used: they stay 0 when memory and swap
//! share one limit.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{CgroupError, OomVictim, Version, files, kernel_log};

/// Pauses between looks at v1's counter after its event. The kill follows within microseconds, unless the kernel first writes a long
/// report to a slow console.
const V1_LOOKS_MS: [u64; 14] = [0, 1, 1, 2, 2, 5, 5, 10, 20, 50, 100, 200, 500, 1000];

/// A standing watch on one container.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    seen: u64,
}

#[derive(Debug)]
enum Source {
    V1 { event: AsyncFd<File>, control: PathBuf },
    V2 { events: AsyncFd<File>, path: PathBuf },
}

impl OomWatch {
    /// Begins to watch the memory cgroup `dir`. Kills that happened before count too. Needs a tokio runtime.
    pub(super) fn open(dir: &Path, version: Version) -> Result<Self, CgroupError> {
        let source = match version {
            Version::V1 => {
                let control = dir.join("memory.oom_control");
                let failed =
                    |source: io::Error| CgroupError::Watch { path: control.clone(), source };
                let file = File::open(&control).map_err(failed)?;
                let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                    .map_err(|e| failed(e.into()))?;
                files::write_io(
                    &dir.join("cgroup.event_control"),
                    &format!("{} {}", event.as_raw_fd(), file.as_raw_fd()),
                )
                .map_err(failed)?;
                let event = files::watch(event, Interest::READABLE).map_err(failed)?;
                Source::V1 { event, control }
            }
            Version::V2 => {
                let path = dir.join("memory.events");
                let failed = |source: io::Error| CgroupError::Watch { path: path.clone(), source };
                let file = File::open(&path).map_err(failed)?;
                let events = files::watch(file, Interest::PRIORITY).map_err(failed)?;
                Source::V2 { events, path }
            }
        };
        Ok(OomWatch { source, seen: 0 })
    }

    /// Waits for kills not yet reported; returns how many there were in all. Cancel-safe: nothing is lost when the future is
    /// dropped, because what was seen is counted by the kernel. Fails when the cgroup is removed.
    pub async fn next(&mut self) -> Result<u64, CgroupError> {
        loop {
            match &mut self.source {
                Source::V1 { event, control } => {
                    for pause in V1_LOOKS_MS {
                        let kills = files::keyed(&files::read(control)?, "oom_kill");
                        if kills > self.seen {
                            self.seen = kills;
                            return Ok(kills);
                        }
                        // Only a pending event makes it worth while to look again.
                        let mut count = [0; 8];
                        let pending = event.get_mut().read(&mut count).is_ok();
                        if pause == 0 && !pending {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                    let mut ready = event
                        .readable()
                        .await
                        .map_err(|source| CgroupError::Watch { path: control.clone(), source })?;
                    ready.clear_ready();
                }
                Source::V2 { events, path } => {
                    let failed =
                        |source: io::Error| CgroupError::Watch { path: path.clone(), source };
                    let kills =
                        files::keyed(&reread(events.get_mut()).map_err(failed)?, "oom_kill");
                    if kills > self.seen {
                        self.seen = kills;
                        return Ok(kills);
                    }
                    let mut ready = events.ready(Interest::PRIORITY).await.map_err(failed)?;
                    ready.clear_ready();
                }
            }
        }
    }
}

/// Reads a control file again from its begin, which also re-arms its event.
pub(super) fn reread(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Kills so far in the memory cgroup `dir`.
pub(super) fn kills(dir: &Path, version: Version) -> Result<u64, CgroupError> {
    let file = match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    Ok(files::keyed(&files::read(&dir.join(file))?, "oom_kill"))
}

/// The numbers of an out-of-memory kill. Its text is what a framework reads as the message of the task's last update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomReport {
    /// `u64::MAX` when the container had none and the machine ran out.
    pub limit_bytes: u64,
    pub usage_bytes: u64,
    pub peak_bytes: u64,
    pub kills: u64,
    pub victim: Option<OomVictim>,
    /// The lines of `memory.stat` (v1: the totals over the container) that are not 0.
    pub statistics: Vec<(String, u64)>,
}

impl OomReport {
    pub(super) fn read(dir: &Path, version: Version, name: &str) -> Result<Self, CgroupError> {
        let number = |file: &str| files::read_number(&dir.join(file));
        let (limit_bytes, usage_bytes, peak) = match version {
            Version::V1 => (
                number("memory.limit_in_bytes")?,
                number("memory.usage_in_bytes")?,
                number("memory.max_usage_in_bytes"),
            ),
            Version::V2 => {
                (number("memory.max")?, number("memory.current")?, number("memory.peak"))
            }
        };
        let statistics = files::read(&dir.join("memory.stat"))?
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
            .filter(|(key, value)| {
                *value != 0 && (version == Version::V2 || key.starts_with("total_"))
            })
            .collect();
        Ok(OomReport {
            limit_bytes,
            usage_bytes,
            // Kernels before 5.19 have no peak on v2; at a kill the usage stood at the limit.
            peak_bytes: peak.unwrap_or(usage_bytes.max(limit_bytes)),
            kills: kills(dir, version)?,
            victim: kernel_log::victim_in(name),
            statistics,
        })
    }
}

impl fmt::Display for OomReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory limit exceeded: Requested: ")?;
        if self.limit_bytes >= 1 << 62 {
            write!(f, "no limit")?;
        } else {
            write!(f, "{}", Bytes(self.limit_bytes))?;
        }
        write!(f, " Maximum Used: {}", Bytes(self.peak_bytes))?;
        if let Some(victim) = &self.victim {
            write!(f, "\nKilled by the kernel: process {} ({})", victim.pid, victim.name)?;
        }
        write!(f, "\n\nMEMORY STATISTICS: \n")?;
        for (key, value) in &self.statistics {
            writeln!(f, "{key} {value}")?;
        }
        Ok(())
    }
}

/// A size in the greatest unit that shows it exactly, as Mesos prints sizes: `32MB`, `33KB`, `7B`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0;
        for unit in ["B", "KB", "MB", "GB"] {
            if value == 0 || !value.is_multiple_of(1024) || unit == "GB" {
                return write!(f, "{value}{unit}");
            }
            value /= 1024;
        }
        Ok(())
    }
}
