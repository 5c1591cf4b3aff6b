//! The master's log as a model of one member: an entry is durable some time after it was appended, in
//! order. When its master dies, any number of the oldest entries that were not reported may have
//! reached the disk all the same; the others are lost.

use std::collections::VecDeque;

use mezzo_master_core::Registry;
use mezzo_proto::storage::v1::{Command, Counters};

use crate::rng::Rng;

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    /// Everything durable, applied.
    pub(crate) registry: Registry,
    /// Who may append: the incarnation of the master that was elected last.
    leader: Option<usize>,
    pub(crate) term: u64,
    tail: VecDeque<Vec<Command>>,
    /// When the last entry is durable.
    last: u64,
    rng: Rng,
    /// Until when the disk does not answer.
    pub(crate) stalled_until: u64,
    latency_max_ns: u64,
}

impl Log {
    pub(crate) fn new(mut rng: Rng) -> Self {
        let counters = Counters { cluster_id: "c".to_owned(), ..Counters::default() };
        let latency_max_ns = rng.skewed(100_000, 100_000_000);
        Log {
            registry: Registry { counters, ..Registry::default() },
            leader: None,
            term: 0,
            tail: VecDeque::new(),
            last: 0,
            rng,
            stalled_until: 0,
            latency_max_ns,
        }
    }

    /// A master takes the lead; what the one before had under way is settled.
    pub(crate) fn lead(&mut self, master: usize) -> Vec<Command> {
        let kept = self.rng.below(self.tail.len() as u64 + 1);
        let committed = (0..kept).flat_map(|_| self.tail.pop_front().unwrap_or_default()).collect();
        self.tail.clear();
        self.leader = Some(master);
        self.term += 1;
        committed
    }

    /// Takes an entry; returns when it is durable, or `None` if this master does not lead any more.
    pub(crate) fn append(&mut self, now: u64, master: usize, entry: Vec<Command>) -> Option<u64> {
        if self.leader != Some(master) {
            return None;
        }
        self.tail.push_back(entry);
        let delay = self.rng.skewed(20_000, self.latency_max_ns);
        self.last = self.last.max(now.max(self.stalled_until) + delay);
        Some(self.last)
    }

    /// The oldest entry is durable, unless another master leads by now.
    pub(crate) fn durable(&mut self, master: usize) -> Option<Vec<Command>> {
        if self.leader != Some(master) {
            return None;
        }
        self.tail.pop_front()
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        self.registry.apply(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leader_appends_and_a_prefix_survives_it() {
        let mut log = Log::new(Rng::new(3, 3));
        assert_eq!(log.lead(0), []);
        let entry = |n: u32| vec![Command::default(); n as usize];
        // Durable in order, maybe together.
        assert!(log.append(0, 0, entry(1)) <= log.append(0, 0, entry(2)));
        assert_eq!(log.durable(0).map(|entry| entry.len()), Some(1));
        assert!([0, 2].contains(&log.lead(1).len()));
        assert_eq!((log.append(0, 0, entry(1)), log.durable(0)), (None, None));
        assert_eq!(log.term, 2);
    }
}
