//! The shell's clock: the only place of the master that reads one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mezzo_types::Now;

/// Both clocks, the monotonic one counted from the start of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            mono_ns: u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            unix_ns: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|d| i64::try_from(d.as_nanos()).ok())
                .unwrap_or(0),
        }
    }

    /// When the monotonic reading will be `mono_ns`.
    pub(crate) fn instant(&self, mono_ns: u64) -> tokio::time::Instant {
        // A timer that far away never fires; adding it would overflow.
        let delay = Duration::from_nanos(mono_ns).min(Duration::from_secs(365 * 24 * 3600));
        tokio::time::Instant::from_std(self.start + delay)
    }
}
