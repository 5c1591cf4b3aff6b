//! Noticing that a server has fallen silent.

use std::time::Duration;

use tokio::time::Instant;

/// So many heartbeats may fail to appear before a stream is taken for dead; Mesos advises its
/// frameworks to wait as long.
const MISSED_HEARTBEATS: u32 = 5;

/// Longer intervals are no promise that anybody can wait for.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Watches one stream. Until a heartbeat was announced or seen it expects none: some servers send
/// none over gRPC, which has a sign of life of its own.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Between heartbeats of a server that does not say how often it sends them.
    usual: Duration,
    interval: Option<Duration>,
    deadline: Option<Instant>,
}

impl Watchdog {
    pub(crate) fn new(usual: Duration) -> Self {
        Watchdog { usual, interval: None, deadline: None }
    }

    /// The server said how often it sends one. Zero is no interval.
    pub(crate) fn announced(&mut self, interval: Option<Duration>, now: Instant) {
        self.interval = interval.filter(|interval| !interval.is_zero());
        self.heard(now);
    }

    /// A heartbeat came.
    pub(crate) fn beat(&mut self, now: Instant) {
        self.interval.get_or_insert(self.usual);
        self.heard(now);
    }

    /// Anything came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.deadline = self
            .interval
            .map(|interval| now + interval.min(LONGEST_INTERVAL).saturating_mul(MISSED_HEARTBEATS));
    }

    /// When the stream is dead if nothing comes before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_what_was_heard_last() {
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        let mut watchdog = Watchdog::new(Duration::from_secs(15));
        watchdog.heard(start);
        assert_eq!(watchdog.deadline(), None, "nothing was promised");
        watchdog.beat(start);
        assert_eq!(watchdog.deadline(), at(75));
        watchdog.announced(Some(Duration::from_secs(2)), start);
        assert_eq!(watchdog.deadline(), at(10));
        watchdog.heard(start + Duration::from_secs(9));
        assert_eq!(watchdog.deadline(), at(19));
        watchdog.announced(Some(Duration::ZERO), start);
        assert_eq!(watchdog.deadline(), None);
    }
}
