//! Which runs' directories have had their time.
//!
//! A directory may stay for a time after its run has ended, and the fuller the disk is, the shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mezzo_types::Now;

/// How long directories of ended runs stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    /// On an empty disk, without headroom.
    pub delay: Duration,
    /// Part of the disk, 0 to 1, that is to stay free.
    pub headroom: f64,
}

impl Retention {
    /// The greatest age that a directory may have while `disk_usage`, 0 to 1, of the disk is in use:
    /// `delay · max(0, 1 − headroom − disk_usage)` (Mesos, `docs/sandbox.md`). A usage that is no
    /// number is taken for an empty disk: what cannot be measured is no reason to delete.
    pub fn allowed_age(&self, disk_usage: f64) -> Duration {
        let usage = if disk_usage.is_finite() { disk_usage.clamp(0.0, 1.0) } else { 0.0 };
        let part = (1.0 - self.headroom - usage).clamp(0.0, 1.0);
        Duration::try_from_secs_f64(self.delay.as_secs_f64() * part).unwrap_or(Duration::MAX)
    }
}

/// Ended runs by the time of their ending. As large as the set of directories that are there.
#[derive(Clone, Debug)]
pub struct Collection<K> {
    /// Monotonic nanoseconds; runs that ended before this process began have negative ones. So a
    /// wall clock that is set makes nothing old.
    ended: BTreeMap<K, i64>,
    by_time: BTreeSet<(i64, K)>,
}

