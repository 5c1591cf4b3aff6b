//! What the kernel counts of a task. A figure that its agent does not count is absent.

use std::collections::BTreeMap;

use mezzo_sdk::v1::agent::{
    DelayBucket, FamilyTraffic, KernelStatistics, NetworkStatistics, Traffic,
};
use serde::Serialize;

use crate::usage::amount::{absent, bytes, short_bytes, wait};
use crate::usage::figures::Figure;

/// The JSON form. All amounts are since the task began; rates are since the earlier measurement, and null without one.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Kernel {
    net_in_bytes: Option<u64>,
    net_in_packets: Option<u64>,
    net_out_bytes: Option<u64>,
    net_out_packets: Option<u64>,
    net_in_bytes_per_second: Option<f64>,
    net_out_bytes_per_second: Option<f64>,
    /// `net_ipv4_tcp_in_bytes` and so on: by family, protocol and direction.
    #[serde(flatten)]
    flows: BTreeMap<String, Option<u64>>,
    tcp_retransmits: Option<u64>,
    tcp_rtt_mean_us: Option<u64>,
    on_cpu_seconds: Option<f64>,
    run_queue_delay_seconds: Option<f64>,
    /// What half of all waits, and all but a hundredth, did not exceed; rounded up to a power of two of 1.024 µs.
    run_queue_delay_p50_ns: Option<u64>,
    run_queue_delay_p99_ns: Option<u64>,
    /// The same of the waits since the earlier measurement.
    latest_run_queue_delay_p99_ns: Option<u64>,
    voluntary_switches: Option<u64>,
    involuntary_switches: Option<u64>,
    block_read_bytes: Option<u64>,
    block_read_operations: Option<u64>,
    block_written_bytes: Option<u64>,
    block_write_operations: Option<u64>,
    block_read_bytes_per_second: Option<f64>,
    block_written_bytes_per_second: Option<f64>,
    forks: Option<u64>,
    execs: Option<u64>,
    exits: Option<u64>,
    oom_kills: Option<u64>,
    port_denials: Option<u64>,
    listen_drops: Option<u64>,
    udp_unassigned: Option<u64>,
    device_denials: Option<u64>,
    unreported_denials: Option<u64>,
    #[serde(skip)]
    delays: Vec<DelayBucket>,
}

impl Kernel {
    /// `before` is what was measured so many seconds earlier.
    pub(crate) fn new(now: &KernelStatistics, before: Option<(&KernelStatistics, f64)>) -> Self {
        let rate = |of: fn(&KernelStatistics) -> Option<u64>| {
            let (before, seconds) = before?;
            Some(of(now)?.saturating_sub(of(before)?) as f64 / seconds)
        };
        let network = now.network.as_ref();
        let scheduler = now.scheduler.as_ref();
        let (block, processes, ports) =
            (now.block.as_ref(), now.processes.as_ref(), now.ports.as_ref());
        let delays = scheduler.map_or_else(Vec::new, |of| of.run_delays.clone());
        let latest = before
            .and_then(|(before, _)| before.scheduler.as_ref())
            .and_then(|before| grown(&delays, &before.run_delays))
            .and_then(|delays| quantile_ns(&delays, 0.99));
        Kernel {
            net_in_bytes: received(now),
            net_in_packets: network.map(|of| sum(of, |traffic| traffic.packets_in)),
            net_out_bytes: sent(now),
            net_out_packets: network.map(|of| sum(of, |traffic| traffic.packets_out)),
            net_in_bytes_per_second: rate(received),
            net_out_bytes_per_second: rate(sent),
            flows: flows(network),
            tcp_retransmits: now.tcp_retransmits,
            tcp_rtt_mean_us: network.and_then(|of| of.tcp_rtt_mean_us),
            on_cpu_seconds: scheduler.map(|of| of.on_cpu_ns as f64 / 1e9),
            run_queue_delay_seconds: scheduler.map(|of| of.run_delay_ns as f64 / 1e9),
            run_queue_delay_p50_ns: scheduler.and_then(|of| of.run_delay_p50_ns),
            run_queue_delay_p99_ns: scheduler.and_then(|of| of.run_delay_p99_ns),
            latest_run_queue_delay_p99_ns: latest,
            voluntary_switches: scheduler.map(|of| of.voluntary_switches),
            involuntary_switches: scheduler.map(|of| of.involuntary_switches),
            block_read_bytes: block.map(|of| of.read_bytes),
            block_read_operations: block.map(|of| of.read_operations),
            block_written_bytes: block.map(|of| of.written_bytes),
            block_write_operations: block.map(|of| of.write_operations),
            block_read_bytes_per_second: rate(|of| Some(of.block.as_ref()?.read_bytes)),
            block_written_bytes_per_second: rate(|of| Some(of.block.as_ref()?.written_bytes)),
            forks: processes.map(|of| of.forks),
            execs: processes.map(|of| of.execs),
            exits: processes.map(|of| of.exits),
            oom_kills: now.oom_kills,
            port_denials: ports.map(|of| of.denials),
            listen_drops: ports.map(|of| of.listen_drops),
            udp_unassigned: ports.map(|of| of.udp_unassigned),
            device_denials: now.device_denials,
            unreported_denials: now.unreported_denials,
            delays,
        }
    }

