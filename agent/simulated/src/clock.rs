//! The only place that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mezzo_types::Now;

/// Both clocks, the monotonic one counted from the start of the fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

/// A timer further away than this is as good as none.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono_ns: u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            unix_ns: i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// When the monotonic reading will be `mono_ns`.
    pub(crate) fn instant(&self, mono_ns: u64) -> tokio::time::Instant {
        let delay = Duration::from_nanos(mono_ns).min(FOREVER);
        tokio::time::Instant::from_std(self.start + delay)
    }
}
