//! The task that owns the connection: calls out, answers and events in, reconnection.
//!
//! It never waits for the application while a call awaits its answer: an application that handles
//! an event may itself be waiting for that answer. So events that find their queue full end the
//! session, calls then fail as disconnected, and the queue drains.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::endpoint::Target;
use crate::error::{CallError, ConnectError, Ended};
use crate::scheduler::backoff::Backoff;
use crate::scheduler::event::{Event, Heard};
use crate::scheduler::session::{self, FIRST_SEQUENCE, Session};
use crate::v1::scheduler::call::{Subscribe, Type};
use crate::v1::scheduler::connect_response::Message;
use crate::v1::scheduler::{Call, CallResult, ConnectRequest};

/// Calls sent and not yet answered; more wait in the command queue.
const MAX_PENDING: usize = 4096;

/// So many heartbeats may fail to appear before the master is taken for dead. Counted from the
/// first one seen: HTTP/2 keep-alive covers masters that send none.
const MISSED_HEARTBEATS: u32 = 5;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A call on its way from [`crate::Calls`] to the master.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) call: Call,
    pub(crate) reply: oneshot::Sender<Result<(), CallError>>,
}

impl Command {
    fn refuse_disconnected(self) {
        // The caller may have stopped waiting.
        let _ = self.reply.send(Err(CallError::Disconnected { call: self.name }));
    }
}

struct Pending {
    name: &'static str,
    teardown: bool,
    reply: oneshot::Sender<Result<(), CallError>>,
}

/// How a session came to its end.
enum Over {
    /// Nobody holds `Events`.
    Unwanted,
    Ended(Ended),
    Lost(String),
}

pub(crate) struct Connection {
    target: Target,
    subscribe: Subscribe,
    backoff: Backoff,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Result<Event, Ended>>,
}

impl Connection {
    pub(crate) fn new(
        target: Target,
        subscribe: Subscribe,
        backoff: Backoff,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Result<Event, Ended>>,
    ) -> Self {
        Connection { target, subscribe, backoff, commands, events }
    }

