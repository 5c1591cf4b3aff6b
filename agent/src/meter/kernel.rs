//! What the kernel counted of a task, as messages tell it.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use mezzo_agent_accounting::{
    Counters, DELAY_BUCKETS, Denial, DeviceKind, Feature, Flow, Flows, Happening, Transport, Usage,
    delay_bound_ns,
};
use mezzo_proto::v1;
use mezzo_proto::v1::agent as told;
use mezzo_proto::v1::cgroup_info::blkio;

use crate::accounts::Refusal;

/// TCP and UDP as IANA numbers them.
const TCP: u32 = 6;
const UDP: u32 = 17;

/// Mezzo's own message. What the features that are on do not count is absent.
pub(super) fn statistics(usage: &Usage, on: &BTreeSet<Feature>) -> told::KernelStatistics {
    let counters = &usage.counters;
    let is_on = |feature| on.contains(&feature);
    let guarded = is_on(Feature::Ports) || is_on(Feature::Devices);
    told::KernelStatistics {
        network: is_on(Feature::Network).then(|| told::NetworkStatistics {
            ipv4: Some(family(&counters.ipv4)),
            ipv6: Some(family(&counters.ipv6)),
            tcp_rtt_samples: counters.tcp_rtt_samples,
            tcp_rtt_sum_us: counters.tcp_rtt_sum_us,
            tcp_rtt_mean_us: usage.tcp_rtt_us(),
        }),
        tcp_retransmits: is_on(Feature::Retransmits).then_some(counters.tcp_retransmits),
        scheduler: is_on(Feature::Scheduler).then(|| told::SchedulerStatistics {
            on_cpu_ns: counters.on_cpu_ns,
            run_delay_ns: counters.run_delay_ns,
            voluntary_switches: counters.voluntary_switches,
            involuntary_switches: counters.involuntary_switches,
            run_delays: delays(usage),
            run_delay_p50_ns: usage.delay_quantile_ns(0.5),
            run_delay_p99_ns: usage.delay_quantile_ns(0.99),
        }),
        block: is_on(Feature::Block).then_some(told::BlockStatistics {
            read_bytes: counters.read_bytes,
            read_operations: counters.read_operations,
            written_bytes: counters.written_bytes,
            write_operations: counters.write_operations,
        }),
        processes: is_on(Feature::Processes).then_some(told::ProcessStatistics {
            forks: counters.forks,
            execs: counters.execs,
            exits: counters.exits,
        }),
        oom_kills: is_on(Feature::OomKills).then_some(counters.oom_kills),
        ports: is_on(Feature::Ports).then_some(told::PortStatistics {
            denials: counters.port_denials,
            listen_drops: counters.listen_drops,
            udp_unassigned: counters.udp_unassigned,
        }),
        device_denials: is_on(Feature::Devices).then_some(counters.device_denials),
        unreported_denials: guarded.then_some(counters.unreported_denials),
    }
}

fn family(flows: &Flows) -> told::FamilyTraffic {
    let traffic = |inwards: &Flow, outwards: &Flow| {
        Some(told::Traffic {
            bytes_in: inwards.bytes,
            packets_in: inwards.packets,
            bytes_out: outwards.bytes,
            packets_out: outwards.packets,
        })
    };
    told::FamilyTraffic {
        tcp: traffic(&flows.tcp_in, &flows.tcp_out),
        udp: traffic(&flows.udp_in, &flows.udp_out),
        other: traffic(&flows.other_in, &flows.other_out),
    }
}

fn delays(usage: &Usage) -> Vec<told::DelayBucket> {
    let buckets = &usage.delays.buckets;
    // A task that never waited has not run; so it is switched off.
    if buckets.iter().all(|count| *count == 0) {
        return Vec::new();
    }
    let bucket = |(index, count): (usize, &u64)| told::DelayBucket {
        below_ns: (index + 1 < DELAY_BUCKETS).then(|| delay_bound_ns(index)),
        count: *count,
    };
    buckets.iter().enumerate().map(bucket).collect()
}

