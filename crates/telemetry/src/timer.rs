//! How long things take.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Statistics are of the latest so many durations.
const WINDOW: usize = 1000;

/// Percentiles that Mesos shows, with the ends of their names.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

/// Durations of one kind of work. Mesos' form shows statistics of the latest thousand, in
/// milliseconds; Prometheus gets a histogram of all of them, in seconds.
#[derive(Clone, Debug)]
pub struct Timer {
    latest: Arc<Mutex<VecDeque<f64>>>,
    pub(crate) histogram: Histogram,
}

/// A measurement under way; ends when dropped.
#[derive(Debug)]
pub struct Timing<'a> {
    timer: &'a Timer,
    since: Instant,
}

impl Timer {
    /// A timer that is in no registry: for tests.
    pub fn new() -> Timer {
        // 0.1 ms to 1.6 s by doubling, then on to 105 s by fours.
        let buckets =
            exponential_buckets(0.0001, 2.0, 15).chain(exponential_buckets(6.5536, 4.0, 3));
        Timer { latest: Arc::default(), histogram: Histogram::new(buckets) }
    }

    pub fn observe(&self, duration: Duration) {
        self.histogram.observe(duration.as_secs_f64());
        let mut latest = self.latest();
        if latest.len() == WINDOW {
            latest.pop_front();
        }
        latest.push_back(duration.as_secs_f64() * 1000.0);
    }

    /// Measures until the answer is dropped.
    pub fn start(&self) -> Timing<'_> {
        Timing { timer: self, since: Instant::now() }
    }

    /// Mesos' names below `name` with their values, in milliseconds. Without any durations there
    /// are no statistics either.
    pub(crate) fn statistics(&self, name: &str) -> Vec<(String, f64)> {
        let latest = self.latest();
        let Some(&last) = latest.back() else {
            return vec![(format!("{name}/count"), 0.0)];
        };
        let mut sorted: Vec<f64> = latest.iter().copied().collect();
        drop(latest);
        sorted.sort_unstable_by(f64::total_cmp);
        let mut statistics = vec![
            (name.to_owned(), last),
            (format!("{name}/count"), sorted.len() as f64),
            (format!("{name}/min"), sorted[0]),
            (format!("{name}/max"), sorted[sorted.len() - 1]),
        ];
        for (suffix, share) in PERCENTILES {
            statistics.push((format!("{name}/{suffix}"), percentile(&sorted, share)));
        }
        statistics
    }

    fn latest(&self) -> MutexGuard<'_, VecDeque<f64>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Timer {
    fn default() -> Self {
        Timer::new()
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.timer.observe(self.since.elapsed());
    }
}

/// Interpolated between the two values around the place, as Mesos does.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_of_the_latest_durations() {
        let timer = Timer::new();
        assert_eq!(timer.statistics("x_ms"), [("x_ms/count".to_owned(), 0.0)]);
        // The first hundred are forgotten.
        for ms in (0..100).map(|_| 1_000_000).chain(0..=999) {
            timer.observe(Duration::from_millis(ms));
        }
        let statistics = timer.statistics("x_ms");
        let get = |name: &str| statistics.iter().find(|(held, _)| held == name).unwrap().1;
        assert_eq!(get("x_ms"), 999.0);
        assert_eq!(get("x_ms/count"), 1000.0);
        assert_eq!(get("x_ms/min"), 0.0);
        assert_eq!(get("x_ms/max"), 999.0);
        assert!((get("x_ms/p50") - 499.5).abs() < 1e-9);
        assert!((get("x_ms/p99") - 989.01).abs() < 1e-9);
        assert_eq!(statistics.len(), 10);
    }

    #[test]
    fn a_measurement_ends_when_dropped() {
        let timer = Timer::new();
        drop(timer.start());
        assert_eq!(timer.latest().len(), 1);
    }
}
