//! When the core wants to be called next: an ordered set, so that each operation is O(log n).

use std::collections::BTreeSet;

use mezzo_types::{AgentId, FrameworkId};

use crate::input::{LinkId, StreamId};

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// HEARTBEAT on a subscription.
    Heartbeat(StreamId),
    /// PING on an agent's link.
    Ping(LinkId),
    /// The framework did not come back within its failover timeout.
    Failover(FrameworkId),
    /// The agent did not come back within the reregister timeout.
    Reregister(AgentId),
    /// The agents that were known from the registry had their time to come back.
    Recovery,
    /// The next agent may be marked unreachable.
    Removal,
    /// The lists of unreachable and gone agents are to be pruned.
    RegistryGc,
    /// The next call may be carried out of those that wait for a rate limit.
    Throttle(usize),
}

/// Timers by due time (monotonic nanoseconds).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_due: BTreeSet<(u64, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, due_ns: u64, timer: Timer) {
        self.by_due.insert((due_ns, timer));
    }

    pub(crate) fn cancel(&mut self, due_ns: u64, timer: Timer) {
        self.by_due.remove(&(due_ns, timer));
    }

    pub(crate) fn has(&self, due_ns: u64, timer: Timer) -> bool {
        self.by_due.contains(&(due_ns, timer))
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Takes the next timer that is due at `now_ns`.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<Timer> {
        if self.next_due()? > now_ns {
            return None;
        }
        self.by_due.pop_first().map(|(_, timer)| timer)
    }
}