/// What Mesos has a field for, in its units and directions: in is what the container receives. Percentiles of round-trip times are
/// not known, only their mean; those fields stay absent.
pub(super) fn fill(
    statistics: &mut v1::ResourceStatistics,
    counters: &Counters,
    on: &BTreeSet<Feature>,
) {
    if on.contains(&Feature::Network) {
        let sum = |of: fn(&Flows) -> [&Flow; 3]| {
            let (mut bytes, mut packets) = (0_u64, 0_u64);
            for flow in [&counters.ipv4, &counters.ipv6].into_iter().flat_map(of) {
                bytes = bytes.saturating_add(flow.bytes);
                packets = packets.saturating_add(flow.packets);
            }
            (Some(bytes), Some(packets))
        };
        (statistics.net_rx_bytes, statistics.net_rx_packets) =
            sum(|flows| [&flows.tcp_in, &flows.udp_in, &flows.other_in]);
        (statistics.net_tx_bytes, statistics.net_tx_packets) =
            sum(|flows| [&flows.tcp_out, &flows.udp_out, &flows.other_out]);
    }
    if on.contains(&Feature::Block) {
        statistics.blkio_statistics = Some(block(counters));
    }
}

/// As the blkio controller's throttling counts it: operations as they enter the block layer. The one entry is of all devices,
/// which is why it names none.
fn block(counters: &Counters) -> blkio::Statistics {
    let values = |read: u64, written: u64| {
        let value = |op: blkio::Operation, value: u64| blkio::Value {
            op: Some(op.into()),
            value: Some(value),
        };
        vec![
            value(blkio::Operation::Read, read),
            value(blkio::Operation::Write, written),
            value(blkio::Operation::Total, read.saturating_add(written)),
        ]
    };
    let throttling = blkio::throttling::Statistics {
        device: None,
        io_serviced: values(counters.read_operations, counters.write_operations),
        io_service_bytes: values(counters.read_bytes, counters.written_bytes),
    };
    blkio::Statistics { throttling: vec![throttling], ..blkio::Statistics::default() }
}

