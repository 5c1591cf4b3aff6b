//! What the kernel counts, as families for Prometheus: of each task, and of all tasks that ever ran here.

use std::collections::BTreeSet;

use mezzo_agent_accounting::{Counters, DELAY_BUCKETS, Feature, Flow, Usage, delay_bound_ns};
use mezzo_telemetry::{Families, Labels};

/// Whose figures they are, which decides what the families are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// `mezzo_task_…`.
    Task,
    /// `mezzo_tasks_…`.
    AllTasks,
}

/// A family of both.
#[derive(Clone, Copy, Debug)]
struct Name {
    task: &'static str,
    all: &'static str,
}

macro_rules! name {
    ($name:literal) => {
        Name { task: concat!("task_", $name), all: concat!("tasks_", $name) }
    };
}

impl Name {
    fn of(self, whose: Whose) -> &'static str {
        match whose {
            Whose::Task => self.task,
            Whose::AllTasks => self.all,
        }
    }
}

/// Traffic by family, protocol and direction.
type FlowOf = fn(&Counters) -> &Flow;

const FLOWS: [([&str; 3], FlowOf); 12] = [
    (["ipv4", "tcp", "in"], |counters| &counters.ipv4.tcp_in),
    (["ipv4", "tcp", "out"], |counters| &counters.ipv4.tcp_out),
    (["ipv4", "udp", "in"], |counters| &counters.ipv4.udp_in),
    (["ipv4", "udp", "out"], |counters| &counters.ipv4.udp_out),
    (["ipv4", "other", "in"], |counters| &counters.ipv4.other_in),
    (["ipv4", "other", "out"], |counters| &counters.ipv4.other_out),
    (["ipv6", "tcp", "in"], |counters| &counters.ipv6.tcp_in),
    (["ipv6", "tcp", "out"], |counters| &counters.ipv6.tcp_out),
    (["ipv6", "udp", "in"], |counters| &counters.ipv6.udp_in),
    (["ipv6", "udp", "out"], |counters| &counters.ipv6.udp_out),
    (["ipv6", "other", "in"], |counters| &counters.ipv6.other_in),
    (["ipv6", "other", "out"], |counters| &counters.ipv6.other_out),
];

const NETWORK_BYTES: Name = name!("network_bytes");
const NETWORK_PACKETS: Name = name!("network_packets");

/// Numbers, nanoseconds and microseconds.
#[derive(Clone, Copy, Debug)]
enum Unit {
    One,
    Ns,
    Us,
}

/// Any other counter: the feature that counts it, its family, and what tells it from others of that family.
type Counter = (Feature, Name, Option<(&'static str, &'static str)>, Unit, fn(&Counters) -> u64);

const READ: Option<(&str, &str)> = Some(("operation", "read"));
const WRITE: Option<(&str, &str)> = Some(("operation", "write"));
const VOLUNTARY: Option<(&str, &str)> = Some(("kind", "voluntary"));
const INVOLUNTARY: Option<(&str, &str)> = Some(("kind", "involuntary"));
const PORT: Option<(&str, &str)> = Some(("kind", "port"));
const DEVICE: Option<(&str, &str)> = Some(("kind", "device"));
const BLOCK_BYTES: Name = name!("block_bytes");
const BLOCK_OPERATIONS: Name = name!("block_operations");
const SWITCHES: Name = name!("context_switches");
const DENIALS: Name = name!("denials");

const COUNTERS: [Counter; 19] = [
    (Feature::Network, name!("tcp_rtt_samples"), None, Unit::One, |c| c.tcp_rtt_samples),
    (Feature::Network, name!("tcp_rtt_sum_seconds"), None, Unit::Us, |c| c.tcp_rtt_sum_us),
    (Feature::Retransmits, name!("tcp_retransmits"), None, Unit::One, |c| c.tcp_retransmits),
    (Feature::Scheduler, name!("cpu_witness_seconds"), None, Unit::Ns, |c| c.on_cpu_ns),
    (Feature::Scheduler, name!("cpu_wait_seconds"), None, Unit::Ns, |c| c.run_delay_ns),
    (Feature::Scheduler, SWITCHES, VOLUNTARY, Unit::One, |c| c.voluntary_switches),
    (Feature::Scheduler, SWITCHES, INVOLUNTARY, Unit::One, |c| c.involuntary_switches),
    (Feature::Block, BLOCK_BYTES, READ, Unit::One, |c| c.read_bytes),
    (Feature::Block, BLOCK_BYTES, WRITE, Unit::One, |c| c.written_bytes),
    (Feature::Block, BLOCK_OPERATIONS, READ, Unit::One, |c| c.read_operations),
    (Feature::Block, BLOCK_OPERATIONS, WRITE, Unit::One, |c| c.write_operations),
    (Feature::Processes, name!("forks"), None, Unit::One, |c| c.forks),
    (Feature::Processes, name!("execs"), None, Unit::One, |c| c.execs),
    (Feature::Processes, name!("exits"), None, Unit::One, |c| c.exits),
    (Feature::OomKills, name!("oom_kills"), None, Unit::One, |c| c.oom_kills),
    (Feature::Ports, DENIALS, PORT, Unit::One, |c| c.port_denials),
    (Feature::Devices, DENIALS, DEVICE, Unit::One, |c| c.device_denials),
    (Feature::Ports, name!("listen_drops"), None, Unit::One, |c| c.listen_drops),
    (Feature::Ports, name!("udp_unassigned"), None, Unit::One, |c| c.udp_unassigned),
];

