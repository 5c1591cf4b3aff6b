//! Who is in the group, and how that changes.

use raft::eraftpb::{ConfChange, ConfChangeType, ConfState};

/// One change of the group. Changes are made one at a time, so that the majorities before and after always overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Adds a node that gets everything and has no vote: the first half of adding a voter.
    AddLearner(u64),
    /// Gives a learner that has caught up its vote: the second half.
    Promote(u64),
    /// Takes a node out for ever. Its number is not used again.
    Remove(u64),
}

impl Change {
    pub fn node_id(self) -> u64 {
        match self {
            Self::AddLearner(node_id) | Self::Promote(node_id) | Self::Remove(node_id) => node_id,
        }
    }

    pub(crate) fn to_raft(self) -> ConfChange {
        let mut change = ConfChange { node_id: self.node_id(), ..ConfChange::default() };
        change.set_change_type(match self {
            Self::AddLearner(_) => ConfChangeType::AddLearnerNode,
            Self::Promote(_) => ConfChangeType::AddNode,
            Self::Remove(_) => ConfChangeType::RemoveNode,
        });
        change
    }
}

/// Whether `node_id` is in the group at all.
pub(crate) fn is_member(members: &ConfState, node_id: u64) -> bool {
    members.voters.contains(&node_id) || members.learners.contains(&node_id)
}

/// Numbers in order, whatever order raft's sets have.
pub(crate) fn sorted(mut members: ConfState) -> ConfState {
    members.voters.sort_unstable();
    members.learners.sort_unstable();
    members
}
