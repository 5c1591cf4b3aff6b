//! The handle of a running log.

use std::sync::{Arc, Mutex, PoisonError};

use mezzo_store::Store;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::error::{ProposeError, StartError};
use crate::event::Events;
use crate::membership::Change;
use crate::node::Node;
use crate::queue::{Order, Proposal, Queue};
use crate::status::Status;
use crate::transport::{Inbox, Transport};
use crate::worker::Worker;

/// Events that may wait for the consumer. Beyond that the log's thread waits, and proposals with it: a consumer
/// that lags slows its own proposals instead of filling memory.
const EVENTS: usize = 4096;

/// A running log. Clones share it; when the last one goes, the log stops after the round it is in.
#[derive(Debug, Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    inbox: Inbox,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.queue.close();
    }
}

impl Log {
    /// Opens the log in `store`, or creates it, and starts its thread, for a group of one node. `applied` is the index of
    /// the last [`LogEvent::Committed`](crate::LogEvent::Committed) whose effects the consumer has in the same store (0 for
    /// none): later entries are delivered again, then [`LogEvent::Leader`](crate::LogEvent::Leader).
    ///
    /// # Errors
    /// The store holds another log, or one that does not fit the state; see [`StartError`].
    pub fn start(
        store: Store,
        config: &Config,
        applied: u64,
    ) -> Result<(Self, Events), StartError> {
        Self::start_with(store, config, applied, |_| Box::new(Nobody))
    }

    /// As [`Log::start`], for a node of a larger group, or one that may become one. `transport` is made from the receiving
    /// end of the log, which it hands what arrives.
    ///
    /// # Errors
    /// Those of [`Log::start`].
    pub fn start_with(
        store: Store,
        config: &Config,
        applied: u64,
        transport: impl FnOnce(Inbox) -> Box<dyn Transport>,
    ) -> Result<(Self, Events), StartError> {
        let node = Node::open(store.clone(), config, applied)?;
        let inbox = Inbox {
            queue: Arc::new(Queue::default()),
            status: Arc::new(Mutex::new(node.status())),
            config: Arc::new(config.clone()),
            store: Arc::new(Mutex::new(Some(store))),
            arriving: Arc::default(),
        };
        let (sender, receiver) = mpsc::channel(EVENTS);
        let worker = Worker::new(node, inbox.clone(), transport(inbox.clone()));
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || worker.run(sender))
            .map_err(StartError::Thread)?;
        Ok((Self { handle: Arc::new(Handle { inbox }) }, Events { receiver }))
    }

    /// The receiving end, for whatever brings messages of other nodes.
    pub fn inbox(&self) -> Inbox {
        self.handle.inbox.clone()
    }

    fn queue(&self) -> &Queue {
        &self.handle.inbox.queue
    }

    /// Hands a payload to the log; never blocks. The outcome is an event with this `token` (any number that means
    /// something to the caller): [`LogEvent::Committed`](crate::LogEvent::Committed),
    /// [`LogEvent::Dropped`](crate::LogEvent::Dropped) or, seldom, [`LogEvent::Uncertain`](crate::LogEvent::Uncertain).
    /// Proposals of one thread keep their order.
    ///
    /// # Errors
    /// The log has stopped, is full, or does not take such a payload. There is no event then.
    pub fn propose(&self, token: u64, payload: Vec<u8>) -> Result<(), ProposeError> {
        self.queue().propose(Proposal { token, payload })
    }

    /// Asks for a linearizable read: [`LogEvent::ReadIndex`](crate::LogEvent::ReadIndex) with this `token` comes when
    /// everything has been delivered that was committed before this call; or `Dropped`.
    ///
    /// # Errors
    /// The log has stopped, or too many reads wait. There is no event then.
    pub fn read_index(&self, token: u64) -> Result<(), ProposeError> {
        self.queue().ask(Order::Read { token })
    }

    /// Asks for a change of the group: [`LogEvent::Members`](crate::LogEvent::Members) with this `token` comes when it is
    /// made; or `Dropped`, with the reason.
    ///
    /// # Errors
    /// The log has stopped, or too much waits. There is no event then.
    pub fn change_members(&self, token: u64, change: Change) -> Result<(), ProposeError> {
        self.queue().ask(Order::Change { token, change })
    }

    /// Asks for the lead to be handed to `node_id`. [`LogEvent::NotLeader`](crate::LogEvent::NotLeader) comes when that
    /// has happened, `Dropped` with this `token` if it cannot be tried, and nothing if it was tried in vain.
    ///
    /// # Errors
    /// The log has stopped, or too much waits. There is no event then.
    pub fn transfer_leader(&self, token: u64, node_id: u64) -> Result<(), ProposeError> {
        self.queue().ask(Order::Transfer { token, node_id })
    }

    /// Tells that the consumer has applied up to `index` and has put this into the store (a plain write does),
    /// so that the log may drop entries that nobody needs any more.
    pub fn applied(&self, index: u64) {
        self.queue().applied(index);
    }

    /// Where the log stood after its last round.
    pub fn status(&self) -> Status {
        self.handle.inbox.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The transport of a group of one.
struct Nobody;

impl Transport for Nobody {
    fn send(&self, _to: u64, _message: Vec<u8>) {}

    fn open_state(&self, _to: u64) -> Option<Box<dyn crate::transport::StateSink>> {
        None
    }
}
