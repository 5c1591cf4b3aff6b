//! The time as a core sees it: an argument.

use std::time::Duration;

/// A reading of both clocks, made once by a shell and passed into a core.
///
/// `mono_ns` orders and measures (deadlines, timeouts); its zero is arbitrary and its values mean
/// nothing outside the process. `unix_ns` is for people and for messages; it can jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock, nanoseconds.
    pub mono_ns: u64,
    /// Wall clock, nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_ns: i64,
}

impl Now {
    /// The monotonic instant `delay` from now: what a deadline is stored as. Saturates, so that an
    /// absurd delay means "never" and not "at once".
    pub fn plus(self, delay: Duration) -> u64 {
        self.mono_ns.saturating_add(nanos(delay))
    }

    /// How long ago `mono_ns` was; zero if it lies ahead.
    pub fn since(self, mono_ns: u64) -> Duration {
        Duration::from_nanos(self.mono_ns.saturating_sub(mono_ns))
    }

    /// Whether the monotonic deadline has come.
    pub fn reached(self, deadline_mono_ns: u64) -> bool {
        self.mono_ns >= deadline_mono_ns
    }

    /// Seconds since 1970, as Mesos' `timestamp` fields have it.
    pub fn unix_secs_f64(self) -> f64 {
        self.unix_ns as f64 / 1e9
    }

    /// Both clocks moved forward by `step`: virtual time in tests and simulations.
    pub fn advanced(self, step: Duration) -> Now {
        let step = nanos(step);
        Now {
            mono_ns: self.mono_ns.saturating_add(step),
            unix_ns: self.unix_ns.saturating_add(i64::try_from(step).unwrap_or(i64::MAX)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_saturate_instead_of_wrapping() {
        let now = Now { mono_ns: 5, unix_ns: 7 };
        assert_eq!(now.plus(Duration::from_nanos(3)), 8);
        assert_eq!(now.plus(Duration::MAX), u64::MAX);
        assert!(now.reached(5) && !now.reached(6));
        assert_eq!(now.since(2), Duration::from_nanos(3));
        assert_eq!(now.since(9), Duration::ZERO);
        assert_eq!(now.advanced(Duration::from_nanos(1)), Now { mono_ns: 6, unix_ns: 8 });
        assert_eq!(now.advanced(Duration::MAX).unix_ns, i64::MAX);
    }
}
