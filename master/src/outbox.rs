//! Messages that wait for the log: released per destination, in order, once what they depend on
//! is committed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use mezzo_master_core::{LinkId, RequestId, StreamId};
use mezzo_proto::internal::v1::{MasterToAgent, master_to_agent};
use mezzo_types::Position;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Destination {
    Stream(StreamId),
    Link(LinkId),
    /// The same agent, for acknowledgements that wait until the ledger has forgotten their task. They
    /// may wait longer than what follows them, so they have a queue of their own. A launch overtakes
    /// none of them: it waits for a later position.
    Removals(LinkId),
    Request(RequestId),
}

impl Destination {
    /// Where a message for an agent goes that depends on `after`.
    pub(crate) fn of(link: LinkId, message: &MasterToAgent, after: Position) -> Destination {
        let acknowledges =
            matches!(message.message, Some(master_to_agent::Message::Acknowledge(_)));
        if acknowledges && after > Position(0) {
            Destination::Removals(link)
        } else {
            Destination::Link(link)
        }
    }
}

/// Holds `M`s until they may leave. Work per message is O(log n) in the waiting destinations.
#[derive(Debug)]
pub(crate) struct Outbox<M> {
    committed: Position,
    waiting: HashMap<Destination, VecDeque<(Position, M)>>,
    /// Which destinations wait with their first message, by what it waits for.
    heads: BTreeMap<Position, Vec<Destination>>,
}

impl<M> Default for Outbox<M> {
    fn default() -> Self {
        Self { committed: Position(0), waiting: HashMap::new(), heads: BTreeMap::new() }
    }
}

impl<M> Outbox<M> {
    /// Takes a message; returns it if it may leave at once.
    pub(crate) fn push(&mut self, to: Destination, after: Position, message: M) -> Option<M> {
        match self.waiting.get_mut(&to) {
            Some(queue) => {
                queue.push_back((after, message));
                None
            }
            None if after <= self.committed => Some(message),
            None => {
                self.waiting.insert(to, VecDeque::from([(after, message)]));
                self.heads.entry(after).or_default().push(to);
                None
            }
        }
    }

    /// Everything up to `position` is committed; returns what may leave now, in order per
    /// destination.
    pub(crate) fn committed(&mut self, position: Position) -> Vec<(Destination, M)> {
        self.committed = self.committed.max(position);
        let mut released = Vec::new();
        while let Some(entry) = self.heads.first_entry() {
            if *entry.key() > self.committed {
                break;
            }
            for to in entry.remove() {
                self.release(to, &mut released);
            }
        }
        released
    }

    fn release(&mut self, to: Destination, released: &mut Vec<(Destination, M)>) {
        let Some(mut queue) = self.waiting.remove(&to) else { return };
        while let Some((after, message)) = queue.pop_front() {
            if after > self.committed {
                self.heads.entry(after).or_default().push(to);
                queue.push_front((after, message));
                self.waiting.insert(to, queue);
                return;
            }
            released.push((to, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Destination = Destination::Stream(StreamId(1));
    const B: Destination = Destination::Link(LinkId(1));

    #[test]
    fn a_message_waits_for_its_position_and_later_ones_wait_behind_it() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(A, Position(0), "free"), Some("free"));
        assert_eq!(outbox.push(A, Position(2), "second"), None);
        assert_eq!(outbox.push(A, Position(0), "behind"), None);
        assert_eq!(outbox.push(A, Position(3), "third"), None);
        assert_eq!(outbox.push(B, Position(1), "other"), None);
        assert_eq!(outbox.committed(Position(1)), [(B, "other")]);
        assert_eq!(outbox.committed(Position(2)), [(A, "second"), (A, "behind")]);
        assert_eq!(outbox.push(A, Position(0), "last"), None);
        assert_eq!(outbox.committed(Position(9)), [(A, "third"), (A, "last")]);
        assert_eq!(outbox.push(A, Position(9), "free again"), Some("free again"));
    }

    #[test]
    fn a_removal_holds_nothing_up_and_no_launch_overtakes_it() {
        let removals = Destination::Removals(LinkId(1));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(removals, Position(1), "acknowledged"), None);
        assert_eq!(outbox.push(B, Position(0), "ping"), Some("ping"));
        assert_eq!(outbox.push(B, Position(2), "launch"), None);
        let released = outbox.committed(Position(2));
        assert_eq!(released, [(removals, "acknowledged"), (B, "launch")]);
    }

    #[test]
    fn a_position_never_goes_back() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.committed(Position(5)), Vec::<(Destination, &str)>::new());
        assert_eq!(outbox.committed(Position(1)), []);
        assert_eq!(outbox.push(A, Position(4), "x"), Some("x"));
    }
}
