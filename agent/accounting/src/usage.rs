//! What a task has used.

use std::ops::AddAssign;

use mezzo_agent_ebpf_common::{Counters, DELAY_BUCKETS, Delays};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unalign};

/// All counters of one task, over all processors, since it was admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub counters: Counters,
    /// Run-queue delays; all zero unless they were switched on.
    pub delays: Delays,
}

impl Usage {
    /// The delay that a share of all waits (`0.99`, say) did not exceed, in nanoseconds, rounded up to the bound of its bucket;
    /// `None` if there was none.
    pub fn delay_quantile_ns(&self, share: f64) -> Option<u64> {
        let total: u64 = self.delays.buckets.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let bucket = self.delays.buckets.iter().position(reached).unwrap_or(DELAY_BUCKETS - 1);
        Some(delay_bound_ns(bucket))
    }

    /// Mean smoothed round-trip time of the task's TCP connections in microseconds, weighted by received packets; `None` before
    /// the first was measured.
    pub fn tcp_rtt_us(&self) -> Option<u64> {
        self.counters.tcp_rtt_sum_us.checked_div(self.counters.tcp_rtt_samples)
    }

    /// The larger one of each counter.
    #[must_use]
    pub fn max(&self, other: &Usage) -> Usage {
        let mut larger = *self;
        merge(&mut larger.counters, &other.counters, u64::max);
        merge(&mut larger.delays, &other.delays, u64::max);
        larger
    }
}

impl AddAssign<&Usage> for Usage {
    fn add_assign(&mut self, other: &Usage) {
        merge(&mut self.counters, &other.counters, u64::wrapping_add);
        merge(&mut self.delays, &other.delays, u64::wrapping_add);
    }
}

/// Records of 64-bit counters, word by word.
fn merge<T: FromBytes + IntoBytes + Immutable>(to: &mut T, other: &T, how: fn(u64, u64) -> u64) {
    let words = <[u64]>::mut_from_bytes(to.as_mut_bytes());
    if let (Ok(words), Ok(other)) = (words, <[u64]>::ref_from_bytes(other.as_bytes())) {
        for (word, other) in words.iter_mut().zip(other) {
            *word = how(*word, *other);
        }
    }
}

/// Upper bound of a bucket of [`Delays`] in nanoseconds, exclusive: 2ⁿ × 1024. The last bucket has none, but for this one.
pub fn delay_bound_ns(bucket: usize) -> u64 {
    1024 << bucket.min(DELAY_BUCKETS - 1)
}

/// Adds up the copies of a record of 64-bit counters, one copy per processor; `None` if they are not copies of that record.
pub(crate) fn sum<T: FromBytes + IntoBytes + Default>(values: &[u8], copies: usize) -> Option<T> {
    let mut total = T::default();
    let words = <[u64]>::mut_from_bytes(total.as_mut_bytes()).ok()?;
    if values.len() != size_of_val(words) * copies {
        return None;
    }
    for copy in values.chunks_exact(size_of_val(words)) {
        let copy = <[Unalign<u64>]>::ref_from_bytes(copy).ok()?;
        for (total, word) in words.iter_mut().zip(copy) {
            *total = total.wrapping_add(word.get());
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_added_up() {
        let one = Counters { oom_kills: 1, read_bytes: 10, ..Counters::default() };
        let two = Counters { oom_kills: 2, forks: 5, ..Counters::default() };
        let both = [one, two];
        let total: Counters = sum(both.as_bytes(), 2).expect("a record");
        let expected = Counters { oom_kills: 3, read_bytes: 10, forks: 5, ..Counters::default() };
        assert_eq!(total, expected);
        assert_eq!(sum::<Counters>(&both.as_bytes()[..8], 1), None);
    }

    #[test]
    fn usages_are_added_up() {
        let one = Counters { oom_kills: 1, read_bytes: 10, ..Counters::default() };
        let mut total = Usage { counters: one, ..Usage::default() };
        total.delays.buckets[3] = 2;
        total += &total.clone();
        assert_eq!((total.counters.oom_kills, total.counters.read_bytes), (2, 20));
        assert_eq!(total.delays.buckets[3], 4);
        let other = Counters { oom_kills: 1, forks: 7, ..Counters::default() };
        let larger = total.max(&Usage { counters: other, ..Usage::default() }).counters;
        assert_eq!((larger.oom_kills, larger.read_bytes, larger.forks), (2, 20, 7));
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut usage = Usage::default();
        assert_eq!(usage.delay_quantile_ns(0.99), None);
        usage.delays.buckets[0] = 99;
        usage.delays.buckets[10] = 1;
        assert_eq!(usage.delay_quantile_ns(0.5), Some(1024));
        assert_eq!(usage.delay_quantile_ns(0.99), Some(1024));
        assert_eq!(usage.delay_quantile_ns(1.0), Some(1 << 20));
        assert_eq!(usage.tcp_rtt_us(), None);
    }
}
