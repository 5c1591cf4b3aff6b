//! What is counted.

/// Traffic of one direction. Bytes begin at the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Flow {
    pub bytes: u64,
    /// As the kernel hands them through: one offloaded packet counts once, whatever it becomes on the wire.
    pub packets: u64,
}

/// Traffic of one family, by protocol of the socket and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Flows {
    pub tcp_in: Flow,
    pub tcp_out: Flow,
    pub udp_in: Flow,
    pub udp_out: Flow,
    pub other_in: Flow,
    pub other_out: Flow,
}

/// Counters of one task on one processor. All only grow; the sum over processors is the task's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Counters {
    pub ipv4: Flows,
    pub ipv6: Flows,
    /// TCP segments that were sent again.
    pub tcp_retransmits: u64,
    /// Sum of the smoothed round-trip times, one sample per received packet of a TCP connection, in microseconds.
    pub tcp_rtt_sum_us: u64,
    pub tcp_rtt_samples: u64,
    /// Processor time of completed slices, in nanoseconds: a witness beside the controller's exact figure.
    pub on_cpu_ns: u64,
    /// Time between being runnable and running, in nanoseconds.
    pub run_delay_ns: u64,
    /// Switches because the task had to wait for something.
    pub voluntary_switches: u64,
    /// Switches while the task could have gone on.
    pub involuntary_switches: u64,
    pub read_bytes: u64,
    pub read_operations: u64,
    pub written_bytes: u64,
    pub write_operations: u64,
    /// New processes, threads not counted.
    pub forks: u64,
    /// New programs.
    pub execs: u64,
    /// Ended processes, threads not counted.
    pub exits: u64,
    pub oom_kills: u64,
    /// Refused `bind` calls; under `observe`, those that `enforce` would have refused.
    pub port_denials: u64,
    /// Connections that never arrived at a listener on a port that is not the task's.
    pub listen_drops: u64,
    /// Datagrams received on ports that are not the task's: sockets that the kernel bound by itself.
    pub udp_unassigned: u64,
    /// Refused `open` and `mknod` calls on devices.
    pub device_denials: u64,
    /// Denials that were counted, but not reported one by one, for there were too many.
    pub unreported_denials: u64,
}

/// Number of buckets of [`Delays`].
pub const DELAY_BUCKETS: usize = 24;

/// Histogram of run-queue delays of one task on one processor: bucket `n` counts delays below 2ⁿ × 1.024 µs
/// that are not in an earlier one; the last one also everything above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Delays {
    pub buckets: [u64; DELAY_BUCKETS],
}

/// The bucket of a delay. Always below [`DELAY_BUCKETS`]; by comparisons, for the processor of eBPF does not count bits.
#[inline(always)]
pub fn delay_bucket(delay_ns: u64) -> usize {
    let mut units = delay_ns >> 10;
    if units == 0 {
        return 0;
    }
    if units >> (DELAY_BUCKETS - 2) != 0 {
        return DELAY_BUCKETS - 1;
    }
    let mut bucket = 1;
    if units >> 16 != 0 {
        units >>= 16;
        bucket += 16;
    }
    if units >> 8 != 0 {
        units >>= 8;
        bucket += 8;
    }
    if units >> 4 != 0 {
        units >>= 4;
        bucket += 4;
    }
    if units >> 2 != 0 {
        units >>= 2;
        bucket += 2;
    }
    if units >> 1 != 0 {
        bucket += 1;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        assert_eq!(delay_bucket(0), 0);
        assert_eq!(delay_bucket(1023), 0);
        assert_eq!(delay_bucket(1024), 1);
        assert_eq!(delay_bucket(2047), 1);
        assert_eq!(delay_bucket(2048), 2);
        for power in 10..63 {
            let expected = (power - 9).min(DELAY_BUCKETS - 1);
            assert_eq!(delay_bucket(1 << power), expected, "2^{power}");
            assert_eq!(delay_bucket((2 << power) - 1), expected, "below 2^{power} x 2");
        }
        assert_eq!(delay_bucket(u64::MAX), DELAY_BUCKETS - 1);
    }
}