    pub(crate) async fn run(mut self, first: Session) {
        let mut session = first;
        let ended = loop {
            self.subscribe.framework_info.id = Some(session.framework_id.clone());
            let reason = match self.serve(session).await {
                Over::Unwanted => return,
                Over::Ended(ended) => break ended,
                Over::Lost(reason) => reason,
            };
            if self.announce(reason).await.is_none() {
                return;
            }
            session = match self.reconnect().await {
                Some(Ok(session)) => session,
                Some(Err(ended)) => break ended,
                None => return,
            };
        };
        // First let go of the callers, who may be what keeps the queue from draining.
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            let _ = command.reply.send(Err(CallError::Ended { call: command.name }));
        }
        let _ = self.events.send(Err(ended)).await;
    }

    async fn serve(&mut self, session: Session) -> Over {
        let Session { framework_id, subscribed, outgoing, mut incoming } = session;
        let mut pending: HashMap<u64, Pending> = HashMap::new();
        let mut queued: Option<ConnectRequest> = None;
        let mut sequence = FIRST_SEQUENCE;
        let mut heartbeat_deadline: Option<Instant> = None;
        if let Some(over) = self.forward(subscribed) {
            return over;
        }
        self.backoff.reset();

        // Unanswered calls fail when `pending` goes: dropping `reply` is the signal.
        loop {
            let watchdog = heartbeat_deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                // Cancel-safe: what has been received of a message stays in the stream.
                message = incoming.message() => {
                    let message = match message {
                        Ok(Some(response)) => response.message,
                        Ok(None) => return Over::Lost("the master closed the stream".to_owned()),
                        Err(status) => return self.judge(&status),
                    };
                    if let Some(deadline) = heartbeat_deadline.as_mut() {
                        *deadline = Instant::now() + HEARTBEAT_INTERVAL * MISSED_HEARTBEATS;
                    }
                    match message {
                        Some(Message::Result(result)) => {
                            let torn_down = settle(&mut pending, result);
                            if torn_down {
                                return Over::Ended(Ended::TornDown);
                            }
                        }
                        Some(Message::Event(event)) => match Heard::from_wire(event) {
                            Heard::Event(event) => {
                                if let Some(over) = self.forward(event) {
                                    return over;
                                }
                            }
                            Heard::Heartbeat => {
                                heartbeat_deadline =
                                    Some(Instant::now() + HEARTBEAT_INTERVAL * MISSED_HEARTBEATS);
                            }
                            Heard::Error(message) => return Over::Ended(Ended::Error { message }),
                            Heard::Unintelligible => {}
                        },
                        None => {}
                    }
                }
                // Cancel-safe: a permit not taken is returned.
                permit = outgoing.reserve(), if queued.is_some() => match (permit, queued.take()) {
                    (Ok(permit), Some(request)) => permit.send(request),
                    _ => return Over::Lost("the stream to the master is closed".to_owned()),
                },
                // Cancel-safe: a command is either received or still in the queue.
                Some(command) = self.commands.recv(),
                    if queued.is_none() && pending.len() < MAX_PENDING =>
                {
                    sequence += 1;
                    let mut call = command.call;
                    call.framework_id = Some(framework_id.clone());
                    let teardown = call.r#type == Some(Type::Teardown as i32);
                    pending.insert(
                        sequence,
                        Pending { name: command.name, teardown, reply: command.reply },
                    );
                    queued = Some(ConnectRequest { seq: sequence, call: Some(call) });
                }
                () = self.events.closed() => return Over::Unwanted,
                () = sleep_until(watchdog), if heartbeat_deadline.is_some() => {
                    return Over::Lost("the master's heartbeats stopped".to_owned());
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

    fn judge(&self, status: &tonic::Status) -> Over {
        match session::refusal(&self.target, status) {
            ConnectError::Refused { code, message, .. } => {
                Over::Ended(Ended::Refused { code, message })
            }
            ConnectError::Protocol { problem, .. } => Over::Ended(Ended::Protocol { problem }),
            _ => Over::Lost(status.message().to_owned()),
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
    async fn reconnect(&mut self) -> Option<Result<Session, Ended>> {
        let target = self.target.clone();
        let subscribe = self.subscribe.clone();
        loop {
            let pause = self.backoff.next_pause();
            let attempt = async {
                sleep(pause).await;
                session::open(&target, &subscribe).await
            };
            match self.meanwhile(attempt).await? {
                Ok(session) => return Some(Ok(session)),
                Err(ConnectError::Refused { code, message, .. }) => {
                    return Some(Err(Ended::Refused { code, message }));
                }
                Err(ConnectError::Protocol { problem, .. }) => {
                    return Some(Err(Ended::Protocol { problem }));
                }
                Err(_) => {}
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

/// Hands an answer to its caller. True if it confirms that the framework was torn down.
fn settle(pending: &mut HashMap<u64, Pending>, result: CallResult) -> bool {
    let Some(waiting) = pending.remove(&result.seq) else {
        return false;
    };
    let taken = (200..300).contains(&result.code);
    let answer = if taken {
        Ok(())
    } else {
        Err(CallError::Refused { call: waiting.name, code: result.code, message: result.message })
    };
    let _ = waiting.reply.send(answer);
    taken && waiting.teardown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(
        teardown: bool,
    ) -> (HashMap<u64, Pending>, oneshot::Receiver<Result<(), CallError>>) {
        let (reply, answer) = oneshot::channel();
        (HashMap::from([(7, Pending { name: "KILL", teardown, reply })]), answer)
    }

    #[test]
    fn answers_find_their_caller_by_sequence() {
        let (mut pending, mut answer) = waiting(false);
        assert!(!settle(&mut pending, CallResult { seq: 6, code: 202, message: String::new() }));
        assert!(answer.try_recv().is_err());
        let refused = CallResult { seq: 7, code: 400, message: "no such task".to_owned() };
        assert!(!settle(&mut pending, refused));
        let error = answer.try_recv().expect("answered").expect_err("refused");
        assert_eq!(error.to_string(), "the master refused KILL with 400: no such task");
    }

    #[test]
    fn only_an_accepted_teardown_ends_the_subscription() {
        for (code, ends) in [(202, true), (403, false)] {
            let (mut pending, _answer) = waiting(true);
            let result = CallResult { seq: 7, code, message: String::new() };
            assert_eq!(settle(&mut pending, result), ends);
        }
    }
}
