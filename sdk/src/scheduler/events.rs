//! The receiving half of a subscription.

use tokio::sync::mpsc;

use crate::error::{CallError, Ended};
use crate::scheduler::Acknowledgement;
use crate::scheduler::calls::Calls;
use crate::scheduler::event::Event;
use crate::v1;

/// The events of a subscription, in order. Dropping it ends the subscription: the master then
/// waits for the framework's failover timeout before it ends the tasks.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Result<Event, Ended>>,
    calls: Calls,
    acknowledgement: Acknowledgement,
    /// The update handed out last, if it is ours to acknowledge.
    unacknowledged: Option<v1::TaskStatus>,
    ended: Option<Ended>,
}

impl Events {
    pub(crate) fn new(
        queue: mpsc::Receiver<Result<Event, Ended>>,
        calls: Calls,
        acknowledgement: Acknowledgement,
    ) -> Self {
        Events { queue, calls, acknowledgement, unacknowledged: None, ended: None }
    }

    /// The next event. With automatic acknowledgement, first acknowledges the update returned
    /// before. Cancel-safe: no event and no acknowledgement is lost when the future is dropped.
    ///
    /// # Errors
    /// [`Ended`] when the subscription is over for good; each later call returns the same.
    pub async fn next(&mut self) -> Result<Event, Ended> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        if let Some(status) = &self.unacknowledged {
            // The answer is not awaited: an acknowledgement that does not arrive makes the update
            // come again. Queueing may wait, and then the status stays here until it is done.
            self.calls.queue_acknowledgement(status).await;
            self.unacknowledged = None;
        }
        let next = self.queue.recv().await;
        // The task ends without a word only when the runtime drops it.
        let next = next.unwrap_or_else(|| {
            Err(Ended::Protocol { problem: "the connection task was ended".to_owned() })
        });
        match &next {
            Ok(Event::Update(status)) if self.acknowledgement == Acknowledgement::Automatic => {
                self.unacknowledged = status.uuid.is_some().then(|| status.clone());
            }
            Ok(_) => {}
            Err(ended) => self.ended = Some(ended.clone()),
        }
        next
    }

    /// Acknowledges the update returned last, if that is still to be done, and waits until the
    /// master has taken the acknowledgement. For a scheduler that is about to leave without
    /// tearing its framework down.
    ///
    /// # Errors
    /// As every call; the update will then come again to the framework's next scheduler.
    pub async fn settle(&mut self) -> Result<(), CallError> {
        match &self.unacknowledged {
            Some(status) => {
                self.calls.acknowledge(status).await?;
                self.unacknowledged = None;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
