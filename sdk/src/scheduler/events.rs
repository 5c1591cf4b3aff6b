//! The receiving half of a subscription.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::error::{CallError, Ended, ServerKind};
use crate::scheduler::Acknowledgement;
use crate::scheduler::calls::{Calls, acknowledgement, operation_acknowledgement, reconciliation};
use crate::scheduler::event::Event;
use crate::scheduler::reconciliation::Reconciliation;
use crate::v1;
use crate::v1::scheduler::Call;

/// The events of a subscription, in order. Dropping it ends the subscription: the master then
/// waits for the framework's failover timeout before it ends the tasks.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Result<Event, Ended>>,
    calls: Calls,
    acknowledgement: Acknowledgement,
    /// For the update handed out last, if it is ours to acknowledge.
    owed: Option<Call>,
    reconciliation: Option<Reconciliation>,
    /// The last task that was asked for has been heard of, and the application not yet told.
    reconciled: bool,
    implicit: Option<Implicit>,
    ended: Option<Ended>,
}

/// Reconciliation of everything, again and again.
#[derive(Debug)]
struct Implicit {
    every: Duration,
    due: Instant,
}

impl Events {
    pub(crate) fn new(
        queue: mpsc::Receiver<Result<Event, Ended>>,
        calls: Calls,
        acknowledgement: Acknowledgement,
        implicit: Option<Duration>,
    ) -> Self {
        let implicit = implicit.map(|every| Implicit { every, due: Instant::now() + every });
        Events {
            queue,
            calls,
            acknowledgement,
            owed: None,
            reconciliation: None,
            reconciled: false,
            implicit,
            ended: None,
        }
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
        if let Some(call) = &self.owed {
            // The answer is not awaited: an acknowledgement that does not arrive makes the update
            // come again. Queueing may wait, and then the call stays here until it is done.
            self.calls.queue(call.clone()).await;
            self.owed = None;
        }
        if std::mem::take(&mut self.reconciled) {
            return Ok(Event::Reconciled);
        }
        loop {
            let due = self.due();
            tokio::select! {
                // Cancel-safe: an event is either received or still in the queue.
                next = self.queue.recv() => {
                    // The task ends without a word only when the runtime drops it.
                    let next = next.unwrap_or_else(|| Err(Ended::Protocol {
                        server: ServerKind::Master,
                        problem: "the connection task was ended".to_owned(),
                    }));
                    self.look_at(&next);
                    return next;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.ask().await;
                }
            }
        }
    }

    /// Reconciles these tasks: asks for their state until an update of each has come, again after
    /// pauses that grow to a minute, and anew after each reconnection. The answers are events like
    /// others; [`Event::Reconciled`] follows the last one. To be called after each `Subscribed`
    /// with all tasks that are not known to have ended; agents, where they are known, make the
    /// answers better. Takes the place of a reconciliation that is still under way, and happens
    /// while [`next`](Self::next) is awaited.
    pub fn reconcile(
        &mut self,
        tasks: impl IntoIterator<Item = (v1::TaskId, Option<v1::AgentId>)>,
    ) {
        self.reconciliation = Reconciliation::of(tasks, Instant::now());
        self.reconciled = self.reconciliation.is_none();
    }

    /// Acknowledges the update returned last, if that is still to be done, and waits until the
    /// master has taken the acknowledgement. For a scheduler that is about to leave without
    /// tearing its framework down.
    ///
    /// # Errors
    /// As every call; the update will then come again to the framework's next scheduler.
    pub async fn settle(&mut self) -> Result<(), CallError> {
        if let Some(call) = &self.owed {
            self.calls.call(call.clone()).await?;
            self.owed = None;
        }
        Ok(())
    }

    /// When to ask the master again.
    fn due(&self) -> Option<Instant> {
        let explicit = self.reconciliation.as_ref().map(Reconciliation::due);
        let implicit = self.implicit.as_ref().map(|implicit| implicit.due);
        explicit.into_iter().chain(implicit).min()
    }

    /// Asks what is due. When it is dropped half-way, what was asked is asked again, which does no
    /// harm.
    async fn ask(&mut self) {
        let now = Instant::now();
        if let Some(explicit) = self.reconciliation.as_mut().filter(|asked| asked.due() <= now) {
            for call in explicit.calls() {
                self.calls.queue(call).await;
            }
            explicit.asked(now);
        }
        if let Some(implicit) = self.implicit.as_mut().filter(|implicit| implicit.due <= now) {
            self.calls.queue(reconciliation([])).await;
            implicit.due = now + implicit.every;
        }
    }

    fn look_at(&mut self, next: &Result<Event, Ended>) {
        let automatic = self.acknowledgement == Acknowledgement::Automatic;
        match next {
            Ok(Event::Update(status)) => {
                if automatic {
                    self.owed = acknowledgement(status);
                }
                let asked = self.reconciliation.as_mut();
                if asked.is_some_and(|asked| asked.answered(&status.task_id)) {
                    self.reconciliation = None;
                    self.reconciled = true;
                }
            }
            Ok(Event::OperationUpdate(status)) if automatic => {
                self.owed = operation_acknowledgement(status);
            }
            Ok(Event::Subscribed { .. }) => {
                if let Some(asked) = &mut self.reconciliation {
                    asked.start_over(Instant::now());
                }
            }
            Ok(_) => {}
            Err(ended) => self.ended = Some(ended.clone()),
        }
    }
}
