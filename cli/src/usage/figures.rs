//! What one task uses, and how fast.

use mezzo_sdk::v1::ResourceStatistics;
use mezzo_sdk::v1::agent::TaskStatistics;
use serde::Serialize;

use crate::output::Row;
use crate::usage::amount::{absent, bytes, cpus, short_bytes};
use crate::usage::kernel::Kernel;

/// Characters of a task's id in a table of many tasks.
const ID_WIDTH: usize = 16;

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
    cpu_user_seconds: Option<f64>,
    cpu_system_seconds: Option<f64>,
    /// Share of the scheduler's windows in which the task ran into its limit, 0 to 1, since the earlier measurement.
    throttled: Option<f64>,
    throttled_seconds: Option<f64>,
    mem_bytes: Option<u64>,
    mem_anon_bytes: Option<u64>,
    mem_cache_bytes: Option<u64>,
    mem_swap_bytes: Option<u64>,
    mem_limit_bytes: Option<u64>,
    threads: Option<u32>,
    #[serde(flatten)]
    kernel: Kernel,
    /// Refused ports and devices; null if neither is guarded.
    denials: Option<u64>,
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
        let earlier = before.filter(|before| before.container_id == now.container_id);
        let before = earlier.and_then(|before| before.statistics.as_ref());
        let elapsed = before.map(|before| statistics.timestamp - before.timestamp);
        let elapsed = elapsed.filter(|seconds| *seconds > 0.0);
        let cpus = before.zip(elapsed).and_then(|(before, elapsed)| {
            Some(((cpu_seconds(&statistics)? - cpu_seconds(before)?) / elapsed).max(0.0))
        });
        let throttled = before.and_then(|before| {
            let grown = |now: Option<u32>, before: Option<u32>| {
                now.unwrap_or_default().saturating_sub(before.unwrap_or_default())
            };
            let periods = grown(statistics.cpus_nr_periods, before.cpus_nr_periods);
            let throttled = grown(statistics.cpus_nr_throttled, before.cpus_nr_throttled);
            (periods > 0).then(|| f64::from(throttled) / f64::from(periods))
        });
        let kernel = now.kernel.as_ref().map_or_else(Kernel::default, |kernel| {
            let before = earlier.and_then(|before| before.kernel.as_ref());
            Kernel::new(kernel, before.zip(elapsed))
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
            cpu_user_seconds: statistics.cpus_user_time_secs,
            cpu_system_seconds: statistics.cpus_system_time_secs,
            throttled,
            throttled_seconds: statistics.cpus_throttled_time_secs,
            mem_bytes: statistics.mem_total_bytes,
            mem_anon_bytes: statistics.mem_anon_bytes,
            mem_cache_bytes: statistics.mem_cache_bytes,
            mem_swap_bytes: statistics.mem_swap_bytes,
            mem_limit_bytes: statistics.mem_limit_bytes,
            threads: statistics.threads,
            denials: kernel.denials(),
            kernel,
            timestamp: statistics.timestamp,
        }
    }

    pub(crate) fn cpus(&self) -> f64 {
        self.cpus.unwrap_or_default()
    }

    pub(crate) fn mem_bytes(&self) -> u64 {
        self.mem_bytes.unwrap_or_default()
    }

    pub(crate) fn task_id(&self) -> &str {
        &self.task_id
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    pub(crate) fn denials(&self) -> u64 {
        self.denials.unwrap_or_default()
    }

    /// When it was measured, in seconds since 1970, by the agent's clock.
    pub(crate) fn timestamp(&self) -> f64 {
        self.timestamp
    }

    /// Everything, name and value, for people.
    pub(crate) fn lines(&self) -> Vec<Figure> {
        let limit = |limit: Option<f64>| limit.map_or_else(|| "none".to_owned(), cpus);
        let seconds = |seconds: Option<f64>| seconds.map(|seconds| format!("{seconds:.2} s"));
        let throttled = self.throttled_seconds.map(|seconds| {
            let share = self.throttled().unwrap_or_else(absent);
            format!("{share}, {seconds:.2} s in all")
        });
        let memory = self.mem_bytes.map(|used| match self.mem_limit_bytes {
            Some(limit) => format!("{} of {}", bytes(used), bytes(limit)),
            None => bytes(used),
        });
        let figures = [
            ("task", Some(self.task_id.clone())),
            ("name", Some(self.name.clone())),
            ("framework", Some(self.framework_id.clone())),
            ("role", Some(self.role.clone())),
            ("agent", Some(format!("{} ({})", self.agent, self.agent_id))),
            ("container", Some(self.container_id.clone())),
            ("cpus used", Some(self.cpus.map_or_else(absent, cpus))),
            ("cpus requested", Some(limit(self.cpus_requested))),
            ("cpus limit", Some(limit(self.cpus_limit))),
            ("cpu time, user", seconds(self.cpu_user_seconds)),
            ("cpu time, system", seconds(self.cpu_system_seconds)),
            ("throttled", throttled),
            ("memory", memory),
            ("memory, anonymous", self.mem_anon_bytes.map(bytes)),
            ("memory, page cache", self.mem_cache_bytes.map(bytes)),
            ("memory, swapped", self.mem_swap_bytes.map(bytes)),
            ("threads", self.threads.map(|threads| threads.to_string())),
        ];
        let line = |(name, value): (&str, Option<String>)| Some(Figure::new(name, value?));
        let mut lines = Vec::from_iter(figures.into_iter().filter_map(line));
        lines.extend(self.kernel.lines());
        lines
    }

    fn throttled(&self) -> Option<String> {
        self.throttled.map(|share| format!("{:.0}%", share * 100.0))
    }

    /// In short.
    fn memory(&self) -> Option<String> {
        let used = short_bytes(self.mem_bytes? as f64);
        Some(match self.mem_limit_bytes {
            Some(limit) => format!("{used}/{}", short_bytes(limit as f64)),
            None => used,
        })
    }
}