impl<K> Default for Collection<K> {
    fn default() -> Self {
        Collection { ended: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Collection<K> {
    /// Notes a run that ended at `ended_unix_ns`; an ending in the future is one now. Of two endings
    /// of one run the later one counts.
    pub fn add(&mut self, now: Now, run: K, ended_unix_ns: i64) {
        let age = now.unix_ns.saturating_sub(ended_unix_ns).max(0);
        let mut at = monotonic(now).saturating_sub(age);
        if let Some(known) = self.ended.get(&run) {
            self.by_time.remove(&(*known, run.clone()));
            at = at.max(*known);
        }
        self.by_time.insert((at, run.clone()));
        self.ended.insert(run, at);
    }

    /// Number of directories that wait.
    pub fn len(&self) -> usize {
        self.ended.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Takes out the oldest run that is older than `allowed`, if there is one.
    pub fn take_older(&mut self, now: Now, allowed: Duration) -> Option<K> {
        let (ended, _) = self.by_time.first()?;
        if monotonic(now) < ended.saturating_add(nanos(allowed)) {
            return None;
        }
        let (_, run) = self.by_time.pop_first()?;
        self.ended.remove(&run);
        Some(run)
    }

    /// Monotonic time, in nanoseconds, at which [`Self::take_older`] has something to give.
    pub fn poll_timeout(&self, allowed: Duration) -> Option<u64> {
        let (ended, _) = self.by_time.first()?;
        Some(u64::try_from(ended.saturating_add(nanos(allowed))).unwrap_or(0))
    }
}

fn monotonic(now: Now) -> i64 {
    i64::try_from(now.mono_ns).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    const MESOS: Retention = Retention { delay: WEEK, headroom: 0.1 };

    fn at(mono_s: u64, unix_s: i64) -> Now {
        Now { mono_ns: mono_s * 1_000_000_000, unix_ns: unix_s * 1_000_000_000 }
    }

    #[test]
    fn the_fuller_the_disk_the_shorter_the_stay() {
        let share = |usage| MESOS.allowed_age(usage).as_secs_f64() / WEEK.as_secs_f64();
        for (usage, expected) in [(0.0, 0.9), (0.5, 0.4), (0.89, 0.01), (0.9, 0.0), (1.0, 0.0)] {
            assert!((share(usage) - expected).abs() < 1e-9, "{usage}: {}", share(usage));
        }
        // What cannot be measured deletes nothing early.
        assert!((share(f64::NAN) - 0.9).abs() < 1e-9);
        let forever = Retention { delay: Duration::MAX, headroom: 0.0 };
        assert_eq!(forever.allowed_age(0.0), Duration::MAX);
    }

    #[test]
    fn the_oldest_goes_first_and_only_when_it_is_old() {
        let mut runs = Collection::default();
        // The process began when the wall clock was at 1000 s.
        runs.add(at(10, 1010), "new", 1_005_000_000_000);
        runs.add(at(10, 1010), "old", 400_000_000_000);
        runs.add(at(10, 1010), "future", 9_999_000_000_000);
        let allowed = Duration::from_secs(100);
        assert_eq!(runs.poll_timeout(allowed), Some(0), "long due");
        assert_eq!(runs.take_older(at(10, 1010), allowed), Some("old"));
        assert_eq!(runs.take_older(at(104, 0), allowed), None, "the wall clock does not matter");
        assert_eq!(runs.poll_timeout(allowed), Some(105_000_000_000));
        assert_eq!(runs.take_older(at(105, 0), allowed), Some("new"));
        assert_eq!(runs.take_older(at(105, 0), allowed), None);
        assert_eq!(runs.take_older(at(110, 0), allowed), Some("future"), "counted from its adding");
        assert!(runs.is_empty() && runs.poll_timeout(allowed).is_none());
    }

    #[test]
    fn a_run_is_noted_once_with_its_last_ending() {
        let mut runs = Collection::default();
        runs.add(at(10, 1010), "run", 500_000_000_000);
        runs.add(at(10, 1010), "run", 1_010_000_000_000);
        runs.add(at(10, 1010), "run", 500_000_000_000);
        assert_eq!(runs.len(), 1);
        assert_eq!(runs.poll_timeout(Duration::ZERO), Some(10_000_000_000));
    }

    proptest! {
        /// The formula, and that a fuller disk or a larger headroom never lengthens the stay.
        #[test]
        fn the_allowed_age_is_mesos(
            delay_s in 0u64..100_000_000,
            headroom in 0.0f64..=1.0,
            usage in 0.0f64..=1.0,
            more in 0.0f64..=1.0,
        ) {
            let delay = Duration::from_secs(delay_s);
            let age = Retention { delay, headroom }.allowed_age(usage);
            let expected = delay_s as f64 * (1.0 - headroom - usage).max(0.0);
            prop_assert!((age.as_secs_f64() - expected).abs() <= 1e-6 + expected * 1e-9);
            prop_assert!(age <= delay);
            let fuller = Retention { delay, headroom }.allowed_age(usage.max(more));
            let roomier = Retention { delay, headroom: headroom.max(more) }.allowed_age(usage);
            prop_assert!(fuller <= age && roomier <= age);
        }

        /// What is taken is exactly what is old enough, oldest first, each once.
        #[test]
        fn exactly_the_old_ones_are_taken(
            ends in proptest::collection::vec(0i64..1000, 0..40),
            later in 0u64..2000,
            allowed_s in 0u64..1500,
        ) {
            let mut runs = Collection::default();
            for (run, end) in ends.iter().enumerate() {
                runs.add(at(0, 1000), run, end * 1_000_000_000);
            }
            let now = at(later, -5);
            let mut taken = Vec::new();
            while let Some(run) = runs.take_older(now, Duration::from_secs(allowed_s)) {
                taken.push(run);
            }
            let old = |end: &i64| 1000 + later as i64 - end >= allowed_s as i64;
            let mut expected: Vec<usize> = (0..ends.len()).filter(|run| old(&ends[*run])).collect();
            expected.sort_by_key(|run| (ends[*run], *run));
            prop_assert_eq!(&taken, &expected);
            prop_assert_eq!(runs.len(), ends.len() - taken.len());
            let next = runs.poll_timeout(Duration::from_secs(allowed_s));
            prop_assert!(next.is_none_or(|next| next > now.mono_ns));
        }
    }
}
