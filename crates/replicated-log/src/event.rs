//! What the log tells.

use std::sync::mpsc as std_mpsc;

use tokio::sync::mpsc;

use crate::error::LogError;

/// One thing that happened, in the order in which it happened.
#[derive(Debug)]
pub enum LogEvent {
    /// This node leads in `term`, and everything committed in earlier terms has been delivered before this.
    /// The term is the fencing token: whatever leaves this node as leader carries it, and receivers refuse lower ones.
    Leader { term: u64 },

    /// This node does not lead. `leader` does, if that is known. Told whenever that changes.
    NotLeader { leader: Option<u64> },

    /// An entry is committed: it will never be lost or changed. Indexes grow, with gaps where raft keeps entries of
    /// its own. `token` is that of [`Log::propose`](crate::Log::propose) if this node proposed it since it started.
    Committed { index: u64, term: u64, payload: Vec<u8>, token: Option<u64> },

    /// What was asked for with this token is not and will not be done: a proposal, a read, a change of the group.
    Dropped { token: u64, reason: DropReason },

    /// The entry proposed with this token may or may not be committed: a state was taken over from another node
    /// ([`LogEvent::Restored`]), and the state alone tells.
    Uncertain { token: u64 },

    /// Whatever had been answered to anybody when [`Log::read_index`](crate::Log::read_index) was called with this token
    /// is at or below `index`, and everything up to `index` has been delivered: a consumer that applies in order may
    /// answer the read from its state now.
    ReadIndex { token: u64, index: u64 },

    /// The group is of these nodes from now on. `token` is that of
    /// [`Log::change_members`](crate::Log::change_members) if this node asked for the change.
    Members { voters: Vec<u64>, learners: Vec<u64>, token: Option<u64> },

    /// This node was taken out of the group. It gets no more entries and never leads again; its log can be ended.
    Removed,

    /// The log is about to replace the consumer's state with that of another node, and waits: the consumer writes what it
    /// has gathered, writes nothing more, and calls [`StateHold::release`]. [`LogEvent::Restored`] follows. If it drops the
    /// hold instead, the log ends and nothing is replaced.
    Restoring { hold: StateHold },

    /// The state in the store is that of another node now, up to and including `index`: the consumer forgets what it has
    /// in memory and loads it. Later entries follow.
    Restored { index: u64 },

    /// The log has ended; nothing follows. What was proposed and is not answered may or may not be committed:
    /// only a restart tells.
    Failed { error: LogError },
}

/// Keeps the log from touching the consumer's state.
#[derive(Debug)]
#[must_use = "the log ends unless the hold is released"]
pub struct StateHold {
    released: std_mpsc::Sender<()>,
}

impl StateHold {
    /// A hold, and a function that waits until it is released (or, an error, dropped).
    pub(crate) fn new() -> (Self, impl FnOnce() -> Result<(), ()>) {
        let (released, receiver) = std_mpsc::channel();
        (Self { released }, move || receiver.recv().map_err(|_| ()))
    }

    /// Lets the log replace the state. From here on the consumer neither reads nor writes it, until
    /// [`LogEvent::Restored`].
    pub fn release(self) {
        // A log that has ended meanwhile does not replace anything.
        let _ = self.released.send(());
    }
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// This node did not lead when the proposal's turn came, or (a read) stopped leading before it was answered.
    #[error("this node does not lead")]
    NotLeader,
    /// This node lost its lead and another leader's entry took the place.
    #[error("another leader's entry took its place")]
    Overwritten,
    /// This node leads and is handing the lead over.
    #[error("the lead is being handed over")]
    HandingOver,
    /// More is under way than memory is meant for: the other nodes do not keep up.
    #[error("too much is under way that a majority has not confirmed")]
    Full,
    #[error("another change of the group is under way")]
    ChangeUnderWay,
    #[error("the node is a member already")]
    AlreadyMember,
    #[error("the node is no member, or has its vote already")]
    NoLearner,
    #[error("the node is no member")]
    NoMember,
    #[error("the learner has not caught up yet")]
    NotCaughtUp,
    /// Raft cannot lead a group without being in it.
    #[error("the node leads; hand the lead over first")]
    Leads,
    #[error("the group has no other voter")]
    LastVoter,
    #[error("the group has as many members as it can have")]
    TooManyMembers,
    /// Only a voter that is heard of can take the lead.
    #[error("the node is no voter, or is not heard of")]
    CannotLead,
    /// The log was started without [`Config::state`](crate::Config::state).
    #[error("the log was not told where the state is, so no node can be given it")]
    StateUnknown,
}

/// The receiving end of a log's events. When it ends, the log's thread has ended and has let go of the store.
/// Dropping it stops the log.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<LogEvent>,
}

impl Events {
    /// The next event; `None` after the last. Cancel-safe: no event is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<LogEvent> {
        self.receiver.recv().await
    }

    /// Waits for up to `limit` events at once, for a consumer that applies in batches; returns how many were added.
    pub async fn recv_many(&mut self, events: &mut Vec<LogEvent>, limit: usize) -> usize {
        self.receiver.recv_many(events, limit).await
    }

    /// As [`Events::recv`], for a thread that is no executor's.
    pub fn blocking_recv(&mut self) -> Option<LogEvent> {
        self.receiver.blocking_recv()
    }
}
