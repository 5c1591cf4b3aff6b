//! Raft, driven step by step: no thread, no channel, no clock.

use std::collections::VecDeque;

use mezzo_store::{Store, WriteError};
use raft::eraftpb::{Entry, EntryType};
use raft::{RawNode, StateRole};

use crate::drain;
use crate::error::{LogError, StartError};
use crate::event::{DropReason, LogEvent};
use crate::log::{Config, Status};
use crate::queue::Proposal;
use crate::storage::LogStorage;

/// Bytes of committed entries that one step reads back: bounds the memory of a long replay.
const STEP_BYTES: u64 = 4 << 20;

/// Ticks are never given to a group of one; raft only checks that one number is greater than the other.
const HEARTBEAT_TICKS: usize = 1;
const ELECTION_TICKS: usize = 10;

pub(crate) struct Node {
    raw: RawNode<LogStorage>,
    /// Own proposals that are appended and not yet committed, by index.
    pending: VecDeque<Pending>,
    /// The term in which the consumer was told that this node leads.
    leading: Option<u64>,
    retain_bytes: u64,
    /// How far the consumer has applied.
    applied: u64,
}

#[derive(Debug)]
struct Pending {
    index: u64,
    term: u64,
    token: u64,
}

impl Node {
    pub fn open(store: Store, config: &Config, applied: u64) -> Result<Self, StartError> {
        let storage = LogStorage::open(store, config.node_id, applied)?;
        let raft_config = raft::Config {
            id: config.node_id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_committed_size_per_ready: STEP_BYTES,
            ..raft::Config::default()
        };
        let raw = RawNode::new(&raft_config, storage, &drain::logger())
            .map_err(|error| StartError::Raft { what: error.to_string() })?;
        Ok(Self {
            raw,
            pending: VecDeque::new(),
            leading: None,
            retain_bytes: config.retain_bytes,
            applied,
        })
    }

    /// Asks to lead. A group of one wins at once; the term is new and is synced before anything is answered.
    /// To be called after the first [`Node::drive`]: raft reads all committed entries not yet applied into
    /// memory when it campaigns.
    pub fn campaign(&mut self) -> Result<(), LogError> {
        self.raw.campaign().map_err(raft_failed)
    }

    /// Appends a proposal, or answers that it cannot be. [`Node::drive`] makes it durable and delivers it.
    pub fn propose(&mut self, proposal: Proposal, emit: &mut dyn FnMut(LogEvent)) {
        let Proposal { token, payload } = proposal;
        // Raft would forward the proposal to a leader it knows of, and its outcome would be lost from sight.
        if self.raw.raft.state != StateRole::Leader
            || self.raw.propose(Vec::new(), payload).is_err()
        {
            return emit(LogEvent::Dropped { token, reason: DropReason::NotLeader });
        }
        let index = self.raw.raft.raft_log.last_index();
        self.pending.push_back(Pending { index, term: self.raw.raft.term, token });
    }

    /// Runs raft until it wants nothing more: persists (one synced batch for everything proposed since the last
    /// call), then delivers what is committed.
    pub fn drive(&mut self, emit: &mut dyn FnMut(LogEvent)) -> Result<(), LogError> {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            if !ready.snapshot().is_empty() {
                return Err(LogError::Raft {
                    what: "a group of one was sent a snapshot".to_owned(),
                });
            }
            // Nobody but this node is in the group: messages would have no receiver.
            drop((ready.take_messages(), ready.take_persisted_messages()));
            self.tell_lost_leadership(emit);
            self.deliver(ready.take_committed_entries(), emit);
            if !ready.entries().is_empty() || ready.hs().is_some() {
                let (entries, hard_state, sync) =
                    (ready.take_entries(), ready.hs().cloned(), ready.must_sync());
                mezzo_fault_points::hit!("raft.persisting");
                self.raw
                    .mut_store()
                    .persist(&entries, hard_state.as_ref(), sync)
                    .map_err(LogError::Write)?;
                mezzo_fault_points::hit!("raft.persisted");
            }
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().set_commit(commit);
            }
            drop(light.take_messages());
            self.deliver(light.take_committed_entries(), emit);
            self.raw.advance_apply();
        }
        Ok(())
    }

    fn tell_lost_leadership(&mut self, emit: &mut dyn FnMut(LogEvent)) {
        if self.leading.is_some_and(|term| {
            self.raw.raft.state != StateRole::Leader || self.raw.raft.term != term
        }) {
            self.leading = None;
            let leader = self.raw.raft.leader_id;
            emit(LogEvent::NotLeader { leader: (leader != raft::INVALID_ID).then_some(leader) });
        }
    }

    fn deliver(&mut self, entries: Vec<Entry>, emit: &mut dyn FnMut(LogEvent)) {
        for entry in entries {
            let token = self.settle(&entry, emit);
            let is_own_term =
                self.raw.raft.state == StateRole::Leader && entry.term == self.raw.raft.term;
            // The first entry of a leader's own term commits everything before it.
            if is_own_term && self.leading.is_none() {
                self.leading = Some(entry.term);
                emit(LogEvent::Leader { term: entry.term });
            }
            // Membership never changes in a group of one, and raft's own entries are empty.
            if entry.entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                emit(LogEvent::Committed {
                    index: entry.index,
                    term: entry.term,
                    payload: entry.data,
                    token,
                });
            }
        }
    }

    /// The token of the own proposal that became `entry`; proposals whose place others took are answered.
    fn settle(&mut self, entry: &Entry, emit: &mut dyn FnMut(LogEvent)) -> Option<u64> {
        while self.pending.front().is_some_and(|pending| pending.index <= entry.index) {
            let pending = self.pending.pop_front()?;
            if (pending.index, pending.term) == (entry.index, entry.term) {
                return Some(pending.token);
            }
            emit(LogEvent::Dropped { token: pending.token, reason: DropReason::Overwritten });
        }
        None
    }

    /// The consumer has applied up to `index` and has written so into the store; entries up to there are dropped
    /// once all kept ones take more than the configured size.
    pub fn applied(&mut self, index: u64) -> Result<(), WriteError> {
        self.applied = self.applied.max(index.min(self.raw.raft.raft_log.applied));
        if self.raw.store().bytes() <= self.retain_bytes {
            return Ok(());
        }
        let applied = self.applied;
        self.raw.mut_store().compact(applied)
    }

    pub fn status(&self) -> Status {
        let storage = self.raw.store();
        Status {
            leading: self.leading,
            first_index: storage.first(),
            last_index: storage.last(),
            commit_index: self.raw.raft.raft_log.committed,
            retained_bytes: storage.bytes(),
        }
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        self.raw.store().check_invariants();
    }

    /// Hands in a message as another node would send it.
    #[cfg(test)]
    pub fn step(&mut self, message: raft::eraftpb::Message) {
        self.raw.step(message).expect("raft takes it");
    }

    /// Makes the node a follower of a higher term, as a message of another leader would.
    #[cfg(test)]
    pub fn depose(&mut self) {
        let term = self.raw.raft.term + 1;
        self.raw.raft.become_follower(term, raft::INVALID_ID);
    }
}

fn raft_failed(error: raft::Error) -> LogError {
    LogError::Raft { what: error.to_string() }
}
