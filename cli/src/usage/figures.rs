//! What one task uses, and how fast.

use mezzo_sdk::v1::ResourceStatistics;
use mezzo_sdk::v1::agent::TaskStatistics;
use serde::Serialize;

use crate::output::Row;

/// The JSON form of what a task uses. Rates need two measurements and are null without an earlier one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    task_id: String,
    name: String,
    framework_id: String,
    role: String,
    agent_id: String,
    agent: String,
    container_id: String,
    /// Processors used since the earlier measurement.
    cpus: Option<f64>,
    cpus_requested: Option<f64>,
    cpus_limit: Option<f64>,
    cpu_user_seconds: f64,
    cpu_system_seconds: f64,
    /// Share of the scheduler's windows in which the task ran into its limit, 0 to 1, since the earlier measurement.
    throttled: Option<f64>,
    throttled_seconds: f64,
    mem_bytes: u64,
    mem_anon_bytes: u64,
    mem_cache_bytes: u64,
    mem_swap_bytes: u64,
    mem_limit_bytes: Option<u64>,
    threads: u32,
    /// When it was measured, in seconds since 1970.
    timestamp: f64,
}

/// Where a task runs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) agent_id: String,
    pub(crate) hostname: String,
}

impl Figures {
    pub(crate) fn new(
        now: &TaskStatistics,
        before: Option<&TaskStatistics>,
        place: &Place,
    ) -> Self {
        let statistics = now.statistics.clone().unwrap_or_default();
        // Another run of the same id begins to count anew.
        let before = before
            .filter(|before| before.container_id == now.container_id)
            .and_then(|before| before.statistics.as_ref());
        let elapsed = before.map(|before| statistics.timestamp - before.timestamp);
        let elapsed = elapsed.filter(|seconds| *seconds > 0.0);
        let cpus = before.zip(elapsed).map(|(before, elapsed)| {
            ((cpu_seconds(&statistics) - cpu_seconds(before)) / elapsed).max(0.0)
        });
        let throttled = before.and_then(|before| {
            let grown = |now: Option<u32>, before: Option<u32>| {
                now.unwrap_or_default().saturating_sub(before.unwrap_or_default())
            };
            let periods = grown(statistics.cpus_nr_periods, before.cpus_nr_periods);
            let throttled = grown(statistics.cpus_nr_throttled, before.cpus_nr_throttled);
            (periods > 0).then(|| f64::from(throttled) / f64::from(periods))
        });
        let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
        Figures {
            task_id: id(now.task_id.as_ref().map(|id| id.value.as_str())),
            name: now.name.clone(),
            framework_id: id(now.framework_id.as_ref().map(|id| id.value.as_str())),
            role: now.role.clone(),
            agent_id: place.agent_id.clone(),
            agent: place.hostname.clone(),
            container_id: id(now.container_id.as_ref().map(|id| id.value.as_str())),
            cpus,
            cpus_requested: statistics.cpus_soft_limit,
            cpus_limit: statistics.cpus_limit,
            cpu_user_seconds: statistics.cpus_user_time_secs.unwrap_or_default(),
            cpu_system_seconds: statistics.cpus_system_time_secs.unwrap_or_default(),
            throttled,
            throttled_seconds: statistics.cpus_throttled_time_secs.unwrap_or_default(),
            mem_bytes: statistics.mem_total_bytes.unwrap_or_default(),
            mem_anon_bytes: statistics.mem_anon_bytes.unwrap_or_default(),
            mem_cache_bytes: statistics.mem_cache_bytes.unwrap_or_default(),
            mem_swap_bytes: statistics.mem_swap_bytes.unwrap_or_default(),
            mem_limit_bytes: statistics.mem_limit_bytes,
            threads: statistics.threads.unwrap_or_default(),
            timestamp: statistics.timestamp,
        }
    }

    pub(crate) fn cpus(&self) -> f64 {
        self.cpus.unwrap_or_default()
    }

    pub(crate) fn mem_bytes(&self) -> u64 {
        self.mem_bytes
    }

    pub(crate) fn task_id(&self) -> &str {
        &self.task_id
    }

