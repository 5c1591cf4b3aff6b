//! How long an unanswered update waits for its next sending.

use std::time::Duration;

/// The backstop timer's bounds. The timer is for losses that nobody notices: a broken connection is
/// noticed, and its return sends everything again without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first sending.
    pub first: Duration,
    /// Each wait is twice the one before, up to this.
    pub longest: Duration,
}

impl Default for Backoff {
    /// Mesos' values: 10 seconds to 10 minutes.
    fn default() -> Self {
        Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(600) }
    }
}

impl Backoff {
    pub(crate) fn after(&self, wait: Duration) -> Duration {
        wait.saturating_mul(2).min(self.longest)
    }
}
