//! What must hold, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::KEPT;
use crate::DropReason;

/// What the whole group has told its consumers.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Raft: election safety.
    leaders: BTreeMap<u64, u64>,
    /// Raft: state machine safety. Index, term and payload of what is committed.
    pub log: BTreeMap<u64, (u64, Vec<u8>)>,
    payloads: BTreeSet<Vec<u8>>,
    /// Accepted and not answered, by node and token.
    pub open: BTreeMap<u64, BTreeSet<u64>>,
    dropped: BTreeSet<u64>,
    /// What was committed when the read was asked for.
    reads: BTreeMap<(u64, u64), u64>,
    /// How often a state was put in place, for the tests to see that it was.
    pub restored: u64,
    pub answered_reads: u64,
    /// Proposals of which a node could not tell what became of them.
    pub uncertain: BTreeSet<u64>,
}

/// Of changes of the group, whose answers nobody waits for.
pub(super) const NO_TOKEN: u64 = 0;

pub(super) fn payload(token: u64) -> Vec<u8> {
    format!("payload {token}").into_bytes()
}

impl Checks {
    pub fn leader(&mut self, node: u64, term: u64) {
        let first = *self.leaders.entry(term).or_insert(node);
        assert_eq!(first, node, "two leaders in term {term}");
    }

    pub fn proposed(&mut self, node: u64, token: u64) {
        self.open.entry(node).or_default().insert(token);
    }

    fn answered(&mut self, node: u64, token: u64) {
        if token == NO_TOKEN {
            return;
        }
        let was_open = self.open.get_mut(&node).is_some_and(|open| open.remove(&token));
        assert!(was_open, "node {node} answered {token} twice, or was never asked");
    }

    pub fn committed(
        &mut self,
        node: u64,
        index: u64,
        term: u64,
        bytes: &[u8],
        token: Option<u64>,
    ) {
        match self.log.get(&index) {
            Some((known_term, known)) => {
                assert_eq!((*known_term, known.as_slice()), (term, bytes), "entry {index}");
            }
            None => {
                // Somebody was told of a later entry and not of this one: it was lost, or comes from nowhere.
                let last = self.log.keys().next_back().copied().unwrap_or(0);
                assert!(index > last, "entry {index} is committed after {last}");
                assert!(self.payloads.insert(bytes.to_vec()), "entry {index} is committed twice");
                self.log.insert(index, (term, bytes.to_vec()));
            }
        }
        if let Some(token) = token {
            assert_eq!(bytes, payload(token), "the token is of another proposal");
            self.answered(node, token);
        }
    }

    pub fn dropped(&mut self, node: u64, token: u64, _reason: DropReason) {
        if self.reads.remove(&(node, token)).is_none() {
            self.answered(node, token);
            self.dropped.insert(token);
        }
    }

    pub fn uncertain(&mut self, node: u64, token: u64) {
        self.answered(node, token);
        self.uncertain.insert(token);
    }

    pub fn read_asked(&mut self, node: u64, token: u64) {
        let committed = self.log.keys().next_back().copied().unwrap_or(0);
        self.reads.insert((node, token), committed);
    }

    /// `delivered` is the last entry that the node has told its consumer.
    pub fn read_answered(&mut self, node: u64, token: u64, index: u64, delivered: u64) {
        let committed = self.reads.remove(&(node, token)).expect("asked for, and answered once");
        assert!(index >= committed, "a read at {index} misses entry {committed}");
        let last = self.log.range(..=index).next_back().map_or(0, |(index, _)| *index);
        assert!(delivered >= last, "a read at {index} came with only {delivered} delivered");
        self.answered_reads += 1;
    }

    /// The node died: its questions are nobody's any more.
    pub fn died(&mut self, node: u64) {
        self.open.remove(&node);
        self.reads.retain(|(of, _), _| *of != node);
    }

    /// The consumer's state after `applied`: what was committed last up to there.
    pub fn state(&self, node: u64, applied: u64, state: &BTreeMap<u64, Vec<u8>>) {
        let entries = self.log.range(..=applied).map(|(index, (_, payload))| (index, payload));
        let expected = BTreeMap::from_iter(entries.rev().take(KEPT));
        assert!(
            state.iter().eq(expected.clone()),
            "node {node} at {applied} has another state: {:?}, not {:?}",
            state.keys(),
            expected.keys()
        );
    }

    pub fn at_the_end(&self) {
        for token in &self.dropped {
            assert!(!self.payloads.contains(&payload(*token)), "{token} was dropped and committed");
        }
    }
}
