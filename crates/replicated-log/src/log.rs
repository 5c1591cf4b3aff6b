//! The handle, and the thread behind it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use mezzo_store::Store;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::effect::Effect;
use crate::error::{LogError, ProposeError, StartError};
use crate::event::{Events, LogEvent};
use crate::node::Node;
use crate::queue::{Proposal, Queue};
use crate::status::Status;

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
    queue: Arc<Queue>,
    status: Arc<Mutex<Status>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Log {
    /// Opens the log in `store`, or creates it, and starts its thread. `applied` is the index of the last
    /// [`LogEvent::Committed`] whose effects the consumer has in the same store (0 for none): later entries are
    /// delivered again, then [`LogEvent::Leader`].
    pub fn start(
        store: Store,
        config: &Config,
        applied: u64,
    ) -> Result<(Self, Events), StartError> {
        let node = Node::open(store, config, applied)?;
        let queue = Arc::new(Queue::default());
        let status = Arc::new(Mutex::new(node.status()));
        let (sender, receiver) = mpsc::channel(EVENTS);
        let worker = Worker { node, queue: Arc::clone(&queue), status: Arc::clone(&status) };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || worker.run(sender))
            .map_err(StartError::Thread)?;
        Ok((Self { handle: Arc::new(Handle { queue, status }) }, Events { receiver }))
    }

    /// Hands a payload to the log; never blocks. The outcome is an event with this `token` (any number that means
    /// something to the caller): [`LogEvent::Committed`] or [`LogEvent::Dropped`]. Proposals of one thread keep their order.
    /// After an error there is no event.
    pub fn propose(&self, token: u64, payload: Vec<u8>) -> Result<(), ProposeError> {
        self.handle.queue.propose(Proposal { token, payload })
    }

    /// Tells that the consumer has applied up to `index` and has put this into the store (a plain write does),
    /// so that the log may drop entries that nobody needs any more.
    pub fn applied(&self, index: u64) {
        self.handle.queue.applied(index);
    }

    /// Where the log stood after its last round.
    pub fn status(&self) -> Status {
        self.handle.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Worker {
    node: Node,
    queue: Arc<Queue>,
    status: Arc<Mutex<Status>>,
}

impl Worker {
    fn run(mut self, sender: mpsc::Sender<LogEvent>) {
        // Raft answers what it cannot handle, a failed read above all, with a panic: it ends the log, not the process.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.rounds(&sender)))
            .unwrap_or_else(|panic| Err(LogError::Raft { what: panic_text(&*panic) }));
        self.queue.close();
        if let Ok(status) = self.status.lock().as_deref_mut() {
            status.leading = None;
        }
        // The store goes before the channel: at the end of the events it may be opened again.
        drop(self);
        if let Err(error) = outcome {
            tracing::error!(error = %error, source = ?std::error::Error::source(&error), "the replicated log has ended");
            // Without a receiver there is nobody to tell.
            let _ = sender.blocking_send(LogEvent::Failed { error });
        }
    }

    /// One round per loop: take what waits, append it, sync once, deliver. While a round runs, the next one gathers.
    fn rounds(&mut self, sender: &mpsc::Sender<LogEvent>) -> Result<(), LogError> {
        let mut emit = |effect| {
            if let Effect::Tell(event) = effect {
                // A consumer that has gone away is noticed below.
                let _ = sender.blocking_send(event);
            }
        };
        self.node.drive(&mut emit)?;
        self.node.campaign()?;
        self.node.drive(&mut emit)?;
        self.publish();
        while let Some(work) = self.queue.take() {
            if sender.is_closed() {
                return Ok(());
            }
            self.node.propose_all(work.proposals, &mut emit);
            self.node.drive(&mut emit)?;
            if let Some(index) = work.applied {
                self.node.applied(index).map_err(LogError::Write)?;
            }
            self.publish();
        }
        Ok(())
    }

    fn publish(&self) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = self.node.status();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else {
        "panicked".to_owned()
    }
}
