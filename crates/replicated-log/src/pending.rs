//! Own proposals that are in the log and not yet answered.

use std::collections::VecDeque;

/// In the order of proposing: terms grow, and indexes grow within a term.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    proposals: VecDeque<Proposed>,
}

#[derive(Debug)]
struct Proposed {
    index: u64,
    term: u64,
    token: u64,
}

impl Pending {
    pub fn len(&self) -> usize {
        self.proposals.len()
    }

    pub fn push(&mut self, index: u64, term: u64, token: u64) {
        self.proposals.push_back(Proposed { index, term, token });
    }

    /// The token of the proposal that became the committed entry (`index`, `term`). `drop` is called for those that never
    /// will be committed: others took their places, or an entry of a later term is committed, before which nothing of
    /// an earlier term can be appended any more (raft's log matching and leader completeness).
    pub fn settle(&mut self, index: u64, term: u64, mut drop: impl FnMut(u64)) -> Option<u64> {
        while let Some(first) = self.proposals.front() {
            if (first.index, first.term) == (index, term) {
                return Some(self.proposals.pop_front()?.token);
            }
            if first.term >= term && first.index > index {
                return None;
            }
            drop(self.proposals.pop_front()?.token);
        }
        None
    }

    /// The tokens of those that a state up to `index` may or may not contain.
    pub fn forget_to(&mut self, index: u64) -> Vec<u64> {
        let (gone, kept) =
            self.proposals.drain(..).partition::<Vec<_>, _>(|proposed| proposed.index <= index);
        self.proposals = kept.into();
        gone.into_iter().map(|proposed| proposed.token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        pending: &mut Pending,
        entry: (u64, u64),
        expected: Option<u64>,
        expected_dropped: &[u64],
    ) {
        let mut dropped = Vec::new();
        let token = pending.settle(entry.0, entry.1, |token| dropped.push(token));
        assert_eq!((token, dropped.as_slice()), (expected, expected_dropped), "{entry:?}");
    }

    #[test]
    fn each_proposal_is_answered_once() {
        let mut pending = Pending::default();
        for (index, term) in [(3, 1), (4, 1), (5, 1), (5, 4), (6, 4), (7, 4)] {
            pending.push(index, term, 10 * term + index);
        }
        check(&mut pending, (2, 1), None, &[]);
        check(&mut pending, (3, 1), Some(13), &[]);
        // Leader 2's entry: all of term 1 are out, wherever they were.
        check(&mut pending, (4, 2), None, &[14, 15]);
        check(&mut pending, (5, 4), Some(45), &[]);
        check(&mut pending, (6, 4), Some(46), &[]);
        // An older leader's entry at the place.
        check(&mut pending, (7, 3), None, &[47]);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_state_leaves_those_above_it() {
        let mut pending = Pending::default();
        for index in 3..7 {
            pending.push(index, 1, index);
        }
        assert_eq!(pending.forget_to(4), [3, 4]);
        check(&mut pending, (5, 1), Some(5), &[]);
    }
}
