//! Lines of the log about those who connect: few, however many the occasions.

use std::time::{Duration, Instant};

use crate::log::say;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// When something was said last, and how much was not said since.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Option<Instant>,
    withheld: u64,
}

impl Complaints {
    /// Says what happened at `now`, or counts it for the next line.
    pub fn complain(&mut self, now: Instant, message: std::fmt::Arguments<'_>) {
        match self.admit(now) {
            None => {}
            Some(0) => say(message),
            Some(withheld) => say(format_args!("{message} ({withheld} such lines left out)")),
        }
    }

    /// Whether a line may be written now, and how many were not before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.withheld += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_counts_the_others() {
        let mut complaints = Complaints::default();
        let begin = Instant::now();
        assert_eq!(complaints.admit(begin), Some(0));
        for _ in 0..1000 {
            assert_eq!(complaints.admit(begin + PAUSE / 2), None);
        }
        assert_eq!(complaints.admit(begin + PAUSE), Some(1000));
        assert_eq!(complaints.admit(begin + 3 * PAUSE), Some(0));
    }
}
