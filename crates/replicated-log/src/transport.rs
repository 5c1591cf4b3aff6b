//! Between the log's thread and whatever carries its messages.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use mezzo_store::Store;

use crate::config::{Config, GroupId};
use crate::error::StateError;
use crate::queue::{Order, Queue};
use crate::spool::Spool;
use crate::status::Status;

/// Carries messages to other nodes. Called on the log's thread: nothing here may block.
pub trait Transport: Send {
    /// Sends `message` to node `to`, some time; it may be dropped, for raft repeats what matters.
    fn send(&self, to: u64, message: Vec<u8>);

    /// Opens a way for a state to node `to`; `None` if there is no connection.
    fn open_state(&self, to: u64) -> Option<Box<dyn StateSink>>;
}

/// Where the frames of a state go. Called on a thread of its own; blocking here holds back the reading of the state.
pub trait StateSink: Send {
    /// # Errors
    /// The connection has ended, or the receiver has refused.
    fn send(&mut self, frame: Vec<u8>) -> Result<(), StateError>;

    /// Waits until the receiver has got all of it.
    ///
    /// # Errors
    /// The receiver has refused it, or the connection has ended.
    fn finish(self: Box<Self>) -> Result<(), StateError>;
}

/// The receiving end of a log, for whatever brings it messages. Clones share it.
#[derive(Debug, Clone)]
pub struct Inbox {
    pub(crate) queue: Arc<Queue>,
    pub(crate) status: Arc<Mutex<Status>>,
    pub(crate) config: Arc<Config>,
    /// Held while the log runs: at the end of its events the store is free.
    pub(crate) store: Arc<Mutex<Option<Store>>>,
    /// Whose turn it is to arrive: one state at a time, so that they take bounded room.
    pub(crate) arriving: Arc<Mutex<Weak<()>>>,
}

impl Inbox {
    pub fn node_id(&self) -> u64 {
        self.config.node_id
    }

    /// The id of this node's group, if it knows it yet.
    pub fn group(&self) -> Option<GroupId> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).group
    }

    /// Takes a message of another node; one too many is dropped. Whether the log still runs.
    pub fn message(&self, message: Vec<u8>) -> bool {
        self.queue.message(message)
    }

    /// Whether the log still runs.
    pub fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Waits until the log has ended.
    pub async fn ended(&self) {
        self.queue.ended().await;
    }

    /// The connection to `node_id` broke, and the attempt to make it again was refused: the process is gone. If it led, this
    /// node campaigns at once instead of waiting for the election timeout.
    pub fn lost(&self, node_id: u64) {
        // A log that has ended does not care.
        let _ = self.queue.order(Order::Lost { node_id });
    }

    /// Messages to `node_id` were lost, or may have been.
    pub fn unreachable(&self, node_id: u64) {
        let _ = self.queue.order(Order::Unreachable { node_id });
    }

    /// Begins to take a state, of which `first` is the first frame.
    ///
    /// # Errors
    /// It does not fit this node, or another one is arriving; the sender tries again.
    pub fn begin_state(&self, first: &[u8]) -> Result<StateInbox, StateError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let store = store.ok_or(StateError::Ended)?;
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        if arriving.strong_count() > 0 {
            return Err(StateError::Busy);
        }
        let mut spool = Spool::begin(&store, &self.config, self.group(), first)?;
        let turn = Arc::new(());
        *arriving = Arc::downgrade(&turn);
        spool.turn = Some(turn);
        Ok(StateInbox { inbox: self.clone(), spool: Some(spool) })
    }
}

/// A state that is arriving. Dropping it before its end gives it up.
#[derive(Debug)]
pub struct StateInbox {
    inbox: Inbox,
    spool: Option<Spool>,
}

impl StateInbox {
    /// Takes the next frame; whether it was the last one, with which the state goes to the log. Writes a file.
    ///
    /// # Errors
    /// The frame is damaged or out of place, or could not be kept.
    pub fn add(&mut self, frame: &[u8]) -> Result<bool, StateError> {
        let spool = self.spool.as_mut().ok_or(StateError::Ended)?;
        let is_whole = spool.add(frame)?;
        if is_whole && let Some(spool) = self.spool.take() {
            self.inbox.queue.order(Order::State(spool)).map_err(|_| StateError::Ended)?;
        }
        Ok(is_whole)
    }
}