impl Row for Figures {
    /// All but the last one fit on 100 columns, and it is the one to miss on a terminal that has fewer.
    const HEADINGS: &'static [&'static str] = &[
        "TASK", "CPUS", "OF", "THROT", "RUNQ99", "MEMORY", "THR", "RX/s", "TX/s", "RD/s", "WR/s",
        "DENIED", "AGENT",
    ];

    fn cells(&self) -> Vec<String> {
        let [delay, rates @ ..] = self.kernel.cells();
        let mut cells = vec![
            shortened(&self.task_id),
            self.cpus.map_or_else(absent, cpus),
            self.cpus_limit.or(self.cpus_requested).map_or_else(String::new, cpus),
            self.throttled().unwrap_or_else(absent),
            delay,
            self.memory().unwrap_or_else(absent),
            self.threads.map_or_else(absent, |threads| threads.to_string()),
        ];
        cells.extend(rates);
        cells.push(self.denials.map_or_else(absent, |denials| denials.to_string()));
        cells.push(self.agent.clone());
        cells
    }
}

/// Ids that differ do so at their ends most often, so the middle is left out.
fn shortened(id: &str) -> String {
    let characters = Vec::from_iter(id.chars());
    if characters.len() <= ID_WIDTH {
        return id.to_owned();
    }
    let kept = ID_WIDTH - 1;
    let (begin, end) = (kept / 2, characters.len() - (kept - kept / 2));
    let text = |part: &[char]| String::from_iter(part);
    format!("{}…{}", text(&characters[..begin]), text(&characters[end..]))
}

/// One line of `mezzo stats`.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: String,
}

impl Figure {
    pub(crate) fn new(name: &str, value: String) -> Self {
        Figure { name: name.to_owned(), value }
    }
}

impl Row for Figure {
    const HEADINGS: &'static [&'static str] = &["FIGURE", "VALUE"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.value.clone()]
    }
}

