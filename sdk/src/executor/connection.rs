//! The task that owns an executor's connection.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::backoff::Backoff;
use crate::error::{ConnectError, Ended, ServerKind};
use crate::executor::api::{Api, Identity};
use crate::executor::event::{ExecutorEvent, Heard};
use crate::executor::ledger::Ledger;
use crate::link::{self, Broken, Command, Finder, Link, Opened, Session, Step};
use crate::v1::executor::{self, Call, call};

/// How a session came to its end.
enum Over {
    /// Nobody holds `ExecutorEvents`.
    Unwanted,
    Ended(Ended),
    Lost(String),
}

/// A subscription that stands, its first event read.
pub(crate) struct Subscribed {
    link: Link<Api>,
    first: executor::Event,
    event: ExecutorEvent,
}

/// Subscribes with what the ledger holds.
pub(crate) async fn subscribe(
    finder: &Finder,
    identity: &Identity,
    ledger: &Ledger,
) -> Result<Subscribed, ConnectError> {
    let call = Call { subscribe: Some(ledger.subscribe()), ..identity.call(call::Type::Subscribe) };
    let Opened { link, first, target } = finder.open::<Api>(&call).await?;
    let problem = match Heard::from_wire(first.clone()) {
        Heard::Event(event @ ExecutorEvent::Subscribed { .. }) => {
            return Ok(Subscribed { link, first, event });
        }
        Heard::Event(ExecutorEvent::Shutdown) => {
            return Ok(Subscribed { link, first, event: ExecutorEvent::Shutdown });
        }
        Heard::Error(message) => {
            return Err(ConnectError::Refused {
                server: target.server,
                address: target.address,
                code: 403,
                message,
            });
        }
        Heard::Event(_) => "an event came before SUBSCRIBED".to_owned(),
        Heard::Heartbeat => "a heartbeat came before SUBSCRIBED".to_owned(),
        Heard::Unintelligible => "its first event is not SUBSCRIBED".to_owned(),
    };
    Err(ConnectError::Protocol { server: target.server, address: target.address, problem })
}

pub(crate) struct Connection {
    pub(crate) finder: Finder,
    pub(crate) identity: Identity,
    pub(crate) ledger: Ledger,
    pub(crate) backoff: Backoff,
    /// How long the return of the agent is awaited; None: not at all.
    pub(crate) waits: Option<Duration>,
    pub(crate) commands: mpsc::Receiver<Command<Api>>,
    pub(crate) events: mpsc::Sender<Result<ExecutorEvent, Ended>>,
}

impl Connection {
    pub(crate) async fn run(mut self, first: Subscribed) {
        let mut subscribed = first;
        let mut shutdown = false;
        let ended = loop {
            let reason = match self.serve(subscribed, &mut shutdown).await {
                Over::Unwanted => return,
                Over::Ended(ended) => break ended,
                Over::Lost(reason) => reason,
            };
            let Some(waits) = self.waits.filter(|_| !shutdown) else {
                let reason = match shutdown {
                    true => "the agent has told it to, and left".to_owned(),
                    false => format!("{reason}, and its framework does not checkpoint"),
                };
                if self.shut_down(shutdown).await.is_none() {
                    return;
                }
                break Ended::Shutdown { reason };
            };
            if self.announce(reason).await.is_none() {
                return;
            }
            subscribed = match self.reconnect(waits).await {
                Some(Ok(subscribed)) => subscribed,
                Some(Err(ended)) => {
                    if self.shut_down(false).await.is_none() {
                        return;
                    }
                    break ended;
                }
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

    async fn serve(&mut self, subscribed: Subscribed, shutdown: &mut bool) -> Over {
        let Subscribed { link, first, event } = subscribed;
        let mut session = Session::new(link, &first);
        for status in self.ledger.untold() {
            session.enqueue("UPDATE", self.identity.update(status));
        }
        *shutdown |= event == ExecutorEvent::Shutdown;
        if let Some(over) = self.forward(event) {
            return over;
        }
        self.backoff.reset();
        let every = <Api as link::Api>::HEARTBEAT_INTERVAL;
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                // Cancel-safe, see there.
                step = session.step(&mut self.commands) => step,
                () = self.events.closed() => return Over::Unwanted,
                // Cancel-safe: a tick is taken only when it is returned.
                _ = heartbeat.tick() => {
                    session.enqueue("HEARTBEAT", self.identity.call(call::Type::Heartbeat));
                    continue;
                }
            };
            match step {
                Ok(Step::Event(event)) => match Heard::from_wire(event) {
                    Heard::Event(event) => {
                        *shutdown |= event == ExecutorEvent::Shutdown;
                        if let Some(over) = self.forward(event) {
                            return over;
                        }
                    }
                    Heard::Error(message) => {
                        return Over::Ended(Ended::Error { server: ServerKind::Agent, message });
                    }
                    Heard::Heartbeat | Heard::Unintelligible => {}
                },
                Ok(Step::Answered { note, taken: false }) => self.ledger.refused(&note.uuid),
                Ok(Step::Answered { taken: true, .. }) => {}
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

    /// Notes what must be told after a reconnection, and hands the event on.
    fn forward(&self, event: ExecutorEvent) -> Option<Over> {
        let permit = match self.events.try_reserve() {
            Ok(permit) => permit,
            Err(TrySendError::Closed(())) => return Some(Over::Unwanted),
            Err(TrySendError::Full(())) => {
                let waiting = self.events.max_capacity();
                return Some(Over::Lost(format!("{waiting} events were waiting for the executor")));
            }
        };
        match &event {
            ExecutorEvent::Launch(task) => self.ledger.launched([task.clone()]),
            ExecutorEvent::LaunchGroup(group) => self.ledger.launched(group.tasks.iter().cloned()),
            ExecutorEvent::Acknowledged { task_id, uuid } => {
                self.ledger.acknowledged(task_id, &Bytes::copy_from_slice(uuid));
            }
            _ => {}
        }
        permit.send(Ok(event));
        None
    }

    /// Tells the application to end, unless the agent has. None if it has gone.
    async fn shut_down(&mut self, told: bool) -> Option<()> {
        if told {
            return Some(());
        }
        let events = self.events.clone();
        let shutdown = Ok(ExecutorEvent::Shutdown);
        self.meanwhile(async { events.send(shutdown).await.ok() }).await.flatten()
    }

    /// Tells the application of the loss, and waits until it has dealt with half of its events.
    /// None if it has gone.
    async fn announce(&mut self, reason: String) -> Option<()> {
        let events = self.events.clone();
        let told = self
            .meanwhile(async {
                events.send(Ok(ExecutorEvent::Disconnected { reason })).await.ok()?;
                events.reserve_many(events.max_capacity() / 2).await.ok().map(drop)
            })
            .await;
        told.flatten()
    }

    /// A new session, or why there cannot be one. None if the application has gone.
    async fn reconnect(&mut self, waits: Duration) -> Option<Result<Subscribed, Ended>> {
        let (finder, identity) = (self.finder.clone(), self.identity.clone());
        let ledger = self.ledger.clone();
        let deadline = Instant::now() + waits;
        loop {
            let pause = self.backoff.next_pause();
            if Instant::now() + pause > deadline {
                let reason = format!("the agent did not return within {} s", waits.as_secs());
                return Some(Err(Ended::Shutdown { reason }));
            }
            let attempt = async {
                sleep(pause).await;
                subscribe(&finder, &identity, &ledger).await
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