    /// Refused ports and devices; absent if neither is guarded.
    pub(crate) fn denials(&self) -> Option<u64> {
        match (self.port_denials, self.device_denials) {
            (None, None) => None,
            (ports, devices) => Some(ports.unwrap_or_default() + devices.unwrap_or_default()),
        }
    }

    pub(crate) fn net_per_second(&self) -> f64 {
        self.net_in_bytes_per_second.unwrap_or_default()
            + self.net_out_bytes_per_second.unwrap_or_default()
    }

    pub(crate) fn block_per_second(&self) -> f64 {
        self.block_read_bytes_per_second.unwrap_or_default()
            + self.block_written_bytes_per_second.unwrap_or_default()
    }

    /// For one line of many: the longest of nearly all waits of late; bytes a second in, out, read, written.
    pub(crate) fn cells(&self) -> [String; 5] {
        let rate = |rate: Option<f64>| rate.map_or_else(absent, short_bytes);
        [
            self.latest_run_queue_delay_p99_ns.map_or_else(absent, wait),
            rate(self.net_in_bytes_per_second),
            rate(self.net_out_bytes_per_second),
            rate(self.block_read_bytes_per_second),
            rate(self.block_written_bytes_per_second),
        ]
    }

    /// Everything that is counted, for people.
    pub(crate) fn lines(&self) -> Vec<Figure> {
        let mut lines = Vec::new();
        let rate = |rate: Option<f64>| {
            rate.map_or_else(String::new, |rate| format!(", {}/s", bytes(rate as u64)))
        };
        let amount = |amount: Option<u64>, of: Option<u64>, what: &str, per_second| {
            let (amount, of) = (amount?, of?);
            Some(format!("{} in {of} {what}{}", bytes(amount), rate(per_second)))
        };
        let mut add = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| Figure::new(name, value)));
        };
        let count = |count: Option<u64>| count.map(|count| count.to_string());
        add(
            "network in",
            amount(self.net_in_bytes, self.net_in_packets, "packets", self.net_in_bytes_per_second),
        );
        add(
            "network out",
            amount(
                self.net_out_bytes,
                self.net_out_packets,
                "packets",
                self.net_out_bytes_per_second,
            ),
        );
        for (name, packets) in &self.flows {
            // Those without traffic would only be in the way.
            let Some(flow) = name.strip_suffix("_packets").filter(|_| *packets > Some(0)) else {
                continue;
            };
            let of = self.flows.get(&format!("{flow}_bytes")).copied().flatten();
            let name = flow.trim_start_matches("net_").replace('_', " ");
            add(&format!("network, {name}"), amount(of, *packets, "packets", None));
        }
        add("tcp retransmits", count(self.tcp_retransmits));
        add(
            "tcp round-trip time, mean",
            self.tcp_rtt_mean_us.map(|us| wait(us.saturating_mul(1000))),
        );
        add(
            "block read",
            amount(
                self.block_read_bytes,
                self.block_read_operations,
                "operations",
                self.block_read_bytes_per_second,
            ),
        );
        add(
            "block written",
            amount(
                self.block_written_bytes,
                self.block_write_operations,
                "operations",
                self.block_written_bytes_per_second,
            ),
        );
        add("on cpu, witness", self.on_cpu_seconds.map(|seconds| format!("{seconds:.2} s")));
        add(
            "run-queue delay",
            self.run_queue_delay_seconds.map(|seconds| {
                let bound = |name: &str, ns: Option<u64>| {
                    ns.map_or_else(String::new, |ns| format!(", {name} {}", wait(ns)))
                };
                let (p50, p99) = (self.run_queue_delay_p50_ns, self.run_queue_delay_p99_ns);
                let latest = bound("latest p99", self.latest_run_queue_delay_p99_ns);
                format!("{seconds:.3} s in all{}{}{latest}", bound("p50", p50), bound("p99", p99))
            }),
        );
        for (index, bucket) in self.delays.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|index| self.delays[index].below_ns);
            let name = match bucket.below_ns {
                Some(bound) => format!("run-queue delays below {}", wait(bound)),
                None => format!("run-queue delays above {}", wait(before.unwrap_or_default())),
            };
            add(&name, (bucket.count > 0).then(|| bucket.count.to_string()));
        }
        add(
            "context switches",
            self.voluntary_switches
                .zip(self.involuntary_switches)
                .map(|(voluntary, not)| format!("{voluntary} voluntary, {not} involuntary")),
        );
        add(
            "processes",
            self.forks.zip(self.execs).zip(self.exits).map(|((forks, execs), exits)| {
                format!("{forks} forked, {execs} programs begun, {exits} ended")
            }),
        );
        add("out-of-memory kills", count(self.oom_kills));
        add("ports refused", count(self.port_denials));
        add("connections on other ports", count(self.listen_drops));
        add("datagrams on other ports", count(self.udp_unassigned));
        add("devices refused", count(self.device_denials));
        add("refusals not reported", count(self.unreported_denials));
        lines
    }
}

