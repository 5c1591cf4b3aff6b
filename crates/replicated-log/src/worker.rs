//! The log's thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::effect::{Effect, Recipient};
use crate::error::{LogError, StateError};
use crate::event::LogEvent;
use crate::node::Node;
use crate::queue::{Order, Work};
use crate::source;
use crate::transport::{Inbox, Transport};

/// Two nodes that lose their leader at the same moment campaign this much apart, at most.
const JITTER: Duration = Duration::from_millis(20);

/// How often a node that has lost its leader tries again, each time within twice as long as before, until it leaves the
/// matter to the election timeout: others may notice a moment later, votes may be split, disks may be slow.
const RETRIES: u32 = 5;

pub(crate) struct Worker {
    node: Node,
    inbox: Inbox,
    transport: Box<dyn Transport>,
    clock: Clock,
    retries: u32,
    /// Threads that send states.
    senders: Vec<JoinHandle<()>>,
}

impl Worker {
    pub fn new(node: Node, inbox: Inbox, transport: Box<dyn Transport>) -> Self {
        let clock = Clock::new(node.config().tick);
        Self { node, inbox, transport, clock, retries: 0, senders: Vec::new() }
    }

    pub fn run(mut self, sender: mpsc::Sender<LogEvent>) {
        // Raft answers what it cannot handle, a failed read above all, with a panic: it ends the log, not the process.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.rounds(&sender)))
            .unwrap_or_else(|panic| Err(LogError::Raft { what: panic_text(&*panic) }));
        self.inbox.queue.close();
        if let Ok(status) = self.inbox.status.lock().as_deref_mut() {
            status.leading = None;
        }
        self.inbox.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The store goes before the channel: at the end of the events it may be opened again. Without a transport, and with
        // the queue closed, those who send states from it end at their next frame.
        let Self { node, transport, senders, .. } = self;
        drop(transport);
        for sender in senders {
            // A panic there has ended one transfer.
            let _ = sender.join();
        }
        drop(node);
        if let Err(error) = outcome {
            tracing::error!(error = %error, source = ?std::error::Error::source(&error), "the replicated log has ended");
            // Without a receiver there is nobody to tell.
            let _ = sender.blocking_send(LogEvent::Failed { error });
        }
    }

    /// One round per loop: take what waits, append it, sync once, deliver. While a round runs, the next one gathers.
    fn rounds(&mut self, sender: &mpsc::Sender<LogEvent>) -> Result<(), LogError> {
        self.drive(sender)?;
        if self.node.is_alone() {
            self.node.campaign()?;
            self.drive(sender)?;
        } else {
            // Nobody is known to lead. If somebody does, the others do not listen.
            self.retries = RETRIES;
            self.hurry(JITTER);
        }
        self.publish();
        loop {
            let due = self.node.due_ticks().map(|ticks| ticks.min(self.ticks_at_once()));
            let patience = due.map(|ticks| self.clock.until(ticks));
            let Some(work) = self.inbox.queue.take(patience) else { return Ok(()) };
            if sender.is_closed() {
                return Ok(());
            }
            let applied = work.applied;
            self.round(work, sender)?;
            if let Some(index) = applied {
                self.node.applied(index).map_err(LogError::Write)?;
            }
            self.publish();
        }
    }

    fn round(&mut self, work: Work, sender: &mpsc::Sender<LogEvent>) -> Result<(), LogError> {
        let at_once = self.ticks_at_once();
        let mut out = Out {
            sender,
            transport: &*self.transport,
            inbox: &self.inbox,
            senders: &mut self.senders,
        };
        let mut emit = |effect| out.carry_out(effect);
        for message in work.messages {
            if let Err(error) = self.node.step(&message, &mut emit) {
                tracing::debug!(error = %error, source = ?std::error::Error::source(&error), "a message was not taken");
            }
        }
        let mut lost = Vec::new();
        for order in work.orders {
            match order {
                Order::Read { token } => self.node.read_index(token, &mut emit),
                Order::Change { token, change } => {
                    // What has arrived before may decide over it.
                    self.node.drive(&mut emit)?;
                    self.node.propose_change(token, change, &mut emit);
                }
                Order::Transfer { token, node_id } => {
                    if let Err(reason) = self.node.transfer_leader(node_id) {
                        emit(Effect::Tell(LogEvent::Dropped { token, reason }));
                    }
                }
                Order::Lost { node_id } => {
                    self.node.unreachable(node_id);
                    lost.push(node_id);
                }
                Order::Unreachable { node_id } => self.node.unreachable(node_id),
                Order::State(state) => self.node.restore(state, &mut emit)?,
                Order::StateSent { recipient, is_whole } => {
                    self.node.state_sent(recipient, is_whole);
                }
            }
        }
        self.node.propose_all(work.proposals, &mut emit);
        // After the messages: a thread that was held up hears its leader before it gives it up.
        for _ in 0..self.clock.passed(at_once) {
            self.node.tick()?;
        }
        self.node.drive(&mut emit)?;
        if lost.into_iter().any(|node_id| self.node.leader() == Some(node_id)) {
            self.retries = RETRIES;
            self.hurry(JITTER);
        } else if self.node.leader().is_some() {
            self.retries = 0;
        } else if self.retries > 0 && !self.node.is_hurried() {
            self.hurry(JITTER * (2 << (RETRIES - self.retries)));
            self.retries -= 1;
        }
        Ok(())
    }

