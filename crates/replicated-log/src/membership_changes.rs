//! How a node changes the members of its group, one at a time.
//!
//! A change is an entry. It takes effect at each node when that node delivers it, and is on the disk, with the commit
//! index that it rests on, before the node sends anything to or as the new group.

use prost_raft::Message as _;
use raft::ProgressState;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType};

use crate::config::MAX_MEMBERS;
use crate::effect::{Effect, Emit};
use crate::error::LogError;
use crate::event::{DropReason, LogEvent};
use crate::fault::step;
use crate::membership::{Change, is_member, sorted};
use crate::node::{Node, raft_failed};

/// A learner has caught up if it lacks no more than this many entries: less than a second of a busy log.
const CAUGHT_UP_ENTRIES: u64 = 1000;

impl Node {
    /// Proposes a change, or answers why it cannot be made. [`LogEvent::Members`] tells when it is.
    pub fn propose_change(&mut self, token: u64, change: Change, emit: Emit<'_>) {
        if let Some(reason) = self.change_refusal(change) {
            return emit(Effect::Tell(LogEvent::Dropped { token, reason }));
        }
        if self.raw.propose_conf_change(Vec::new(), change.to_raft()).is_err() {
            let reason = DropReason::Full;
            return emit(Effect::Tell(LogEvent::Dropped { token, reason }));
        }
        let index = self.raw.raft.raft_log.last_index();
        self.pending.push(index, self.raw.raft.term, token);
    }

    fn change_refusal(&self, change: Change) -> Option<DropReason> {
        if let Some(reason) = self.refusal() {
            return Some(reason);
        }
        // Raft would make an empty entry of it. At the start of a term this also waits for what earlier leaders have left.
        if self.raw.raft.has_pending_conf() {
            return Some(DropReason::ChangeUnderWay);
        }
        let members = self.raw.store().members();
        match change {
            Change::AddLearner(_) if self.config().state.is_none() => {
                Some(DropReason::StateUnknown)
            }
            Change::AddLearner(node_id) if is_member(members, node_id) => {
                Some(DropReason::AlreadyMember)
            }
            // Zero is raft's nobody.
            Change::AddLearner(0) => Some(DropReason::NoMember),
            Change::AddLearner(_) => (members.voters.len() + members.learners.len() >= MAX_MEMBERS)
                .then_some(DropReason::TooManyMembers),
            Change::Promote(node_id) if !members.learners.contains(&node_id) => {
                Some(DropReason::NoLearner)
            }
            Change::Promote(node_id) => {
                let last = self.raw.raft.raft_log.last_index();
                let has_caught_up = self.raw.raft.prs().get(node_id).is_some_and(|progress| {
                    progress.state == ProgressState::Replicate
                        && progress.matched + CAUGHT_UP_ENTRIES >= last
                });
                (!has_caught_up).then_some(DropReason::NotCaughtUp)
            }
            Change::Remove(node_id) if !is_member(members, node_id) => Some(DropReason::NoMember),
            Change::Remove(node_id) if members.voters == [node_id] => Some(DropReason::LastVoter),
            // Raft 0.7 panics when it leads a group that it is not in.
            Change::Remove(node_id) if node_id == self.config().node_id => Some(DropReason::Leads),
            Change::Remove(_) => None,
        }
    }

    /// A change is committed. Called between raft's rounds.
    pub(crate) fn change_members(
        &mut self,
        entry: &Entry,
        token: Option<u64>,
        emit: Emit<'_>,
    ) -> Result<(), LogError> {
        // In a replay, or with a state that was newer than its own index: it is in effect already.
        if entry.index <= self.raw.store().conf_index() {
            return Ok(());
        }
        let undecodable = |error: prost_raft::DecodeError| LogError::Raft {
            what: format!("entry {} is no change of the members: {error}", entry.index),
        };
        let applied = if entry.entry_type() == EntryType::EntryConfChange {
            let change = ConfChange::decode(entry.data.as_slice()).map_err(undecodable)?;
            self.raw.apply_conf_change(&change)
        } else {
            let change = ConfChangeV2::decode(entry.data.as_slice()).map_err(undecodable)?;
            self.raw.apply_conf_change(&change)
        };
        let members = sorted(applied.map_err(raft_failed)?);
        step("members.changing");
        self.raw.mut_store().set_members(members, entry.index).map_err(LogError::Write)?;
        step("members.changed");
        // Another leader has proposed to take this node out, and this one got to commit it.
        let is_out = !is_member(self.raw.store().members(), self.config().node_id);
        if is_out && self.is_leader() {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        self.tell_members(token, emit);
        Ok(())
    }
}
