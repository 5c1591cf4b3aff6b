//! How fast the disk syncs, and when that is worth a word.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A sync of a healthy disk takes milliseconds. From this long on people notice that answers wait for it.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// So long a slow sync speaks for the disk when no other one follows it, and so often at most it is logged.
const MEMORY: Duration = Duration::from_secs(60);

/// The disk is slow: one sentence for whoever asks how the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slowness {
    pub dir: PathBuf,
    /// How long the sync took, or has taken so far.
    pub sync: Duration,
    /// It has not come to an end.
    pub under_way: bool,
}

impl fmt::Display for Slowness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dir, seconds) = (self.dir.display(), self.sync.as_secs_f64());
        match self.under_way {
            true => write!(
                f,
                "the disk of {dir} is slow: a sync has been under way for {seconds:.1} s"
            )?,
            false => write!(f, "the disk of {dir} is slow: its latest sync took {seconds:.1} s")?,
        }
        f.write_str(
            "; what must be on the disk waits for it, nothing is lost, no restart is needed",
        )
    }
}

/// Watches the syncs of one store. Time comes in as an argument.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the syncs that are under way began: one of each thread that may sync.
    under_way: Vec<Instant>,
    /// When the latest one ended, and how long it took.
    latest: Option<(Instant, Duration)>,
    warned: Option<Instant>,
    /// The log says that the disk is slow, and not yet that it recovered.
    told: bool,
}

impl Pace {
    pub fn begin(&mut self, now: Instant) {
        self.under_way.push(now);
    }

    /// The sync that began at `began` has ended. Whether the log should say that the disk has recovered.
    pub fn end(&mut self, began: Instant, now: Instant) -> bool {
        if let Some(at) = self.under_way.iter().position(|other| *other == began) {
            self.under_way.swap_remove(at);
        }
        self.latest = Some((now, now.saturating_duration_since(began)));
        let recovered = self.told && self.slowness(now).is_none();
        self.told &= !recovered;
        recovered
    }

    /// How long the oldest sync has been under way, if there is one.
    pub fn waiting(&self, now: Instant) -> Option<Duration> {
        self.under_way.iter().min().map(|began| now.saturating_duration_since(*began))
    }

    /// How long the sync took by which the disk is slow, and whether it is still under way.
    pub fn slowness(&self, now: Instant) -> Option<(Duration, bool)> {
        let slow = |sync: &Duration| *sync >= SLOW_SYNC;
        if let Some(sync) = self.waiting(now).filter(slow) {
            return Some((sync, true));
        }
        let (ended, sync) = self.latest?;
        let speaks = slow(&sync) && now.saturating_duration_since(ended) < MEMORY;
        speaks.then_some((sync, false))
    }

    /// Whether the log should say now that the disk is slow.
    pub fn is_news(&mut self, now: Instant) -> bool {
        let lately =
            self.warned.is_some_and(|warned| now.saturating_duration_since(warned) < MEMORY);
        if lately || self.slowness(now).is_none() {
            return false;
        }
        self.warned = Some(now);
        self.told = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, seconds: f64) -> Instant {
        began + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_sync_under_way_is_slow_before_its_end_and_a_quick_one_clears_it() {
        let (mut pace, zero) = (Pace::default(), Instant::now());
        pace.begin(zero);
        assert_eq!(pace.slowness(at(zero, 0.9)), None);
        assert!(!pace.is_news(at(zero, 0.9)));
        assert_eq!(pace.slowness(at(zero, 3.0)), Some((Duration::from_secs(3), true)));
        assert!(pace.is_news(at(zero, 3.0)));
        assert!(!pace.is_news(at(zero, 4.0)), "said lately");
        assert!(!pace.end(zero, at(zero, 5.0)), "it was slow to its end");
        assert_eq!(pace.slowness(at(zero, 6.0)), Some((Duration::from_secs(5), false)));
        pace.begin(at(zero, 6.0));
        assert!(pace.end(at(zero, 6.0), at(zero, 6.1)), "it has recovered");
        assert_eq!(pace.slowness(at(zero, 6.1)), None);
        pace.begin(at(zero, 7.0));
        assert!(!pace.end(at(zero, 7.0), at(zero, 7.1)), "said once");
    }

    #[test]
    fn a_slow_sync_is_forgotten_when_nothing_follows_and_said_again_after_a_minute() {
        let (mut pace, zero) = (Pace::default(), Instant::now());
        pace.begin(zero);
        pace.end(zero, at(zero, 2.0));
        assert!(pace.is_news(at(zero, 2.0)));
        assert!(pace.slowness(at(zero, 61.9)).is_some());
        assert_eq!(pace.slowness(at(zero, 62.1)), None);
        pace.begin(at(zero, 70.0));
        assert!(pace.is_news(at(zero, 72.0)));
    }

    #[test]
    fn the_oldest_of_several_syncs_counts() {
        let (mut pace, zero) = (Pace::default(), Instant::now());
        pace.begin(zero);
        pace.begin(at(zero, 1.0));
        assert_eq!(pace.waiting(at(zero, 2.0)), Some(Duration::from_secs(2)));
        pace.end(zero, at(zero, 2.0));
        assert_eq!(pace.waiting(at(zero, 2.0)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_sentence_says_where_how_long_and_what_to_do() {
        let slow = Slowness {
            dir: "/data/store".into(),
            sync: Duration::from_millis(3240),
            under_way: true,
        };
        assert_eq!(
            slow.to_string(),
            "the disk of /data/store is slow: a sync has been under way for 3.2 s; what must be on the disk \
             waits for it, nothing is lost, no restart is needed"
        );
        let ended = Slowness { under_way: false, ..slow };
        assert!(ended.to_string().contains("is slow: its latest sync took 3.2 s; what"), "{ended}");
    }
}