/// Of ports and devices alike.
const UNREPORTED: Name = name!("unreported_denials");

const RUN_QUEUE_DELAY: Name = name!("run_queue_delay_seconds");

/// So many buckets of the kernel's are one here: each bound is four times the one before, for half as many lines.
const BUCKETS_IN_ONE: usize = 2;

/// Adds what the features that are on have counted. What is off is absent.
pub(super) fn add(
    families: &mut Families,
    whose: Whose,
    labels: &Labels,
    usage: &Usage,
    on: &BTreeSet<Feature>,
) {
    let counters = &usage.counters;
    if on.contains(&Feature::Network) {
        for ([family, protocol, direction], of) in FLOWS {
            let part = [("family", family), ("protocol", protocol), ("direction", direction)];
            let labels = labels.with(part);
            let flow = of(counters);
            families.counter(NETWORK_BYTES.of(whose), &labels, flow.bytes as f64);
            families.counter(NETWORK_PACKETS.of(whose), &labels, flow.packets as f64);
        }
    }
    for (feature, name, part, unit, of) in COUNTERS {
        if on.contains(&feature) {
            let value = of(counters) as f64;
            let value = match unit {
                Unit::One => value,
                Unit::Ns => value / 1e9,
                Unit::Us => value / 1e6,
            };
            families.counter(name.of(whose), &labels.with(part), value);
        }
    }
    if on.contains(&Feature::Ports) || on.contains(&Feature::Devices) {
        let unreported = counters.unreported_denials as f64;
        families.counter(UNREPORTED.of(whose), labels, unreported);
    }
    // Where they are switched off there are none at all.
    let observed = usage.delays.buckets.iter().any(|count| *count > 0);
    if on.contains(&Feature::Scheduler) && observed {
        let sum = counters.run_delay_ns as f64 / 1e9;
        families.histogram(RUN_QUEUE_DELAY.of(whose), labels, sum, delays(usage));
    }
}

/// Upper bounds in seconds; the last bucket has none.
fn delays(usage: &Usage) -> Vec<(f64, u64)> {
    let groups = usage.delays.buckets.chunks(BUCKETS_IN_ONE).enumerate();
    let bucket = |(index, group): (usize, &[u64])| {
        let last = index * BUCKETS_IN_ONE + group.len() - 1;
        let bound = match last + 1 {
            DELAY_BUCKETS => f64::INFINITY,
            _ => delay_bound_ns(last) as f64 / 1e9,
        };
        (bound, group.iter().sum())
    };
    groups.map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use mezzo_telemetry::Metrics;

    use super::*;

    fn text(whose: Whose, labels: Labels, usage: Usage, on: BTreeSet<Feature>) -> String {
        let metrics = Metrics::new();
        metrics.family_source(move |families| add(families, whose, &labels, &usage, &on));
        metrics.render_prometheus()
    }

    #[test]
    fn counters_are_in_seconds_and_bytes_under_stable_labels() {
        let mut usage = Usage::default();
        usage.counters.ipv6.udp_out = Flow { bytes: 76, packets: 2 };
        usage.counters.tcp_rtt_sum_us = 1500;
        usage.counters.run_delay_ns = 2_000_000_000;
        usage.counters.written_bytes = 4096;
        usage.counters.device_denials = 3;
        usage.delays.buckets[0] = 1;
        usage.delays.buckets[1] = 2;
        usage.delays.buckets[DELAY_BUCKETS - 1] = 4;
        let labels = Labels::new([("task", "web")]);
        let all = BTreeSet::from(Feature::ALL);
        let told = text(Whose::Task, labels, usage, all.clone());
        for line in [
            r#"mezzo_task_network_bytes_total{task="web",family="ipv6",protocol="udp",direction="out"} 76.0"#,
            r#"mezzo_task_network_packets_total{task="web",family="ipv4",protocol="tcp",direction="in"} 0.0"#,
            r#"mezzo_task_tcp_rtt_sum_seconds_total{task="web"} 0.0015"#,
            r#"mezzo_task_cpu_wait_seconds_total{task="web"} 2.0"#,
            r#"mezzo_task_block_bytes_total{task="web",operation="write"} 4096.0"#,
            r#"mezzo_task_denials_total{task="web",kind="device"} 3.0"#,
            r#"mezzo_task_run_queue_delay_seconds_sum{task="web"} 2.0"#,
            r#"mezzo_task_run_queue_delay_seconds_bucket{le="0.000002048",task="web"} 3"#,
            r#"mezzo_task_run_queue_delay_seconds_bucket{le="+Inf",task="web"} 7"#,
        ] {
            assert!(told.lines().any(|held| held == line), "{line} is not in:\n{told}");
        }
        assert_eq!(told.matches("run_queue_delay_seconds_bucket").count(), DELAY_BUCKETS / 2);
        let told = text(Whose::AllTasks, Labels::default(), usage, all);
        assert!(told.contains("\nmezzo_tasks_cpu_wait_seconds_total 2.0\n"), "{told}");
    }

    #[test]
    fn what_is_off_or_was_never_seen_has_no_line() {
        let usage = Usage::default();
        let nothing = text(Whose::Task, Labels::default(), usage, BTreeSet::new());
        assert_eq!(nothing.lines().count(), 1, "{nothing}");
        let scheduler =
            text(Whose::Task, Labels::default(), usage, BTreeSet::from([Feature::Scheduler]));
        assert!(scheduler.contains("context_switches") && !scheduler.contains("bucket"));
        assert!(!scheduler.contains("network"), "{scheduler}");
    }
}
