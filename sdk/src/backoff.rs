//! Pauses between attempts: doubling, capped, and spread so that the frameworks of a failed
//! master do not all return in the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let longest = longest.max(first);
        Backoff { first, longest, next: first }
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause.mul_f64(1.0 - 0.5 * random_fraction())
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// In 0..1. Good enough to spread reconnections; the standard library seeds each `RandomState`
/// differently, which saves a dependency.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for full_ms in [100, 200, 350, 350] {
            let full = Duration::from_millis(full_ms);
            let pause = backoff.next_pause();
            assert!(pause <= full && pause >= full / 2, "{pause:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }
}
