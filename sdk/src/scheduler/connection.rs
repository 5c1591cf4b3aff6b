//! The task that owns the connection: calls out, answers and events in, reconnection.
//!
//! It never waits for the application while a call awaits its answer: an application that handles
//! an event may itself be waiting for that answer. So events that find their queue full end the
//! session, calls then fail as disconnected, and the queue drains.

use std::future::Future;
use std::pin::pin;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::error::{ConnectError, Ended, ServerKind};
use crate::link::{Broken, Command, Finder, Link, Opened, Session, Step};
use crate::scheduler::api::{Api, Note};
use crate::scheduler::event::{Event, Heard};
use crate::scheduler::subscription::Subscription;
use crate::v1;
use crate::v1::scheduler;

/// How a session came to its end.
enum Over {
    /// Nobody holds `Events`.
    Unwanted,
    Ended(Ended),
    Lost(String),
}

/// A subscription that stands, its first event read.
pub(crate) struct Subscribed {
    link: Link<Api>,
    first: scheduler::Event,
    event: Event,
    pub(crate) framework_id: v1::FrameworkId,
}

/// Finds a master that takes the subscription.
pub(crate) async fn subscribe(
    finder: &Finder,
    subscription: &Subscription,
) -> Result<Subscribed, ConnectError> {
    let Opened { link, first, target } = finder.open::<Api>(&subscription.call()).await?;
    let refused = |message| ConnectError::Refused {
        server: target.server,
        address: target.address.clone(),
        code: 403,
        message,
    };
    let problem = match Heard::from_wire(first.clone()) {
        Heard::Event(event) => match &event {
            Event::Subscribed { framework_id, .. } => {
                let framework_id = framework_id.clone();
                return Ok(Subscribed { link, first, event, framework_id });
            }
            _ => "an event came before SUBSCRIBED".to_owned(),
        },
        Heard::Error(message) => return Err(refused(message)),
        Heard::Heartbeat => "a heartbeat came before SUBSCRIBED".to_owned(),
        Heard::Unintelligible => "its first event is not SUBSCRIBED".to_owned(),
    };
    Err(ConnectError::Protocol { server: target.server, address: target.address, problem })
}

pub(crate) struct Connection {
    pub(crate) finder: Finder,
    pub(crate) subscription: Subscription,
    pub(crate) backoff: Backoff,
    pub(crate) commands: mpsc::Receiver<Command<Api>>,
    pub(crate) events: mpsc::Sender<Result<Event, Ended>>,
}

impl Connection {
    pub(crate) async fn run(mut self, first: Subscribed) {
        let mut subscribed = first;
        let ended = loop {
            self.subscription.named(subscribed.framework_id.clone());
            let reason = match self.serve(subscribed).await {
                Over::Unwanted => return,
                Over::Ended(ended) => break ended,
                Over::Lost(reason) => reason,
            };
            if self.announce(reason).await.is_none() {
                return;
            }
            subscribed = match self.reconnect().await {
                Some(Ok(subscribed)) => subscribed,
                Some(Err(ended)) => break ended,
                None => return,
            };
        };
        // First let go of the callers, who may be what keeps the queue from draining.
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            command.refuse_ended();
        }
        let _ = self.events.send(Err(ended)).await;
    }

    async fn serve(&mut self, subscribed: Subscribed) -> Over {
        let Subscribed { link, first, event, .. } = subscribed;
        let mut session = Session::new(link, &first);
        if let Some(over) = self.forward(event) {
            return over;
        }
        self.backoff.reset();
        loop {
            let step = tokio::select! {
                // Cancel-safe, see there.
                step = session.step(&mut self.commands) => step,
                () = self.events.closed() => return Over::Unwanted,
            };
            match step {
                Ok(Step::Event(event)) => match Heard::from_wire(event) {
                    Heard::Event(event) => {
                        if let Some(over) = self.forward(event) {
                            return over;
                        }
                    }
                    Heard::Error(message) => {
                        return Over::Ended(Ended::Error { server: ServerKind::Master, message });
                    }
                    Heard::Heartbeat | Heard::Unintelligible => {}
                },
                Ok(Step::Answered { note: Note::Teardown, taken: true }) => {
                    return Over::Ended(Ended::TornDown);
                }
                Ok(Step::Answered { note, taken: true }) => self.subscription.changed(note),
                Ok(Step::Answered { taken: false, .. }) => {}
                Err(Broken::Lost(reason)) => return Over::Lost(reason),
                Err(Broken::For(error)) => {
                    return match error.final_word() {
                        Some(ended) => Over::Ended(ended),
                        None => Over::Lost(error.to_string()),
                    };
                }
            }
        }
    }

    fn forward(&self, event: Event) -> Option<Over> {
        match self.events.try_send(Ok(event)) {
            Ok(()) => None,
            Err(TrySendError::Closed(_)) => Some(Over::Unwanted),
            Err(TrySendError::Full(_)) => Some(Over::Lost(format!(
                "{} events were waiting for the framework",
                self.events.max_capacity()
            ))),
        }
    }

    /// Tells the application of the loss, and waits until it has dealt with half of its events.
    /// None if it has gone.
    async fn announce(&mut self, reason: String) -> Option<()> {
        let events = self.events.clone();
        let told = self
            .meanwhile(async {
                events.send(Ok(Event::Disconnected { reason })).await.ok()?;
                events.reserve_many(events.max_capacity() / 2).await.ok().map(drop)
            })
            .await;
        told.flatten()
    }

    /// A new session, or why there cannot be one. None if the application has gone.
    async fn reconnect(&mut self) -> Option<Result<Subscribed, Ended>> {
        let finder = self.finder.clone();
        let subscription = self.subscription.clone();
        loop {
            let pause = self.backoff.next_pause();
            let attempt = async {
                sleep(pause).await;
                subscribe(&finder, &subscription).await
            };
            match self.meanwhile(attempt).await? {
                Ok(subscribed) => return Some(Ok(subscribed)),
                Err(error) => {
                    if let Some(ended) = error.final_word() {
                        return Some(Err(ended));
                    }
                }
            }
        }
    }

    /// Does `work` while calls are refused. None if the application has gone.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let events = self.events.clone();
        loop {
            tokio::select! {
                outcome = &mut work => return Some(outcome),
                () = events.closed() => return None,
                // Cancel-safe. Without senders the arm rests: then `closed` is about to fire.
                Some(command) = self.commands.recv() => command.refuse_disconnected(),
            }
        }
    }
}
