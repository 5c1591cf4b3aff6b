//! What is to happen, by virtual time; what is due at one moment happens in the order of scheduling.

use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    due: BTreeMap<(u64, u64), E>,
    next: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { due: BTreeMap::new(), next: 0 }
    }
}

impl<E> Queue<E> {
    /// `at`: virtual nanoseconds.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        self.due.insert((at, self.next), event);
        self.next += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.due.pop_first().map(|((at, _), event)| (at, event))
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}