fn received(of: &KernelStatistics) -> Option<u64> {
    Some(sum(of.network.as_ref()?, |traffic| traffic.bytes_in))
}

fn sent(of: &KernelStatistics) -> Option<u64> {
    Some(sum(of.network.as_ref()?, |traffic| traffic.bytes_out))
}

fn sum(of: &NetworkStatistics, amount: fn(&Traffic) -> u64) -> u64 {
    let families = [&of.ipv4, &of.ipv6].into_iter().flatten();
    let protocols = families.flat_map(|family| [&family.tcp, &family.udp, &family.other]);
    protocols.flatten().map(amount).fold(0, u64::saturating_add)
}

fn flows(of: Option<&NetworkStatistics>) -> BTreeMap<String, Option<u64>> {
    type Protocol = fn(&FamilyTraffic) -> &Option<Traffic>;
    const PROTOCOLS: [(&str, Protocol); 3] =
        [("tcp", |of| &of.tcp), ("udp", |of| &of.udp), ("other", |of| &of.other)];
    type Amount = fn(&Traffic) -> u64;
    const AMOUNTS: [(&str, Amount); 4] = [
        ("in_bytes", |of| of.bytes_in),
        ("in_packets", |of| of.packets_in),
        ("out_bytes", |of| of.bytes_out),
        ("out_packets", |of| of.packets_out),
    ];
    let families = [
        ("ipv4", of.and_then(|of| of.ipv4.as_ref())),
        ("ipv6", of.and_then(|of| of.ipv6.as_ref())),
    ];
    let mut flows = BTreeMap::new();
    for (family, of) in families {
        for (protocol, select) in PROTOCOLS {
            let traffic = of.and_then(|of| select(of).as_ref());
            for (name, amount) in AMOUNTS {
                flows.insert(format!("net_{family}_{protocol}_{name}"), traffic.map(amount));
            }
        }
    }
    flows
}