    /// Ticks that count after one sleep. Whatever held the thread up for longer (the disk, the consumer, the machine) also
    /// held up what would have told it that the leader lives.
    fn ticks_at_once(&self) -> usize {
        (self.node.config().election_ticks / 4).max(1)
    }

    /// Has the node campaign within `limit`.
    fn hurry(&mut self, limit: Duration) {
        let tick = self.node.config().tick.max(Duration::from_micros(1));
        let ticks = (limit.as_nanos() / tick.as_nanos()).max(1);
        let ticks = self.node.draw(ticks as usize);
        self.node.forget_leader(ticks);
    }

    fn drive(&mut self, sender: &mpsc::Sender<LogEvent>) -> Result<(), LogError> {
        let mut out = Out {
            sender,
            transport: &*self.transport,
            inbox: &self.inbox,
            senders: &mut self.senders,
        };
        self.node.drive(&mut |effect| out.carry_out(effect))
    }

    fn publish(&self) {
        *self.inbox.status.lock().unwrap_or_else(PoisonError::into_inner) = self.node.status();
    }
}

/// Carries out what the node wants done.
struct Out<'a> {
    sender: &'a mpsc::Sender<LogEvent>,
    transport: &'a dyn Transport,
    inbox: &'a Inbox,
    senders: &'a mut Vec<JoinHandle<()>>,
}

impl Out<'_> {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(event) => {
                // A consumer that has gone away is noticed at the next round.
                let _ = self.sender.blocking_send(event);
            }
            Effect::Send { to, message } => self.transport.send(to, message),
            Effect::SendState(recipient) => self.send_state(recipient),
        }
    }

    /// Sends the state on a thread of its own: reading and sending it takes as long as it takes.
    fn send_state(&mut self, recipient: Recipient) {
        let to = recipient.to;
        let inbox = self.inbox.clone();
        let sink = self.transport.open_state(to);
        let store = inbox.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let send = move || {
            let sent = match (sink, store, &inbox.config.state) {
                (Some(mut sink), Some(store), Some(state)) => {
                    let mut send = |frame| {
                        if inbox.queue.is_closed() {
                            return Err(StateError::Ended);
                        }
                        sink.send(frame)
                    };
                    source::send_state(&store, state, recipient, &mut send)
                        .and_then(|()| sink.finish())
                }
                _ => Err(StateError::Ended),
            };
            if let Err(error) = &sent {
                tracing::warn!(to, error = %error, source = ?std::error::Error::source(error), "the state could not be sent; it is tried again");
            }
            // The log has ended: nobody waits.
            let _ = inbox.queue.order(Order::StateSent { recipient, is_whole: sent.is_ok() });
        };
        self.senders.retain(|sender| !sender.is_finished());
        match std::thread::Builder::new().name("log-state".to_owned()).spawn(send) {
            Ok(sender) => self.senders.push(sender),
            // There is a next time.
            Err(_) => drop(self.inbox.queue.order(Order::StateSent { recipient, is_whole: false })),
        }
    }
}

/// Counts ticks.
struct Clock {
    tick: Duration,
    /// When the last tick that was counted was due.
    last: Instant,
}

impl Clock {
    fn new(tick: Duration) -> Self {
        Self { tick: tick.max(Duration::from_micros(100)), last: Instant::now() }
    }

    /// Ticks that have passed since this was called last, at most `limit`: what a thread slept through beyond that is
    /// not held against anybody.
    fn passed(&mut self, limit: usize) -> usize {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.last).as_nanos() / self.tick.as_nanos();
        if passed > limit.max(1) as u128 {
            self.last = now;
            return limit.max(1);
        }
        self.last += self.tick * passed as u32;
        passed as usize
    }

    fn until(&self, ticks: usize) -> Duration {
        let due = self.last + self.tick * ticks as u32;
        due.saturating_duration_since(Instant::now())
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
