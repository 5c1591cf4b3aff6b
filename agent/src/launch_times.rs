//! How long launches take: from the loop's taking the request to its hearing that the command was
//! executed.

use std::collections::HashMap;
use std::time::Instant;

use mezzo_telemetry::Timer;
use mezzo_types::ContainerId;

/// Times launches. Holds one entry for each that is under way, so it is bounded by the tasks.
#[derive(Debug)]
pub(crate) struct LaunchTimes {
    timer: Timer,
    begun: HashMap<ContainerId, Instant>,
}

impl LaunchTimes {
    pub(crate) fn new(timer: Timer) -> Self {
        LaunchTimes { timer, begun: HashMap::new() }
    }

    /// The request for this container was taken at `begin`.
    pub(crate) fn begin(&mut self, container: ContainerId, begin: Instant) {
        self.begun.insert(container, begin);
    }

    /// Its command runs.
    pub(crate) fn executed(&mut self, container: &ContainerId) {
        if let Some(begin) = self.begun.remove(container) {
            self.timer.observe(begin.elapsed());
        }
    }

    /// Its command will not run.
    pub(crate) fn forget(&mut self, container: &ContainerId) {
        self.begun.remove(container);
    }
}

#[cfg(test)]
mod tests {
    use mezzo_telemetry::Metrics;

    use super::*;

    #[test]
    fn a_launch_is_timed_once_and_only_if_it_came_about() {
        let metrics = Metrics::new();
        let mut times = LaunchTimes::new(metrics.timer("launch_ms"));
        let [one, two] = ["one", "two"].map(ContainerId::from);
        times.begin(one.clone(), Instant::now());
        times.begin(two.clone(), Instant::now());
        times.forget(&two);
        for container in [&one, &one, &two] {
            times.executed(container);
        }
        assert_eq!(metrics.snapshot()["launch_ms/count"], 1.0);
        assert!(times.begun.is_empty());
    }
}
