//! Effects that wait for records to be durable.

use std::collections::VecDeque;

use mezzo_types::Position;

/// Holds effects back, in order, until what they depend on is durable.
#[derive(Debug)]
pub(crate) struct Outbox<E> {
    waiting: VecDeque<(Position, E)>,
    /// The last position that was handed to the store.
    written: Position,
    /// Batches that the store still has to sync, oldest first: the position before each and its last one.
    syncing: VecDeque<(Position, Position)>,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Outbox { waiting: VecDeque::new(), written: Position::NONE, syncing: VecDeque::new() }
    }
}

impl<E> Outbox<E> {
    pub(crate) fn push(&mut self, after: Position, effect: E) {
        self.waiting.push_back((after, effect));
    }

    /// The store has a batch that ends with `position`. With `sync` the batch, and all that follows, is
    /// durable only after [`Self::synced`].
    pub(crate) fn written(&mut self, position: Position, sync: bool) {
        if sync {
            self.syncing.push_back((self.written, position));
        }
        self.written = position;
    }

    /// The batches up to the one that ends with `position` are on the disk.
    pub(crate) fn synced(&mut self, position: Position) {
        while self.syncing.front().is_some_and(|(_, last)| *last <= position) {
            self.syncing.pop_front();
        }
    }

    fn durable(&self) -> Position {
        self.syncing.front().map_or(self.written, |(before, _)| *before)
    }

    /// The next effect that may be carried out.
    pub(crate) fn release(&mut self) -> Option<E> {
        let (after, _) = self.waiting.front()?;
        if *after > self.durable() {
            return None;
        }
        self.waiting.pop_front().map(|(_, effect)| effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(outbox: &mut Outbox<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| outbox.release()).collect()
    }

    #[test]
    fn effects_wait_for_their_records_and_for_those_before_them() {
        let mut outbox = Outbox::default();
        outbox.push(Position(0), "free");
        outbox.push(Position(2), "second");
        outbox.push(Position(1), "behind");
        assert_eq!(released(&mut outbox), ["free"]);
        outbox.written(Position(1), false);
        assert_eq!(released(&mut outbox), [] as [&str; 0]);
        outbox.written(Position(2), false);
        assert_eq!(released(&mut outbox), ["second", "behind"]);
    }

    #[test]
    fn a_batch_that_is_not_on_the_disk_holds_back_what_follows() {
        let mut outbox = Outbox::default();
        outbox.written(Position(1), false);
        outbox.written(Position(3), true);
        outbox.written(Position(4), false);
        outbox.written(Position(5), true);
        for (after, name) in [(1, "one"), (2, "two"), (4, "four"), (5, "five")] {
            outbox.push(Position(after), name);
        }
        assert_eq!(released(&mut outbox), ["one"]);
        outbox.synced(Position(3));
        assert_eq!(released(&mut outbox), ["two", "four"]);
        outbox.synced(Position(5));
        assert_eq!(released(&mut outbox), ["five"]);
    }
}
