//! What the results of a health check come to.

use mezzo_proto::v1;
use mezzo_types::Now;

use super::Started;

/// The judge of one task's health.
#[derive(Debug)]
pub(crate) struct Health {
    /// It has passed before: failures in the grace period count from then on.
    passed: bool,
    failures: u32,
    /// Failures in a row that lead to the kill; at least 1.
    limit: u32,
    /// Monotonic end of the grace period; `None` without one.
    grace_over_ns: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// Tell that it is well.
    Healthy,
    /// Tell that it is not.
    Unhealthy,
    /// Tell that it is not, and end it.
    Kill,
}

impl Health {
    /// `told`: the last health that was told of the task, if any was.
    pub(super) fn new(
        started: Started,
        check: &v1::HealthCheck,
        told: Option<bool>,
        failures: u32,
    ) -> Health {
        let grace = check.grace_period_seconds();
        Health {
            // A task that is known as unhealthy failed after its grace period, so that it does not matter
            // whether it ever passed; a success then is told because of the failures.
            passed: told.is_some(),
            failures: if told == Some(false) { failures.max(1) } else { 0 },
            limit: check.consecutive_failures().max(1),
            grace_over_ns: (grace > 0.0).then(|| started.plus(grace)),
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn judge(&mut self, now: Now, well: bool) -> Verdict {
        if well {
            let told = self.passed && self.failures == 0;
            self.passed = true;
            self.failures = 0;
            return if told { Verdict::Nothing } else { Verdict::Healthy };
        }
        let in_grace = self.grace_over_ns.is_some_and(|over| now.mono_ns <= over);
        if !self.passed && in_grace {
            return Verdict::Nothing;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.limit { Verdict::Kill } else { Verdict::Unhealthy }
    }
}