/// What came to a histogram since `before`; `None` if they are not the same histogram.
fn grown(now: &[DelayBucket], before: &[DelayBucket]) -> Option<Vec<DelayBucket>> {
    let same = now.len() == before.len()
        && now.iter().zip(before).all(|(now, before)| now.below_ns == before.below_ns);
    let bucket = |(now, before): (&DelayBucket, &DelayBucket)| DelayBucket {
        below_ns: now.below_ns,
        count: now.count.saturating_sub(before.count),
    };
    same.then(|| now.iter().zip(before).map(bucket).collect())
}

/// The bound of the bucket that this share of all waits does not go beyond; `None` if there were none.
fn quantile_ns(buckets: &[DelayBucket], share: f64) -> Option<u64> {
    let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    if total == 0 {
        return None;
    }
    let wanted = (total as f64 * share).ceil().max(1.0) as u64;
    let (mut seen, mut bound) = (0, 0);
    for bucket in buckets {
        // What is above all bounds is told as twice the last.
        bound = bucket.below_ns.unwrap_or(bound * 2);
        seen += bucket.count;
        if seen >= wanted {
            break;
        }
    }
    Some(bound)
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1::agent::{BlockStatistics, PortStatistics, SchedulerStatistics};

    use super::*;
    use crate::output::Row;

    fn counted(received: u64, read: u64, counts: [u64; 3]) -> KernelStatistics {
        let udp = Traffic { bytes_in: received, packets_in: 2, ..Traffic::default() };
        let family = FamilyTraffic { udp: Some(udp), ..FamilyTraffic::default() };
        let bounds = [Some(1024), Some(2048), None];
        let bucket = |(below_ns, count)| DelayBucket { below_ns, count };
        KernelStatistics {
            network: Some(NetworkStatistics { ipv4: Some(family), ..Default::default() }),
            scheduler: Some(SchedulerStatistics {
                run_delays: bounds.into_iter().zip(counts).map(bucket).collect(),
                run_delay_p99_ns: Some(2048),
                ..SchedulerStatistics::default()
            }),
            block: Some(BlockStatistics { read_bytes: read, ..BlockStatistics::default() }),
            ports: Some(PortStatistics { denials: 3, ..PortStatistics::default() }),
            ..KernelStatistics::default()
        }
    }

    #[test]
    fn rates_and_quantiles_are_of_the_time_between() {
        let before = counted(1000, 0, [100, 0, 0]);
        let now = counted(5096, 8192, [100, 99, 1]);
        let kernel = Kernel::new(&now, Some((&before, 2.0)));
        assert_eq!(kernel.cells(), ["2us", "2.0K", "0", "4.0K", "0"]);
        assert_eq!(kernel.denials(), Some(3));
        let first = Kernel::new(&now, None);
        assert_eq!(first.cells(), ["-", "-", "-", "-", "-"]);
        assert_eq!(first.net_in_bytes, Some(5096));
        assert_eq!(quantile_ns(&now.scheduler.expect("counted").run_delays, 1.0), Some(4096));
    }

    #[test]
    fn what_is_not_counted_is_null_and_has_no_line() {
        let nothing = Kernel::new(&KernelStatistics::default(), None);
        assert_eq!(nothing.lines().len(), 0);
        assert_eq!(nothing.denials(), None);
        let json = serde_json::to_value(&nothing).expect("json");
        assert!(json.as_object().expect("flat").values().all(serde_json::Value::is_null));
        assert_eq!(json.get("net_ipv6_tcp_out_bytes"), Some(&serde_json::Value::Null));
    }

    #[test]
    fn lines_say_what_there_was() {
        let kernel = Kernel::new(&counted(5096, 8192, [100, 0, 1]), None);
        let lines = Vec::from_iter(kernel.lines().iter().map(|line| line.cells().join(": ")));
        for line in [
            "network in: 5.0 KiB in 2 packets",
            "network, ipv4 udp in: 5.0 KiB in 2 packets",
            "block read: 8.0 KiB in 0 operations",
            "run-queue delays below 1us: 100",
            "run-queue delays above 2us: 1",
            "ports refused: 3",
        ] {
            assert!(lines.iter().any(|held| held == line), "{line} is not in {lines:#?}");
        }
    }
}
