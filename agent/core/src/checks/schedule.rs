//! When a check is due: a delay after the start, then an interval after each result.

use std::time::Duration;

use mezzo_types::Now;

use super::{Started, seconds_of};

/// An interval of nothing would be a loop that keeps a core busy.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// One check's clock.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    /// `None`: a run may take for ever, which is what zero means.
    timeout: Option<Duration>,
    phase: Phase,
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// At this monotonic time, in nanoseconds.
    Due(u64),
    /// The shell was asked and has not answered.
    Running,
    /// For good.
    Stopped,
}

impl Schedule {
    pub(super) fn new(started: Started, delay: f64, interval: f64, timeout: f64) -> Schedule {
        let timeout = seconds_of(timeout);
        Schedule {
            interval: seconds_of(interval).max(INTERVAL_MIN),
            timeout: (!timeout.is_zero()).then_some(timeout),
            phase: Phase::Due(started.plus(delay)),
        }
    }

    pub(crate) fn due_ns(&self) -> Option<u64> {
        match self.phase {
            Phase::Due(due_ns) => Some(due_ns),
            Phase::Running | Phase::Stopped => None,
        }
    }

    /// It is time; the limit for this run. `None`: not that check, not now.
    pub(super) fn begin(&mut self) -> Option<Option<Duration>> {
        if !matches!(self.phase, Phase::Due(_)) {
            return None;
        }
        self.phase = Phase::Running;
        Some(self.timeout)
    }

    /// The run is over; when the next one is due. `None`: nobody asked, or it does not matter any more.
    pub(super) fn finish(&mut self, now: Now) -> Option<u64> {
        if self.phase != Phase::Running {
            return None;
        }
        let due_ns = now.plus(self.interval);
        self.phase = Phase::Due(due_ns);
        Some(due_ns)
    }

    pub(super) fn stop(&mut self) {
        self.phase = Phase::Stopped;
    }
}
