//! Raft, driven step by step: no thread, no clock, no network.
//!
//! Inputs change raft's memory; [`Node::drive`] then writes what has to be remembered and hands out [`Effect`]s. What the
//! outside sees rests on what is on the disk: a message that relies on a vote or on entries leaves after they are
//! synced. A leader's own appends may leave before (raft thesis, 10.2.1), so that its followers' disks work at the same
//! time as its own.
//!
//! Raft 0.7 is handled with care where it needs it: members change between two of its rounds and never within one, and a
//! leader that is taken out of the group gives up at once (`membership_changes`); reads wait until the leader has committed
//! in its term, because raft drops them silently before (`reads`); its election timeouts are out of play (`election`);
//! [`Node::drive`] empties the backlog of committed entries before anybody campaigns, because a campaign reads all of it
//! into memory.

use std::collections::BTreeMap;

use mezzo_store::{Store, WriteError};
use prost_raft::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{ProgressState, RawNode, Ready, SnapshotStatus, StateRole};

use crate::config::{Config, GroupId};
use crate::drain;
use crate::effect::{Effect, Emit, Recipient};
use crate::election::{Election, NEVER};
use crate::error::{LogError, MessageError, StartError};
use crate::event::{DropReason, LogEvent, StateHold};
use crate::fault::step;
use crate::membership::is_member;
use crate::pending::Pending;
use crate::queue::Proposal;
use crate::reads::Reads;
use crate::records;
use crate::spool::{self, Spool};
use crate::status::{Peer, Role, Status};
use crate::storage::LogStorage;

/// Bytes of committed entries that one step reads back: bounds the memory of a long replay.
const STEP_BYTES: u64 = 4 << 20;

/// Bytes of entries in one message, if no single entry is larger: what one round of proposals makes.
const MESSAGE_BYTES: u64 = 4 << 20;

/// Messages with entries that may be on their way to one follower.
const MESSAGES_UNDER_WAY: usize = 64;

/// What a leader may have appended that a majority has not confirmed, in bytes and in proposals. Beyond that, proposals are
/// dropped: with a majority out of reach, a leader stops being one within an election timeout or two.
const UNCOMMITTED_BYTES: u64 = 128 << 20;
const UNCOMMITTED_PROPOSALS: usize = 1 << 18;

/// While a state is on its way to a follower, the entries that it will need next are kept up to this many times
/// [`Config::retain_bytes`].
const RETAIN_FOR_TRANSFERS: u64 = 4;

pub(crate) struct Node {
    pub(crate) raw: RawNode<LogStorage>,
    config: Config,
    election: Election,
    /// Own proposals that are appended and not yet committed.
    pub(crate) pending: Pending,
    reads: Reads,
    /// The term that the reads were asked in.
    reads_term: u64,
    /// The term in which the consumer was told that this node leads.
    leading: Option<u64>,
    /// The leader that the consumer was told of last.
    told_leader: Option<u64>,
    told_removed: bool,
    /// The term in which this node has proposed an id for the group.
    founding: Option<u64>,
    /// The last entry that was delivered or is in the state.
    delivered: u64,
    /// How far the consumer has applied.
    applied: u64,
    /// States on their way to other nodes: the term that each was begun in, and the last entry that it is known to have.
    transfers: BTreeMap<u64, (u64, u64)>,
    /// A state that raft is being told of.
    arrived: Option<Spool>,
}

