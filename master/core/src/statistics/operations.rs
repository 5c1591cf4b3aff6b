//! Operations on resources, by what they do and how they stand.

use std::sync::atomic::{AtomicI64, Ordering};

use mezzo_proto::v1::OperationState;
use mezzo_proto::v1::offer::operation::Type;

use super::OPERATION_TYPES;
use crate::operation::is_terminal;

/// Numbers of operation states.
pub const OPERATION_STATES: usize = 10;

/// How many operations are in each state that does not last, and how many ever came to each that does: so Mesos
/// counts. Shared by the copies of [`Statistics`](super::Statistics).
#[derive(Debug, Default)]
pub struct OperationCounts([[AtomicI64; OPERATION_STATES]; OPERATION_TYPES]);

impl OperationCounts {
    /// Operations of a kind, by the number of their state.
    pub fn of(&self, kind: Type) -> [i64; OPERATION_STATES] {
        let counts = usize::try_from(kind as i32).ok().and_then(|i| self.0.get(i));
        counts.map_or([0; OPERATION_STATES], read)
    }

    /// An operation is known from now on.
    pub(crate) fn came(&self, kind: Type, state: OperationState) {
        self.add(kind, state, 1);
    }

    pub(crate) fn moved(&self, kind: Type, from: OperationState, to: OperationState) {
        self.add(kind, from, -1);
        self.add(kind, to, 1);
    }

    /// An operation is known no more. One that ended stays counted.
    pub(crate) fn left(&self, kind: Type, state: OperationState) {
        if !is_terminal(state) {
            self.add(kind, state, -1);
        }
    }

    fn add(&self, kind: Type, state: OperationState, change: i64) {
        let counts = usize::try_from(kind as i32).ok().and_then(|i| self.0.get(i));
        let count = usize::try_from(state as i32).ok().and_then(|i| counts?.get(i));
        if let Some(count) = count {
            count.fetch_add(change, Ordering::Relaxed);
        }
    }
}

impl PartialEq for OperationCounts {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(read).eq(other.0.iter().map(read))
    }
}

impl Eq for OperationCounts {}

fn read(counts: &[AtomicI64; OPERATION_STATES]) -> [i64; OPERATION_STATES] {
    std::array::from_fn(|i| counts[i].load(Ordering::Relaxed))
}