fn cpu_seconds(statistics: &ResourceStatistics) -> Option<f64> {
    Some(statistics.cpus_user_time_secs? + statistics.cpus_system_time_secs?)
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1;
    use mezzo_sdk::v1::agent::{
        BlockStatistics, DelayBucket, FamilyTraffic, KernelStatistics, NetworkStatistics,
        SchedulerStatistics, Traffic,
    };

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
                cpus_system_time_secs: Some(0.0),
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
        let memory = "12.0M/32.0M";
        let first = |cells: Vec<String>| Vec::from_iter(cells.into_iter().take(7));
        assert_eq!(
            first(cells(&now, Some(&before))),
            ["web.1", "0.50", "0.50", "25%", "-", memory, "3"]
        );
        assert_eq!(first(cells(&now, None)), ["web.1", "-", "0.50", "-", "-", memory, "3"]);
        let again = measured("c2", 12.0, 0.1, 1, 0);
        assert_eq!(cells(&again, Some(&before))[1], "-");
    }

    #[test]
    fn what_the_kernel_counts_is_in_the_line() {
        let counting = |at, bytes_in| {
            let udp = Traffic { bytes_in, packets_in: 1, ..Traffic::default() };
            let ipv6 = FamilyTraffic { udp: Some(udp), ..FamilyTraffic::default() };
            let network = NetworkStatistics { ipv6: Some(ipv6), ..NetworkStatistics::default() };
            let kernel = KernelStatistics {
                network: Some(network),
                device_denials: Some(2),
                ..KernelStatistics::default()
            };
            TaskStatistics { kernel: Some(kernel), ..measured("c1", at, 1.0, 1, 0) }
        };
        let cells = cells(&counting(12.0, 4096), Some(&counting(10.0, 0)));
        assert_eq!(cells[7..], ["2.0K", "0", "-", "-", "2", "node1"]);
    }

    #[test]
    fn a_line_fits_a_screen() {
        let at = |timestamp, amount: u64| {
            let traffic = Traffic { bytes_in: amount, bytes_out: amount, ..Traffic::default() };
            let ipv4 = FamilyTraffic { tcp: Some(traffic), ..FamilyTraffic::default() };
            let network = NetworkStatistics { ipv4: Some(ipv4), ..NetworkStatistics::default() };
            let run_delays = vec![DelayBucket { below_ns: Some(1 << 29), count: amount }];
            let kernel = KernelStatistics {
                network: Some(network),
                scheduler: Some(SchedulerStatistics { run_delays, ..Default::default() }),
                block: Some(BlockStatistics {
                    read_bytes: amount,
                    written_bytes: amount,
                    ..BlockStatistics::default()
                }),
                device_denials: Some(123_456),
                ..KernelStatistics::default()
            };
            let mut measured = measured("c1", timestamp, timestamp, 100, 0);
            let statistics = measured.statistics.as_mut().expect("there are some");
            (statistics.mem_total_bytes, statistics.mem_limit_bytes) =
                (Some(1023 << 20), Some(1023 << 20));
            statistics.threads = Some(999);
            let task_id = Some(v1::TaskId { value: "a-long-name.of.the.task-0001".to_owned() });
            TaskStatistics { task_id, kernel: Some(kernel), ..measured }
        };
        let place = Place { agent_id: "S0".to_owned(), hostname: "node1".to_owned() };
        let figures = Figures::new(&at(12.0, 2046 << 20), Some(&at(10.0, 0)), &place);
        let table = crate::output::table(&[figures]);
        let line = table.lines().last().expect("a line");
        assert!(
            line.starts_with("a-long-…ask-0001  1.00  0.50  -      537ms   1023M/1023M"),
            "{line:?}"
        );
        let (line, _) = line.split_once("node1").expect("the agent is last");
        assert!(line.trim_end().chars().count() <= 100, "{line:?}");
    }
}
