//! The receiving half of an executor's subscription.

use tokio::sync::mpsc;

use crate::error::{Ended, ServerKind};
use crate::executor::event::ExecutorEvent;

/// The events of a subscription, in order. Dropping it ends the subscription.
#[derive(Debug)]
pub struct ExecutorEvents {
    queue: mpsc::Receiver<Result<ExecutorEvent, Ended>>,
    ended: Option<Ended>,
}

impl ExecutorEvents {
    pub(crate) fn new(queue: mpsc::Receiver<Result<ExecutorEvent, Ended>>) -> Self {
        ExecutorEvents { queue, ended: None }
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`] when the subscription is over for good, and the executor should end; each later
    /// call returns the same.
    pub async fn next(&mut self) -> Result<ExecutorEvent, Ended> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        // The task ends without a word only when the runtime drops it.
        let next = self.queue.recv().await.unwrap_or_else(|| {
            Err(Ended::Protocol {
                server: ServerKind::Agent,
                problem: "the connection task was ended".to_owned(),
            })
        });
        if let Err(ended) = &next {
            self.ended = Some(ended.clone());
        }
        next
    }
}