    /// Everything, name and value, for people.
    pub(crate) fn lines(&self) -> Vec<Figure> {
        let line = |name, value| Figure { name, value };
        let limit = |limit: Option<f64>| limit.map_or_else(|| "none".to_owned(), cpus);
        vec![
            line("task", self.task_id.clone()),
            line("name", self.name.clone()),
            line("framework", self.framework_id.clone()),
            line("role", self.role.clone()),
            line("agent", format!("{} ({})", self.agent, self.agent_id)),
            line("container", self.container_id.clone()),
            line("cpus used", self.cpus.map_or_else(|| "-".to_owned(), cpus)),
            line("cpus requested", limit(self.cpus_requested)),
            line("cpus limit", limit(self.cpus_limit)),
            line("cpu time, user", format!("{:.2} s", self.cpu_user_seconds)),
            line("cpu time, system", format!("{:.2} s", self.cpu_system_seconds)),
            line(
                "throttled",
                format!("{}, {:.2} s in all", self.throttled(), self.throttled_seconds),
            ),
            line("memory", self.memory()),
            line("memory, anonymous", bytes(self.mem_anon_bytes)),
            line("memory, page cache", bytes(self.mem_cache_bytes)),
            line("memory, swapped", bytes(self.mem_swap_bytes)),
            line("threads", self.threads.to_string()),
        ]
    }

    fn throttled(&self) -> String {
        self.throttled.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0))
    }

    fn memory(&self) -> String {
        match self.mem_limit_bytes {
            Some(limit) => format!("{} of {}", bytes(self.mem_bytes), bytes(limit)),
            None => bytes(self.mem_bytes),
        }
    }
}

impl Row for Figures {
    const HEADINGS: &'static [&'static str] =
        &["TASK", "AGENT", "CPUS", "OF", "THROTTLED", "MEMORY", "THREADS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.task_id.clone(),
            self.agent.clone(),
            self.cpus.map_or_else(|| "-".to_owned(), cpus),
            self.cpus_limit.or(self.cpus_requested).map_or_else(String::new, cpus),
            self.throttled(),
            self.memory(),
            self.threads.to_string(),
        ]
    }
}

/// One line of `mezzo stats`.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    value: String,
}

impl Row for Figure {
    const HEADINGS: &'static [&'static str] = &["FIGURE", "VALUE"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.to_owned(), self.value.clone()]
    }
}

fn cpu_seconds(statistics: &ResourceStatistics) -> f64 {
    statistics.cpus_user_time_secs.unwrap_or_default()
        + statistics.cpus_system_time_secs.unwrap_or_default()
}

fn cpus(cpus: f64) -> String {
    format!("{cpus:.2}")
}

/// In the largest unit that leaves a number of one digit at least.
fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1;

    use super::*;

    fn measured(
        container: &str,
        at: f64,
        cpu: f64,
        periods: u32,
        throttled: u32,
    ) -> TaskStatistics {
        TaskStatistics {
            task_id: Some(v1::TaskId { value: "web.1".to_owned() }),
            container_id: Some(v1::ContainerId {
                value: container.to_owned(),
                ..Default::default()
            }),
            statistics: Some(ResourceStatistics {
                timestamp: at,
                cpus_user_time_secs: Some(cpu),
                cpus_limit: Some(0.5),
                cpus_nr_periods: Some(periods),
                cpus_nr_throttled: Some(throttled),
                mem_total_bytes: Some(12 << 20),
                mem_limit_bytes: Some(32 << 20),
                threads: Some(3),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn cells(now: &TaskStatistics, before: Option<&TaskStatistics>) -> Vec<String> {
        let place = Place { agent_id: "S0".to_owned(), hostname: "node1".to_owned() };
        Figures::new(now, before, &place).cells()
    }

    #[test]
    fn rates_are_of_one_run() {
        let before = measured("c1", 10.0, 1.0, 100, 10);
        let now = measured("c1", 12.0, 2.0, 120, 15);
        let memory = "12.0 MiB of 32.0 MiB";
        assert_eq!(
            cells(&now, Some(&before)),
            ["web.1", "node1", "0.50", "0.50", "25%", memory, "3"]
        );
        assert_eq!(cells(&now, None), ["web.1", "node1", "-", "0.50", "-", memory, "3"]);
        let again = measured("c2", 12.0, 0.1, 1, 0);
        assert_eq!(cells(&again, Some(&before))[2], "-");
    }

    #[test]
    fn bytes_have_a_fitting_unit() {
        for (amount, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (200 << 20, "200 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }
}
