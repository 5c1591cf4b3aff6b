//! A link in use: which calls wait for their answer, and whether the other side is alive.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{Api, Broken, FIRST_SEQUENCE, Heard, Link, Numbered, Outcome, Pulse};
use crate::error::CallError;
use crate::heartbeat::Watchdog;

/// Calls sent and not yet answered; more wait in the command queue.
const MAX_PENDING: usize = 4096;

/// A call on its way from the application to the server.
pub(crate) struct Command<A: Api> {
    pub(crate) name: &'static str,
    pub(crate) call: A::Call,
    pub(crate) reply: oneshot::Sender<Result<(), CallError>>,
}

impl<A: Api> Command<A> {
    pub(crate) fn refuse_disconnected(self) {
        // The caller may have stopped waiting.
        let _ =
            self.reply.send(Err(CallError::Disconnected { server: A::SERVER, call: self.name }));
    }

    pub(crate) fn refuse_ended(self) {
        let _ = self.reply.send(Err(CallError::Ended { call: self.name }));
    }
}

struct Pending<A: Api> {
    name: &'static str,
    note: Option<A::Note>,
    reply: Option<oneshot::Sender<Result<(), CallError>>>,
}

/// What a session has to tell.
pub(crate) enum Step<A: Api> {
    Event(A::Event),
    /// A call that the API takes note of was answered.
    Answered {
        note: A::Note,
        taken: bool,
    },
}

/// Unanswered calls fail as disconnected when the session is dropped: dropping their reply is the
/// signal.
pub(crate) struct Session<A: Api> {
    link: Link<A>,
    pending: HashMap<u64, Pending<A>>,
    /// Calls of the client's own, to be sent before those of the application.
    backlog: VecDeque<(&'static str, A::Call)>,
    queued: Option<Numbered<A>>,
    sequence: u64,
    watchdog: Watchdog,
}

impl<A: Api> Session<A> {
    /// `first` is the event that the subscription began with.
    pub(crate) fn new(link: Link<A>, first: &A::Event) -> Self {
        let mut session = Session {
            link,
            pending: HashMap::new(),
            backlog: VecDeque::new(),
            queued: None,
            sequence: FIRST_SEQUENCE,
            watchdog: Watchdog::new(A::HEARTBEAT_INTERVAL),
        };
        session.feel(first);
        session
    }

    /// Sends a call whose answer nobody waits for. The caller bounds how many there are.
    pub(crate) fn enqueue(&mut self, name: &'static str, call: A::Call) {
        self.backlog.push_back((name, call));
    }

    /// Takes calls from `commands` and moves them along until there is something to tell.
    /// Cancel-safe.
    pub(crate) async fn step(
        &mut self,
        commands: &mut mpsc::Receiver<Command<A>>,
    ) -> Result<Step<A>, Broken> {
        loop {
            let room = self.pending.len() < MAX_PENDING;
            if room
                && self.queued.is_none()
                && let Some((name, call)) = self.backlog.pop_front()
            {
                self.queue(name, call, None);
            }
            let deadline = self.watchdog.deadline();
            // A permit of its own lifetime: the other arms change the session.
            let outgoing = self.link.outgoing.clone();
            tokio::select! {
                // Cancel-safe: what has been received of a message stays in the stream.
                heard = self.link.incoming.next(self.pending.len()) => match heard? {
                    Heard::Event(event) => {
                        self.feel(&event);
                        return Ok(Step::Event(event));
                    }
                    Heard::Outcome(outcome) => {
                        self.watchdog.heard(Instant::now());
                        if let Some(step) = self.settle(outcome) {
                            return Ok(step);
                        }
                    }
                },
                // Cancel-safe: a permit not taken is returned.
                permit = outgoing.reserve(), if self.queued.is_some() => {
                    match (permit, self.queued.take()) {
                        (Ok(permit), Some(numbered)) => permit.send(numbered),
                        _ => {
                            let message = format!("the stream to the {} is closed", A::SERVER);
                            return Err(Broken::Lost(message));
                        }
                    }
                }
                // Cancel-safe: a command is either received or still in the queue.
                Some(command) = commands.recv(), if room && self.queued.is_none() => {
                    self.queue(command.name, command.call, Some(command.reply));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let message = format!("the heartbeats of the {} stopped", A::SERVER);
                    return Err(Broken::Lost(message));
                }
            }
        }
    }

    fn queue(
        &mut self,
        name: &'static str,
        call: A::Call,
        reply: Option<oneshot::Sender<Result<(), CallError>>>,
    ) {
        self.sequence += 1;
        let note = A::note(&call);
        self.pending.insert(self.sequence, Pending { name, note, reply });
        self.queued = Some((self.sequence, call));
    }

    fn feel(&mut self, event: &A::Event) {
        let now = Instant::now();
        match A::pulse(event) {
            Pulse::Announced(interval) => self.watchdog.announced(interval, now),
            Pulse::Beat => self.watchdog.beat(now),
            Pulse::Alive => self.watchdog.heard(now),
        }
    }

    /// Hands an answer to its caller.
    fn settle(&mut self, outcome: Outcome) -> Option<Step<A>> {
        let Pending { name, note, reply } = self.pending.remove(&outcome.sequence)?;
        let taken = (200..300).contains(&outcome.code);
        if let Some(reply) = reply {
            let answer = if taken {
                Ok(())
            } else if is_over(&outcome) {
                Err(CallError::Disconnected { server: A::SERVER, call: name })
            } else {
                Err(CallError::Refused {
                    server: A::SERVER,
                    call: name,
                    code: outcome.code,
                    message: outcome.message,
                })
            };
            // The caller may have stopped waiting.
            let _ = reply.send(answer);
        }
        note.map(|note| Step::Answered { note, taken })
    }
}

/// The server has closed the subscription, and the end of its stream is on the way: no fault of the call's.
fn is_over(outcome: &Outcome) -> bool {
    outcome.code == 403 && outcome.message.contains("is not subscribed")
}
