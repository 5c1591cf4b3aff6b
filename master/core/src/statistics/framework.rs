//! What one framework did, and what was done for it.

use super::Count;

/// One more than the largest number of a call's type.
pub const CALL_TYPES: usize = 18;
/// One more than the largest number of an event's type.
pub const EVENT_TYPES: usize = 12;
/// One more than the largest number of an operation's type.
pub const OPERATION_TYPES: usize = 15;
/// Numbers of task states.
const TASK_STATES: usize = 14;

/// Counts of one framework, from its first subscription with this master on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FrameworkCounts {
    calls: [Count; CALL_TYPES],
    events: [Count; EVENT_TYPES],
    operations: [Count; OPERATION_TYPES],
    endings: [Count; TASK_STATES],
    pub offers_sent: Count,
    pub offers_accepted: Count,
    pub offers_declined: Count,
    pub offers_rescinded: Count,
}

impl FrameworkCounts {
    /// Calls, by the number of their type.
    pub fn calls(&self) -> &[Count; CALL_TYPES] {
        &self.calls
    }

    /// Events that were sent, by the number of their type.
    pub fn events(&self) -> &[Count; EVENT_TYPES] {
        &self.events
    }

    /// Operations in ACCEPTs that were found good, by the number of their type; tasks of a LAUNCH one by one.
    pub fn operations(&self) -> &[Count; OPERATION_TYPES] {
        &self.operations
    }

    /// Tasks that ended, by the number of the state.
    pub fn endings(&self) -> &[Count; TASK_STATES] {
        &self.endings
    }

    pub(crate) fn call(&self, number: i32) {
        count_in(&self.calls, number);
    }

    pub(crate) fn event(&self, number: i32) {
        count_in(&self.events, number);
    }

    pub(crate) fn operation(&self, number: i32) {
        count_in(&self.operations, number);
    }

    pub(crate) fn task_ended(&self, state: i32) {
        count_in(&self.endings, state);
    }
}

fn count_in(counts: &[Count], number: i32) {
    if let Some(count) = usize::try_from(number).ok().and_then(|i| counts.get(i)) {
        count.add(1);
    }
}
