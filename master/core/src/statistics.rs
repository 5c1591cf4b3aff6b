//! Counts that the metrics endpoints show, kept as things happen: reading them is O(1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Calls of the frameworks of one principal. The counters are shared with the copies of [`Statistics`]: those
/// are made after every round, and one string per principal would be too much for that.
#[derive(Debug, Default)]
pub struct MessageCounts {
    received: AtomicU64,
    processed: AtomicU64,
}

impl MessageCounts {
    /// All that came, also those that were dropped.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Those that were carried out.
    pub fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_processed(&self) {
        self.processed.fetch_add(1, Ordering::Relaxed);
    }
}

impl PartialEq for MessageCounts {
    fn eq(&self, other: &Self) -> bool {
        (self.received(), self.processed()) == (other.received(), other.processed())
    }
}

impl Eq for MessageCounts {}

/// Counters since this master took the lead, and gauges of what it holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tasks now in each state, by `TaskState` number, 0 to 13.
    pub tasks_now: [i64; 14],
    /// Tasks that reached each state, by `TaskState` number.
    pub tasks_reached: [u64; 14],
    pub offers_sent: u64,
    pub offers_accepted: u64,
    pub offers_declined: u64,
    pub offers_rescinded: u64,
    pub agents_registered: u64,
    pub agents_reregistered: u64,
    /// Agents that were to be marked unreachable, came back in time, and were marked.
    pub unreachable_scheduled: u64,
    pub unreachable_canceled: u64,
    pub unreachable_completed: u64,
    /// Agents removed in any way, and by which: silent or away too long, left by themselves, marked
    /// gone.
    pub removals: u64,
    pub removals_unhealthy: u64,
    pub removals_unregistered: u64,
    pub removals_gone: u64,
    /// Agents that were known from the registry only and did not come back in time.
    pub recovery_removals: u64,
    pub updates_valid: u64,
    pub updates_invalid: u64,
    pub acknowledgements_valid: u64,
    pub acknowledgements_invalid: u64,
    /// Messages between frameworks and executors: handed on, or dropped because nobody listened.
    pub messages_to_executors_valid: u64,
    pub messages_to_executors_invalid: u64,
    pub messages_of_executors_valid: u64,
    pub messages_of_executors_invalid: u64,
    pub operation_updates_valid: u64,
    pub operation_updates_invalid: u64,
    pub operation_acknowledgements_valid: u64,
    pub operation_acknowledgements_invalid: u64,
    /// Operations on resources in ACCEPTs that broke a rule.
    pub operations_refused: u64,
    pub calls: u64,
    /// By principal, while a framework of it is known.
    pub messages: Arc<BTreeMap<String, Arc<MessageCounts>>>,
    pub frameworks_connected: i64,
    pub frameworks_disconnected: i64,
    pub agents_connected: i64,
    pub agents_disconnected: i64,
    pub agents_unreachable: i64,
    pub outstanding_offers: i64,
}

impl Statistics {
    /// Counts the calls of a principal from now on.
    pub(crate) fn count_messages_of(&mut self, principal: &str) {
        if !self.messages.contains_key(principal) {
            Arc::make_mut(&mut self.messages).insert(principal.to_owned(), Arc::default());
        }
    }

    /// The last framework of a principal is gone.
    pub(crate) fn forget_messages_of(&mut self, principal: &str) {
        Arc::make_mut(&mut self.messages).remove(principal);
    }

    pub(crate) fn task_moved(&mut self, from: Option<i32>, to: Option<i32>) {
        if from == to {
            return;
        }
        if let Some(slot) = from.and_then(|s| self.tasks_now.get_mut(usize::try_from(s).ok()?)) {
            *slot -= 1;
        }
        let Some(to) = to.and_then(|s| usize::try_from(s).ok()) else { return };
        if let Some(slot) = self.tasks_now.get_mut(to) {
            *slot += 1;
        }
        if let Some(slot) = self.tasks_reached.get_mut(to) {
            *slot += 1;
        }
    }

    /// A framework was told of a state that the master does not keep.
    pub(crate) fn task_reached(&mut self, state: mezzo_proto::v1::TaskState) {
        let slot = usize::try_from(state as i32).ok().and_then(|i| self.tasks_reached.get_mut(i));
        if let Some(slot) = slot {
            *slot += 1;
        }
    }
}
