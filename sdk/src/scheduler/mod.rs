//! The subscription of a framework.
//!
//! ```text
//!            commands (bounded)              gRPC or HTTP
//!   Calls ────────────────────▶ connection ◀────────────▶ master
//!   Events ◀──────────────────   (one task)
//!            events (bounded)
//! ```
//!
//! One task owns the connection. When it breaks, the task connects and subscribes again with the
//! framework's id, waiting a little longer after each failure, until the master refuses the
//! framework or nobody holds [`Events`] any more. The application sees `Disconnected`, then
//! `Subscribed` again. Calls made in between fail at once; what became of those that were under
//! way is unknown, and [`Events::reconcile`] tells.

mod api;
mod calls;
mod connection;
mod event;
mod events;
mod reconciliation;
mod subscription;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::detection::Detector;
use crate::error::{ConnectError, ServerKind};
use crate::link::Finder;
use crate::scheduler::connection::Connection;
use crate::scheduler::subscription::Subscription;
use crate::transport::Transport;
use crate::v1;
use crate::v1::scheduler::OfferConstraints;

pub use crate::scheduler::calls::Calls;
pub use crate::scheduler::event::Event;
pub use crate::scheduler::events::Events;

/// Calls waiting for the connection task. A caller that finds the queue full waits.
const COMMAND_QUEUE: usize = 256;

/// Events waiting for the application. When it falls behind by more, the connection is given up
/// rather than memory: the updates are unacknowledged and come again. 8192 updates are about 4 MiB.
const EVENT_QUEUE: usize = 8192;

/// Who tells the master that a status update has been dealt with. Until then the agent sends it
/// again, and sends no later update of the same task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acknowledgement {
    /// [`Events::next`] acknowledges an update when it is called for the event after it. An
    /// application that dies while it handles an update gets it again.
    #[default]
    Automatic,
    /// The application calls [`Calls::acknowledge`], for instance after storing the status.
    Manual,
}

/// A subscription to be made.
#[derive(Debug, Clone)]
pub struct Scheduler {
    master: String,
    transport: Transport,
    framework: v1::FrameworkInfo,
    suppressed_roles: Vec<String>,
    offer_constraints: Option<OfferConstraints>,
    acknowledgement: Acknowledgement,
    implicit_reconciliation: Option<Duration>,
    patience: Duration,
    backoff: Backoff,
    event_queue: usize,
}

impl Scheduler {
    /// Subscribes with the default settings. `master` is as for [`new`](Self::new).
    ///
    /// # Errors
    /// As [`Scheduler::start`].
    pub async fn connect(
        master: &str,
        framework: impl Into<v1::FrameworkInfo>,
    ) -> Result<(Calls, Events), ConnectError> {
        Scheduler::new(master, framework).start().await
    }

    /// Settings to be changed before [`start`](Self::start).
    ///
    /// `master` is `host:port`; or several with commas in between, which are tried in turn; or
    /// `file:///path` of a file that holds one of these and is read anew for each attempt. A
    /// master that names the leader, by redirect over HTTP or `location` over gRPC, is followed.
    pub fn new(master: impl Into<String>, framework: impl Into<v1::FrameworkInfo>) -> Self {
        Scheduler {
            master: master.into(),
            transport: Transport::default(),
            framework: framework.into(),
            suppressed_roles: Vec::new(),
            offer_constraints: None,
            acknowledgement: Acknowledgement::default(),
            implicit_reconciliation: None,
            patience: Duration::ZERO,
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(10)),
            event_queue: EVENT_QUEUE,
        }
    }

    /// How messages travel. The default is gRPC; masters of Mesos speak HTTP.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Who acknowledges updates. The default is [`Acknowledgement::Automatic`].
    pub fn acknowledgement(mut self, acknowledgement: Acknowledgement) -> Self {
        self.acknowledgement = acknowledgement;
        self
    }

    /// Roles for which no offers are wanted until [`Calls::revive`].
    pub fn suppressed_roles<R: Into<String>>(mut self, roles: impl IntoIterator<Item = R>) -> Self {
        self.suppressed_roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Which agents each role wants offers of, by their attributes.
    pub fn offer_constraints(mut self, constraints: OfferConstraints) -> Self {
        self.offer_constraints = Some(constraints);
        self
    }

    /// Asks the master for all tasks that it knows once in so much time, as a defence against loss
    /// of the framework's own data. Mesos advises about a quarter of an hour. The default is never.
    pub fn implicit_reconciliation(mut self, every: Duration) -> Self {
        self.implicit_reconciliation = Some(every);
        self
    }

    /// How long [`start`](Self::start) goes on trying when no master answers or none is ready.
    /// The default is one attempt.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// First and longest pause between attempts to connect. The default is 50 ms and 10 s; each
    /// pause is twice the one before, less a random part of up to half.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = Backoff::new(first, longest);
        self
    }

    /// How many events may wait for [`Events::next`]; at least 2. When there are more, the
    /// connection is given up and renewed once half of them have been taken.
    pub fn event_queue(mut self, events: usize) -> Self {
        self.event_queue = events.max(2);
        self
    }

    /// Connects and subscribes. The first event is `Subscribed`.
    ///
    /// # Errors
    /// [`ConnectError`]; a temporary one only after the configured patience.
    pub async fn start(self) -> Result<(Calls, Events), ConnectError> {
        let detector = Detector::parse(ServerKind::Master, &self.master)?;
        let finder = Finder { detector, transport: self.transport, authorization: None };
        let subscription =
            Subscription::new(self.framework, self.suppressed_roles, self.offer_constraints);
        let deadline = Instant::now() + self.patience;
        let mut backoff = self.backoff.clone();
        let subscribed = loop {
            match connection::subscribe(&finder, &subscription).await {
                Ok(subscribed) => break subscribed,
                Err(error) if error.is_temporary() => {
                    let pause = backoff.next_pause();
                    if Instant::now() + pause > deadline {
                        return Err(error);
                    }
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        };

        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (event_queue, events) = mpsc::channel(self.event_queue);
        let calls = Calls::new(commands, subscribed.framework_id.clone());
        let events =
            Events::new(events, calls.clone(), self.acknowledgement, self.implicit_reconciliation);
        let connection = Connection {
            finder,
            subscription,
            backoff: self.backoff,
            commands: command_queue,
            events: event_queue,
        };
        tokio::spawn(connection.run(subscribed));
        Ok((calls, events))
    }
}
