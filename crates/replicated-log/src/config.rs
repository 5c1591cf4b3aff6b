//! How a log runs.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::error::StartError;
use crate::records::FAMILIES;

/// Most nodes in a group, learners included: five voters and two that are on their way in.
pub const MAX_MEMBERS: usize = 7;

/// Which group a log belongs to. Made once by whoever founds the group, kept by every node of it for ever, and shown to
/// each other at the start of every connection, so that nobody takes another cluster's log for its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub [u8; 16]);

impl GroupId {
    pub fn random() -> Self {
        Self(*uuid::Uuid::new_v4().as_bytes())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the consumer keeps its state in the store that it shares with the log, so that the log can hand the state to a
/// node that lacks it, and replace it where it is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFamilies {
    /// All families of the consumer: what is in them is the state, and nothing else is. They must be the same, in the
    /// same order, at all nodes of the group.
    pub families: Vec<&'static str>,
    /// Family (one of the above) and key of the applied index, 8 bytes big-endian; none yet means zero.
    pub applied: (&'static str, &'static [u8]),
}

/// How a log runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node's number in the group, from 1. Part of the log for ever: a node that has lost its store comes back under
    /// another number, since it has forgotten its votes.
    pub node_id: u64,
    /// The nodes that a new group begins with, this one among them: the same at each of them. Empty for a node that joins
    /// a group that is there already. Read only when the store holds no log yet.
    pub founders: Vec<u64>,
    /// Applied entries are dropped once the kept ones take more than this. What is not applied is always kept.
    pub retain_bytes: u64,
    /// Where the state is. A group of more than one node needs it.
    pub state: Option<StateFamilies>,
    /// Largest state that is taken over from another node. It passes through memory once, on its way into one batch.
    pub max_snapshot_bytes: u64,
    /// The unit of the two below. The thread sleeps through ticks at which nothing is due; a group of one has none.
    pub tick: Duration,
    /// A leader is heard of at least this often.
    pub heartbeat_ticks: usize,
    /// A leader of whom nothing was heard for this long, and up to twice as long, is given up; one who does not hear of a
    /// majority for this long gives up.
    pub election_ticks: usize,
    /// Election timeouts are drawn from this and the node's number: the same messages at the same ticks give the same run.
    pub seed: u64,
    /// The group's id, if it is this node that founds it.
    pub group_if_founded: GroupId,
}

impl Config {
    /// A group of one, with `retain_bytes` of 16 MiB: a replay of less than a second. A leader is heard of ten times in a
    /// second and given up after one to two seconds of silence, which even slow disks do not exceed; one whose connection
    /// breaks is given up at once (see the crate's README).
    pub fn new(node_id: u64) -> Self {
        Self {
            node_id,
            founders: vec![node_id],
            retain_bytes: 16 << 20,
            state: None,
            max_snapshot_bytes: 1 << 30,
            tick: Duration::from_millis(1),
            heartbeat_ticks: 100,
            election_ticks: 1000,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            group_if_founded: GroupId::random(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let Self { node_id, founders, .. } = self;
        if *node_id == 0 || founders.contains(&0) {
            return Err(StartError::NodeIdZero);
        }
        if founders.iter().collect::<BTreeSet<_>>().len() != founders.len() {
            return Err(StartError::FounderTwice { founders: founders.clone() });
        }
        if !founders.is_empty() && !founders.contains(node_id) {
            return Err(StartError::NoFounder { node_id: *node_id, founders: founders.clone() });
        }
        if founders.len() > MAX_MEMBERS {
            return Err(StartError::TooManyFounders {
                founders: founders.clone(),
                limit: MAX_MEMBERS,
            });
        }
        if founders != &[*node_id] && self.state.is_none() {
            return Err(StartError::StateUnknown);
        }
        if let Some(state) = &self.state {
            let own = state.families.iter().find(|family| FAMILIES.contains(family));
            if let Some(family) = own {
                return Err(StartError::FamilyOfTheLog { family });
            }
            if !state.families.contains(&state.applied.0) {
                return Err(StartError::AppliedElsewhere { family: state.applied.0 });
            }
        }
        Ok(())
    }
}