/// `None` of what is no refusal.
pub(super) fn denial(refusal: &Refusal) -> Option<told::Denial> {
    let (enforced, what) = match refusal.what {
        Happening::PortDenied { how, transport, ipv6, port, enforced } => {
            let way = match how {
                Denial::Bind => told::port_denial::Way::Bind,
                Denial::BindEphemeral => told::port_denial::Way::BindEphemeral,
                Denial::Listen => told::port_denial::Way::Listen,
            };
            let protocol = match transport {
                Transport::Tcp => TCP,
                Transport::Udp => UDP,
                Transport::Other(number) => u32::try_from(number).unwrap_or(u32::MAX),
            };
            let denial =
                told::PortDenial { way: way.into(), protocol, ipv6, port: u32::from(port) };
            (enforced, told::denial::What::Port(denial))
        }
        Happening::DeviceDenied(device) => {
            let denial = told::DeviceDenial {
                block: device.kind == DeviceKind::Block,
                major: device.major,
                minor: device.minor.unwrap_or_default(),
                read: device.access.read,
                write: device.access.write,
                mknod: device.access.mknod,
            };
            (true, told::denial::What::Device(denial))
        }
        Happening::OomKill { .. } | Happening::FirstExit { .. } => return None,
    };
    Some(told::Denial {
        timestamp: refusal.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        process: refusal.process,
        command: refusal.command.clone(),
        enforced,
        what: Some(what),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mezzo_agent_accounting::{Access, Delays, Device};

    use super::*;

    fn used() -> Usage {
        let flow = |bytes, packets| Flow { bytes, packets };
        let mut usage = Usage::default();
        usage.counters.ipv4.tcp_in = flow(1000, 10);
        usage.counters.ipv4.udp_out = flow(56, 2);
        usage.counters.ipv6.other_in = flow(100, 1);
        usage.counters.ipv6.tcp_out = flow(60, 1);
        usage.counters.tcp_rtt_sum_us = 90;
        usage.counters.tcp_rtt_samples = 3;
        usage.counters.read_bytes = 8192;
        usage.counters.read_operations = 2;
        usage.counters.written_bytes = 4096;
        usage.counters.write_operations = 1;
        usage.counters.port_denials = 5;
        usage
    }

    #[test]
    fn mesos_fields_have_mesos_units_and_directions() {
        let all = BTreeSet::from(Feature::ALL);
        let mut statistics = v1::ResourceStatistics::default();
        fill(&mut statistics, &used().counters, &all);
        assert_eq!((statistics.net_rx_bytes, statistics.net_rx_packets), (Some(1100), Some(11)));
        assert_eq!((statistics.net_tx_bytes, statistics.net_tx_packets), (Some(116), Some(3)));
        assert_eq!(statistics.net_tcp_rtt_microsecs_p50, None);
        let blkio = statistics.blkio_statistics.expect("block I/O is counted");
        let [of_all_devices] = blkio.throttling.try_into().expect("one entry");
        assert_eq!(of_all_devices.device, None);
        let told = |values: Vec<blkio::Value>| {
            Vec::from_iter(values.iter().map(|value| (value.op(), value.value())))
        };
        use blkio::Operation::{Read, Total, Write};
        assert_eq!(told(of_all_devices.io_serviced), [(Read, 2), (Write, 1), (Total, 3)]);
        assert_eq!(
            told(of_all_devices.io_service_bytes),
            [(Read, 8192), (Write, 4096), (Total, 12288)]
        );
    }

    #[test]
    fn what_is_off_is_absent() {
        let mut statistics_off = v1::ResourceStatistics::default();
        fill(&mut statistics_off, &used().counters, &BTreeSet::new());
        assert_eq!(statistics_off, v1::ResourceStatistics::default());
        assert_eq!(statistics(&used(), &BTreeSet::new()), told::KernelStatistics::default());
        let told = statistics(&used(), &BTreeSet::from([Feature::Ports]));
        assert_eq!(told.ports.map(|ports| ports.denials), Some(5));
        assert_eq!((told.device_denials, told.unreported_denials), (None, Some(0)));
        assert_eq!(told.network, None);
    }

    #[test]
    fn delays_have_bounds_and_quantiles() {
        let all = BTreeSet::from(Feature::ALL);
        let told = |usage: &Usage| statistics(usage, &all).scheduler.expect("it is counted");
        assert_eq!(told(&used()).run_delays, []);
        assert_eq!(told(&used()).run_delay_p99_ns, None);
        let mut usage = used();
        usage.delays = Delays { buckets: [0; DELAY_BUCKETS] };
        usage.delays.buckets[1] = 98;
        usage.delays.buckets[DELAY_BUCKETS - 1] = 2;
        let told = told(&usage);
        assert_eq!(told.run_delays.len(), DELAY_BUCKETS);
        assert_eq!(told.run_delays[1], told::DelayBucket { below_ns: Some(2048), count: 98 });
        assert_eq!(told.run_delays.last(), Some(&told::DelayBucket { below_ns: None, count: 2 }));
        assert_eq!(told.run_delay_p50_ns, Some(2048));
        assert_eq!(told.run_delay_p99_ns, Some(delay_bound_ns(DELAY_BUCKETS - 1)));
    }

    #[test]
    fn denials_say_what_was_refused() {
        let refusal = |what| Refusal {
            time: UNIX_EPOCH + Duration::from_millis(1500),
            process: 12,
            command: "nginx".to_owned(),
            what,
        };
        let port = Happening::PortDenied {
            how: Denial::BindEphemeral,
            transport: Transport::Udp,
            ipv6: true,
            port: 40000,
            enforced: false,
        };
        let told = denial(&refusal(port)).expect("a denial");
        assert_eq!((told.timestamp, told.process, told.command.as_str()), (1.5, 12, "nginx"));
        assert!(!told.enforced);
        let expected = told::PortDenial {
            way: told::port_denial::Way::BindEphemeral.into(),
            protocol: 17,
            ipv6: true,
            port: 40000,
        };
        assert_eq!(told.what, Some(told::denial::What::Port(expected)));
        let device = Happening::DeviceDenied(Device::character(10, 200, Access::READ_WRITE));
        let told = denial(&refusal(device)).expect("a denial");
        assert!(told.enforced);
        let expected = told::DeviceDenial {
            major: 10,
            minor: 200,
            read: true,
            write: true,
            ..told::DeviceDenial::default()
        };
        assert_eq!(told.what, Some(told::denial::What::Device(expected)));
        assert_eq!(denial(&refusal(Happening::FirstExit { status: 0 })), None);
    }
}
