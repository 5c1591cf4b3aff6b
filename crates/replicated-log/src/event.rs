//! What the log tells.

use tokio::sync::mpsc;

use crate::error::LogError;

/// One thing that happened, in the order in which it happened.
#[derive(Debug)]
pub enum LogEvent {
    /// This node leads in `term`, and everything committed in earlier terms has been delivered before this.
    /// The term is the fencing token: whatever leaves this node as leader carries it, and receivers refuse lower ones.
    Leader { term: u64 },

    /// This node does not lead any more. `leader` does, if that is known.
    NotLeader { leader: Option<u64> },

    /// An entry is committed: it will never be lost or changed. Indexes grow, with gaps where raft keeps entries of
    /// its own. `token` is that of [`Log::propose`](crate::Log::propose) if this node proposed it since it started.
    Committed { index: u64, term: u64, payload: Vec<u8>, token: Option<u64> },

    /// The proposal with this token is not and will not be committed.
    Dropped { token: u64, reason: DropReason },

    /// The log has ended; nothing follows. What was proposed and is not answered may or may not be committed:
    /// only a restart tells.
    Failed { error: LogError },
}

/// Why a proposal was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// This node did not lead when the proposal's turn came.
    NotLeader,
    /// This node lost its lead and another leader's entry took the place.
    Overwritten,
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
