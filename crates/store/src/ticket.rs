//! Waiting for a sync, from a thread or from a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::WriteError;

/// The outcome of one [`Store::write_synced`](crate::Store::write_synced): await it, or [`Ticket::wait`].
/// Dropping it does not undo the write. Works with any executor.
#[derive(Debug)]
#[must_use = "the write is durable only when the ticket says so"]
pub struct Ticket {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    outcome: Option<Result<(), WriteError>>,
    waker: Option<Waker>,
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ticket and the callback that fills it.
pub(crate) fn ticket() -> (Ticket, impl FnOnce(Result<(), WriteError>) + Send + 'static) {
    let shared = Arc::new(Shared::default());
    let ticket = Ticket { shared: Arc::clone(&shared) };
    let fill = move |outcome| {
        let mut slot = shared.slot();
        slot.outcome = Some(outcome);
        let waker = slot.waker.take();
        drop(slot);
        shared.filled.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    (ticket, fill)
}

impl Ticket {
    /// Blocks the calling thread until the sync has happened or failed.
    pub fn wait(self) -> Result<(), WriteError> {
        let mut slot = self.shared.slot();
        loop {
            if let Some(outcome) = slot.outcome.take() {
                return outcome;
            }
            slot = self.shared.filled.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.shared.slot();
        match slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