impl Node {
    pub fn open(store: Store, config: &Config, applied: u64) -> Result<Self, StartError> {
        let dir = store.dir().to_owned();
        let storage = LogStorage::open(store, config, applied)?;
        spool::clear(&dir)?;
        let applied = storage.lacking(applied);
        // Entry 1 of a group of one may not be committed yet.
        let applied = applied.min(storage.hard_state().commit);
        let raft_config = raft::Config {
            id: config.node_id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            min_election_tick: NEVER,
            max_election_tick: NEVER + 1,
            applied,
            max_committed_size_per_ready: STEP_BYTES,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: MESSAGES_UNDER_WAY,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let raw = RawNode::new(&raft_config, storage, &drain::logger())
            .map_err(|error| StartError::Raft { what: error.to_string() })?;
        Ok(Self {
            raw,
            election: Election::new(config.seed, config.node_id, config.election_ticks),
            config: config.clone(),
            pending: Pending::default(),
            reads: Reads::default(),
            reads_term: 0,
            leading: None,
            told_leader: None,
            told_removed: false,
            founding: None,
            delivered: applied,
            applied,
            transfers: BTreeMap::new(),
            arrived: None,
        })
    }

    pub fn group(&self) -> Option<GroupId> {
        self.raw.store().group()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this node decides alone: it needs neither ticks nor messages.
    pub fn is_alone(&self) -> bool {
        let members = self.raw.store().members();
        members.voters == [self.config.node_id] && members.learners.is_empty()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Asks for votes, unless this node leads or has no vote. A group of one wins at once; the term is new and is synced
    /// before anything is answered. To be called after a [`Node::drive`].
    pub fn campaign(&mut self) -> Result<(), LogError> {
        if self.raw.raft.promotable() {
            self.raw.campaign().map_err(raft_failed)?;
        }
        self.election.note_term(self.raw.raft.term);
        Ok(())
    }

    /// Forgets the leader, whose connection broke and cannot be made again, and campaigns after `ticks` ticks (at least one)
    /// unless a leader shows up before. The caller draws `ticks` so that two nodes that notice at the same moment do not
    /// take each other's votes.
    ///
    /// Without this, pre-vote and check-quorum would wait out the lease: a node that has heard of a leader within the
    /// election timeout ignores requests for votes. Raft 0.7 holds a node to that lease as long as it knows a leader
    /// (`leader_id`); so that is what is forgotten, here and at every node that notices the same.
    ///
    /// It is safe. The lease only keeps a single node that hears nothing from disturbing a leader that the others hear;
    /// nothing rests on it, since reads ask a majority and trust no clock. One leader per term rests on each node voting once
    /// per term, and that what is committed stays rests on voting only for logs that are as complete as one's own; term,
    /// vote and log are untouched here. In the term of the forgotten leader itself nobody else can win: a majority has
    /// voted for it. If it is alive after all, its next message makes this node its follower again, and a pre-vote that
    /// came to nothing has changed no term.
    pub fn forget_leader(&mut self, ticks: usize) {
        if !self.is_leader() {
            self.raw.raft.leader_id = raft::INVALID_ID;
            self.election.hurry(ticks);
        }
    }

    /// The leader that this node knows of.
    pub fn leader(&self) -> Option<u64> {
        let leader = self.raw.raft.leader_id;
        (leader != raft::INVALID_ID).then_some(leader)
    }

    /// Whether a campaign is due that [`Node::forget_leader`] asked for.
    pub fn is_hurried(&self) -> bool {
        self.election.is_hurried()
    }

    /// A number of ticks from 1 to `limit`, from the seed.
    pub fn draw(&mut self, limit: usize) -> usize {
        self.election.draw_below(limit) + 1
    }

    /// One tick of the clock.
    pub fn tick(&mut self) -> Result<(), LogError> {
        self.raw.tick();
        self.election.note_term(self.raw.raft.term);
        if self.is_leader() || !self.raw.raft.promotable() {
            return Ok(());
        }
        let has_leader = self.raw.raft.leader_id != raft::INVALID_ID;
        if self.election.tick(self.raw.raft.election_elapsed, has_leader) {
            self.raw.raft.election_elapsed = 0;
            self.election.draw();
            self.campaign()?;
        }
        Ok(())
    }

    /// Ticks until one of them does something, if nothing else happens; `None`: never.
    pub fn due_ticks(&self) -> Option<usize> {
        let raft = &self.raw.raft;
        if self.is_leader() {
            if self.is_alone() {
                return None;
            }
            return Some(raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed()).max(1));
        }
        if raft.promotable() {
            return Some(self.election.due_ticks(raft.election_elapsed));
        }
        // A learner may have got its vote without knowing it yet, and must not hold on to a leader that is silent.
        let lease = raft.election_timeout().saturating_sub(raft.election_elapsed);
        (self.leader().is_some() && lease > 0).then_some(lease)
    }

    /// Takes a message of another node. An error says why it was not taken; the log goes on.
    pub fn step(&mut self, message: &[u8], emit: Emit<'_>) -> Result<(), MessageError> {
        let message = Message::decode(message).map_err(MessageError::Undecodable)?;
        let node_id = self.config.node_id;
        if message.to != node_id {
            return Err(MessageError::Misdirected { to: message.to, node_id });
        }
        let from = message.from;
        let unexpected = MessageError::Unexpected { kind: message.msg_type, from };
        // What raft takes for its own has no term. Proposals, reads and handing over the lead are asked of the leader by its
        // own consumer only, and a snapshot comes with its state, through `restore`.
        if message.term == 0 || from == raft::INVALID_ID || from == node_id {
            return Err(unexpected);
        }
        match MessageType::from_i32(message.msg_type) {
            Some(MessageType::MsgAppend) if self.raw.store().members().voters.is_empty() => {
                self.ask_for_state(&message, emit);
                return Ok(());
            }
            Some(
                MessageType::MsgAppend
                | MessageType::MsgAppendResponse
                | MessageType::MsgRequestVote
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVote
                | MessageType::MsgRequestPreVoteResponse
                | MessageType::MsgHeartbeat
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgTimeoutNow,
            ) => {}
            _ => return Err(unexpected),
        }
        if let Some(what) = fault_of(&message, &self.raw.raft) {
            return Err(MessageError::Unsound { from, what });
        }
        let stepped = self.raw.step(message);
        self.stepped(from);
        match stepped {
            Err(raft::Error::StepPeerNotFound) => Err(MessageError::Stranger { from }),
            // Raft has said all it has to say about the others.
            _ => Ok(()),
        }
    }

    fn stepped(&mut self, from: u64) {
        self.election.note_term(self.raw.raft.term);
        // Late rejections may take 0.7 back below what a follower has confirmed (raft-rs#555).
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(from) {
            progress.next_idx = progress.next_idx.max(progress.matched + 1);
        }
    }

    /// A node that is in no group yet cannot make sense of entries: the members that a group began with are in none of
    /// them. It asks for the state instead, which names the members.
    fn ask_for_state(&mut self, append: &Message, emit: Emit<'_>) {
        let mut answer = Message {
            to: append.from,
            from: self.config.node_id,
            term: append.term,
            index: append.index,
            reject: true,
            request_snapshot: records::FOUNDING.0,
            ..Message::default()
        };
        answer.set_msg_type(MessageType::MsgAppendResponse);
        emit(Effect::Send { to: append.from, message: answer.encode_to_vec() });
    }

    /// Takes over a state that has arrived whole, if raft still wants it.
    pub fn restore(&mut self, state: Spool, emit: Emit<'_>) -> Result<(), LogError> {
        // Nothing of before may share a round with it.
        self.drive(emit)?;
        let header = state.header().clone();
        let Recipient { to, from, term } = header.recipient;
        let snapshot = raft::eraftpb::Snapshot {
            metadata: Some(header.metadata.clone()),
            ..raft::eraftpb::Snapshot::default()
        };
        let mut message = Message { to, from, term, ..Message::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        message.snapshot = Some(snapshot);
        let is_fit = term > 0
            && from != raft::INVALID_ID
            && from != to
            && self.group().is_none_or(|group| group == header.group);
        if is_fit {
            self.arrived = Some(state);
            // A refused one is like a lost one.
            let _ = self.raw.step(message);
            self.stepped(from);
        }
        let outcome = self.drive(emit);
        // Raft had no use for it: the file goes.
        self.arrived = None;
        outcome
    }

    /// The sending of a state to `to` has ended.
    pub fn state_sent(&mut self, recipient: Recipient, is_whole: bool) {
        let Recipient { to, term, .. } = recipient;
        // One that was begun in an earlier lead says nothing about the one that raft has asked for since.
        if self.transfers.get(&to).is_none_or(|(of, _)| *of != term) {
            return;
        }
        // It has arrived, and is not in its place yet: until the node says so, what it needs next is kept.
        if !is_whole {
            self.transfers.remove(&to);
        }
        let status = if is_whole { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to, status);
    }

    /// A message to `to` was lost for certain: raft goes back to what that node has confirmed.
    pub fn unreachable(&mut self, to: u64) {
        self.raw.report_unreachable(to);
    }

    /// As [`Node::propose_all`], for one.
    #[cfg(test)]
    pub fn propose(&mut self, proposal: Proposal, emit: Emit<'_>) {
        self.propose_all(vec![proposal], emit);
    }

    /// Appends proposals, or answers that they cannot be. [`Node::drive`] makes them durable and delivers them. They go to the
    /// other nodes together, in as few messages as their size allows.
    pub fn propose_all(&mut self, proposals: Vec<Proposal>, emit: Emit<'_>) {
        if proposals.is_empty() {
            return;
        }
        let mut tokens = Vec::with_capacity(proposals.len());
        let mut message = Message { from: self.config.node_id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        for Proposal { token, payload } in proposals {
            tokens.push(token);
            message.entries.push(Entry { data: payload, ..Entry::default() });
        }
        // Raft would forward a proposal to a leader it knows of, and its outcome would be lost from sight.
        let refusal = self.refusal().or_else(|| {
            let fits = self.pending.len() + tokens.len() <= UNCOMMITTED_PROPOSALS;
            (!fits || self.raw.raft.step(message).is_err()).then_some(DropReason::Full)
        });
        if let Some(reason) = refusal {
            for token in tokens {
                emit(Effect::Tell(LogEvent::Dropped { token, reason }));
            }
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let first = last + 1 - tokens.len() as u64;
        for (index, token) in (first..).zip(tokens) {
            self.pending.push(index, self.raw.raft.term, token);
        }
    }

    /// Why nothing can be appended here now, if so.
    pub(crate) fn refusal(&self) -> Option<DropReason> {
        if !self.is_leader() {
            Some(DropReason::NotLeader)
        } else if self.raw.raft.lead_transferee.is_some() {
            Some(DropReason::HandingOver)
        } else {
            None
        }
    }

    /// Asks for a linearizable read; [`LogEvent::ReadIndex`] answers.
    pub fn read_index(&mut self, token: u64, emit: Emit<'_>) {
        self.abandon_reads(emit);
        let reason = if !self.is_leader() {
            DropReason::NotLeader
        } else if !self.reads.add(token) {
            DropReason::Full
        } else {
            self.reads_term = self.raw.raft.term;
            return;
        };
        emit(Effect::Tell(LogEvent::Dropped { token, reason }));
    }

    /// Answers reads of a lead that is over.
    fn abandon_reads(&mut self, emit: Emit<'_>) {
        if self.is_leader() && self.raw.raft.term == self.reads_term {
            return;
        }
        for token in self.reads.abandon() {
            emit(Effect::Tell(LogEvent::Dropped { token, reason: DropReason::NotLeader }));
        }
    }

    /// Hands the lead to `node_id`, a voter. It has it when this node is told so ([`LogEvent::NotLeader`]); within an election
    /// timeout or not at all. Proposals are dropped meanwhile.
    pub fn transfer_leader(&mut self, node_id: u64) -> Result<(), DropReason> {
        if let Some(reason) = self.refusal() {
            return Err(reason);
        }
        let is_voter = self.raw.store().members().voters.contains(&node_id);
        let progress = self.raw.raft.prs().get(node_id);
        if !is_voter || progress.is_none_or(|progress| !progress.recent_active) {
            return Err(DropReason::CannotLead);
        }
        self.raw.transfer_leader(node_id);
        Ok(())
    }

    /// Runs raft until it wants nothing more: persists (one synced batch for everything proposed since the last
    /// call), then delivers what is committed.
    pub fn drive(&mut self, emit: Emit<'_>) -> Result<(), LogError> {
        self.tell_removed(emit);
        loop {
            self.found_group();
            self.ask_reads();
            if !self.raw.has_ready() {
                break;
            }
            self.round(emit)?;
            self.election.note_term(self.raw.raft.term);
        }
        self.abandon_reads(emit);
        self.answer_reads(emit);
        Ok(())
    }

    fn round(&mut self, emit: Emit<'_>) -> Result<(), LogError> {
        let mut ready = self.raw.ready();
        let known = self.raw.store().hard_state();
        let is_vote_new =
            ready.hs().is_some_and(|new| (new.term, new.vote) != (known.term, known.vote));
        let mut messages = ready.take_messages();
        let mut synced_messages = ready.take_persisted_messages();
        if is_vote_new {
            // A single voter leads within the round that elects it. With a learner to send to, raft would let the new
            // term's entries out before the term is on the disk; a crash would lead in that term twice.
            synced_messages.append(&mut messages);
        }
        self.post(messages, emit);
        self.tell_leader(emit);
        for state in ready.take_read_states() {
            self.reads.confirm(&state.request_ctx, state.index);
        }
        // Members change between rounds only, so what follows a change waits for the end of this one.
        let mut committed = ready.take_committed_entries();
        let is_change = |entry: &Entry| entry.entry_type() != EntryType::EntryNormal;
        let mut later = committed
            .iter()
            .position(is_change)
            .map_or_else(Vec::new, |change| committed.split_off(change));
        self.deliver(committed, emit)?;
        if !ready.snapshot().is_empty() {
            self.install(&ready, emit)?;
        } else if !ready.entries().is_empty() || ready.hs().is_some() {
            let (entries, hard_state, sync) =
                (ready.take_entries(), ready.hs().cloned(), ready.must_sync());
            mezzo_fault_points::hit!("raft.persisting");
            self.raw
                .mut_store()
                .persist(&entries, hard_state.as_ref(), sync)
                .map_err(LogError::Write)?;
            mezzo_fault_points::hit!("raft.persisted");
        }
        self.post(synced_messages, emit);
        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().set_commit(commit);
        }
        self.post(light.take_messages(), emit);
        later.append(&mut light.take_committed_entries());
        self.deliver(later, emit)?;
        self.raw.advance_apply();
        Ok(())
    }

    fn post(&mut self, messages: Vec<Message>, emit: Emit<'_>) {
        for message in messages {
            let to = message.to;
            if message.msg_type == MessageType::MsgSnapshot as i32 {
                let index = message.snapshot.and_then(|snapshot| snapshot.metadata);
                let (from, term) = (message.from, message.term);
                self.transfers.insert(to, (term, index.map_or(0, |metadata| metadata.index)));
                emit(Effect::SendState(Recipient { to, from, term }));
            } else {
                emit(Effect::Send { to, message: message.encode_to_vec() });
            }
        }
    }

    /// Puts an arrived state in the place of everything.
    fn install(&mut self, ready: &Ready, emit: Emit<'_>) -> Result<(), LogError> {
        assert!(ready.entries().is_empty(), "entries came in one round with a state");
        let metadata = ready.snapshot().metadata.clone().unwrap_or_default();
        let state = self.arrived.take().ok_or_else(|| LogError::Raft {
            what: format!("a snapshot at entry {} came without its state", metadata.index),
        })?;
        step("state.restoring");
        let (hold, wait) = StateHold::new();
        emit(Effect::Tell(LogEvent::Restoring { hold }));
        wait().map_err(|()| LogError::StateHeld)?;
        let store = self.raw.store().store().clone();
        // The consumer's last writes may wait for the disk; what is deleted has to be there.
        store.write_and_sync(mezzo_store::Batch::new()).map_err(LogError::Write)?;
        step("state.released");
        let batch = state.read(&store).map_err(|error| LogError::Restore(error.into()))?;
        let (conf_index, group, index) =
            (state.header().conf_index, state.header().group, metadata.index);
        step("state.installing");
        self.raw
            .mut_store()
            .install(metadata, conf_index, group, ready.hs(), batch)
            .map_err(LogError::Write)?;
        step("state.installed");
        drop(state);
        self.delivered = index;
        self.applied = index;
        for token in self.pending.forget_to(index) {
            emit(Effect::Tell(LogEvent::Uncertain { token }));
        }
        emit(Effect::Tell(LogEvent::Restored { index }));
        self.tell_members(None, emit);
        step("state.restored");
        Ok(())
    }

    fn tell_leader(&mut self, emit: Emit<'_>) {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        if leads && self.leading.is_none_or(|term| term == raft.term) {
            return;
        }
        let leader = (!leads && raft.leader_id != raft::INVALID_ID).then_some(raft.leader_id);
        let is_lost = self.leading.take().is_some();
        if is_lost || self.told_leader != leader {
            self.told_leader = leader;
            emit(Effect::Tell(LogEvent::NotLeader { leader }));
        }
    }

    fn deliver(&mut self, entries: Vec<Entry>, emit: Emit<'_>) -> Result<(), LogError> {
        for entry in entries {
            let mut token = self.pending.settle(entry.index, entry.term, |token| {
                let reason = DropReason::Overwritten;
                emit(Effect::Tell(LogEvent::Dropped { token, reason }));
            });
            // The first entry of a leader's own term commits everything before it.
            if self.is_leader() && entry.term == self.raw.raft.term && self.leading.is_none() {
                self.leading = Some(entry.term);
                self.told_leader = None;
                emit(Effect::Tell(LogEvent::Leader { term: entry.term }));
            }
            self.delivered = entry.index;
            if entry.entry_type() != EntryType::EntryNormal {
                self.change_members(&entry, token.take(), emit)?;
            } else if !entry.data.is_empty() {
                emit(Effect::Tell(LogEvent::Committed {
                    index: entry.index,
                    term: entry.term,
                    payload: entry.data,
                    token: token.take(),
                }));
            } else if let Some(group) = records::group_of(&entry)
                && self.group().is_none()
            {
                self.raw.mut_store().set_group(group).map_err(LogError::Write)?;
            }
            // Raft makes an empty entry of a change that came too early.
            if let Some(token) = token {
                let reason = DropReason::ChangeUnderWay;
                emit(Effect::Tell(LogEvent::Dropped { token, reason }));
            }
        }
        Ok(())
    }

    /// The first leader of a new group of several gives it its id, through the log.
    fn found_group(&mut self) {
        if self.group().is_some() || self.leading.is_none() || self.founding == self.leading {
            return;
        }
        let group = self.config.group_if_founded;
        // Refused while the lead is handed over, it is tried again.
        if self.raw.propose(group.0.to_vec(), Vec::new()).is_ok() {
            self.founding = self.leading;
        }
    }

    fn ask_reads(&mut self) {
        // Before a leader has committed in its term, raft would drop the question.
        if self.leading == Some(self.raw.raft.term)
            && self.reads_term == self.raw.raft.term
            && self.is_leader()
            && let Some(context) = self.reads.ask()
        {
            self.raw.read_index(context);
        }
    }

    fn answer_reads(&mut self, emit: Emit<'_>) {
        while let Some((index, tokens)) = self.reads.answer(self.delivered) {
            for token in tokens {
                emit(Effect::Tell(LogEvent::ReadIndex { token, index }));
            }
        }
    }

    pub(crate) fn tell_members(&mut self, token: Option<u64>, emit: Emit<'_>) {
        let members = self.raw.store().members();
        let (voters, learners) = (members.voters.clone(), members.learners.clone());
        emit(Effect::Tell(LogEvent::Members { voters, learners, token }));
        self.tell_removed(emit);
    }

    fn tell_removed(&mut self, emit: Emit<'_>) {
        let members = self.raw.store().members();
        let is_removed = !members.voters.is_empty() && !is_member(members, self.config.node_id);
        if is_removed && !self.told_removed {
            emit(Effect::Tell(LogEvent::Removed));
        }
        self.told_removed = is_removed;
    }

    /// The consumer has applied up to `index` and has written so into the store; entries up to there are dropped
    /// once all kept ones take more than the configured size. A group of one drops all of them; in a larger one, the newer
    /// half stays for followers that are a little behind.
    pub fn applied(&mut self, index: u64) -> Result<(), WriteError> {
        self.applied = self.applied.max(index.min(self.raw.raft.raft_log.applied));
        let storage = self.raw.store();
        let (bytes, retain) = (storage.bytes(), self.config.retain_bytes);
        if bytes <= retain {
            return Ok(());
        }
        let mut index = self.applied;
        if !self.is_alone() {
            index = index.min(storage.droppable(retain / 2));
            self.forget_transfers();
            let needed = self.transfers.values().map(|(_, index)| *index).min();
            if let Some(needed) = needed
                && bytes <= retain.saturating_mul(RETAIN_FOR_TRANSFERS)
            {
                index = index.min(needed);
            }
        }
        self.raw.mut_store().compact(index)
    }

    /// Forgets transfers of states that are in place at the other node, or that a leader began that this node no longer is.
    fn forget_transfers(&mut self) {
        let raft = &self.raw.raft;
        let is_leader = raft.state == StateRole::Leader;
        self.transfers.retain(|to, (_, index)| {
            is_leader && raft.prs().get(*to).is_some_and(|progress| progress.matched < *index)
        });
    }

    pub fn status(&self) -> Status {
        let storage = self.raw.store();
        let raft = &self.raw.raft;
        let members = storage.members();
        let node_id = self.config.node_id;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            _ if members.voters.is_empty() => Role::Joining,
            _ if members.learners.contains(&node_id) => Role::Learner,
            _ if !members.voters.contains(&node_id) => Role::Removed,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        Status {
            role,
            term: raft.term,
            leader: (raft.leader_id != raft::INVALID_ID).then_some(raft.leader_id),
            leading: self.leading,
            group: storage.group(),
            voters: members.voters.clone(),
            learners: members.learners.clone(),
            peers: self.peers(),
            first_index: storage.first(),
            last_index: storage.last(),
            commit_index: raft.raft_log.committed,
            retained_bytes: storage.bytes(),
        }
    }

    fn peers(&self) -> Vec<Peer> {
        if !self.is_leader() {
            return Vec::new();
        }
        let members = self.raw.store().members();
        let peer = |(node_id, progress): (&u64, &raft::Progress)| Peer {
            node_id: *node_id,
            is_voter: members.voters.contains(node_id),
            matched: progress.matched,
            is_active: progress.recent_active,
            is_sent_state: progress.state == ProgressState::Snapshot,
        };
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.config.node_id);
        let mut peers: Vec<Peer> = others.map(peer).collect();
        peers.sort_unstable_by_key(|peer| peer.node_id);
        peers
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        self.raw.store().check_invariants();
    }

    /// Makes the node a follower of a higher term, as a message of another leader would.
    #[cfg(test)]
    pub fn depose(&mut self) {
        let term = self.raw.raft.term + 1;
        self.raw.raft.become_follower(term, raft::INVALID_ID);
    }
}

/// Terms that a message may be ahead of this node. Raft counts them without looking for an overflow, and a term is for ever.
const TERMS_AHEAD: u64 = 1 << 32;

/// Why raft 0.7 would panic over a message, or believe something that cannot be. Another node of the group sends no such
/// thing, unless this node or that one has lost its log.
fn fault_of(message: &Message, raft: &raft::Raft<LogStorage>) -> Option<&'static str> {
    let last = raft.raft_log.last_index();
    if message.term > raft.term.saturating_add(TERMS_AHEAD) {
        return Some("its term is far beyond all that this group has had");
    }
    match MessageType::from_i32(message.msg_type) {
        Some(MessageType::MsgAppend) => {
            let mut before = (message.index, message.log_term);
            for entry in &message.entries {
                if Some(entry.index) != before.0.checked_add(1)
                    || !(before.1..=message.term).contains(&entry.term)
                {
                    return Some("its entries do not follow each other");
                }
                before = (entry.index, entry.term);
            }
            (message.log_term == 0 && message.index > 0)
                .then_some("it follows an entry that has no term")
        }
        Some(MessageType::MsgHeartbeat) => {
            (message.term >= raft.term && message.commit > last).then_some(
                "the leader knows of entries that this node had and has lost; remove it from the group, and let it join \
                 with an empty store under a new number",
            )
        }
        Some(MessageType::MsgAppendResponse) => {
            (!message.reject && message.term >= raft.term && message.index > last)
                .then_some("it has entries that this node has not sent")
        }
        _ => None,
    }
}

pub(crate) fn raft_failed(error: raft::Error) -> LogError {
    LogError::Raft { what: error.to_string() }
}
