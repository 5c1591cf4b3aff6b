//! The leader's loop: selects an input, hands it to the core, carries out the effects.
//!
//! All `Persist` effects of one round form one entry of the log; messages that depend on them wait
//! in the [`Outbox`]. The loop itself never waits for the disk or for a peer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use mezzo_master_core::{
    Answer, Effect, Input, LinkId, Master, Refusal, RequestId, Statistics, StreamId,
};
use mezzo_proto::internal::v1::{MasterToAgent, agent_to_master, master_to_agent};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{Command, CommandBatch};
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_telemetry::Heartbeat;
use mezzo_types::Position;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::handle::{Inbox, Message};
use crate::metrics::Meters;
use crate::outbox::{Destination, Outbox};
use crate::queue;
use crate::view::View;

/// Inputs taken in one round before the effects are carried out: what arrives together is committed
/// together, and no one starves.
const ROUND_INPUTS: usize = 512;

/// Entries on their way through the log. Beyond that, commands gather for the next entry: a slow disk is
/// given few large entries, not many small ones.
const IN_FLIGHT_MAX: usize = 64;

/// Gathered commands beyond which no input is taken: callers wait, nothing grows without bound.
const GATHERED_MAX: usize = 16_384;

/// How long removals from the ledger may wait for an entry that is due anyway, so that the end of a
/// task costs no sync of its own. Only the agent waits for them, to forget the task; it repeats an
/// update that is not acknowledged after ten seconds.
const REMOVALS_WAIT: Duration = Duration::from_millis(200);

/// Removals that may wait: well below what an entry may hold.
const REMOVALS_MAX: usize = 4096;

/// Something that left the core.
#[derive(Debug)]
enum Outgoing {
    Event(Box<Event>),
    CloseStream,
    Agent(Box<MasterToAgent>),
    CloseLink,
    Answer(Result<Answer, Refusal>),
}

impl Outgoing {
    /// The answer that a stream or link begins with.
    fn is_greeting(&self) -> bool {
        match self {
            Self::Event(event) => event.r#type == Some(event::Type::Subscribed as i32),
            Self::Agent(message) => {
                matches!(message.message, Some(master_to_agent::Message::Registered(_)))
            }
            _ => false,
        }
    }

    fn is_sign_of_life(&self) -> bool {
        match self {
            Self::Event(event) => event.r#type == Some(event::Type::Heartbeat as i32),
            Self::Agent(message) => {
                matches!(message.message, Some(master_to_agent::Message::Ping(_)))
            }
            _ => false,
        }
    }
}

/// What the loop needs of the replicated log.
pub(crate) trait Log {
    /// Appends an entry; it is reported back when committed.
    fn append(&self, payload: Vec<u8>) -> anyhow::Result<()>;

    /// Why nothing new may be promised, if the disk has no room for it.
    fn shortage(&self) -> Option<String>;
}

/// The loop and everything only it touches.
pub(crate) struct Leader<L> {
    core: Master,
    clock: Clock,
    log: L,
    view: View,
    statistics: watch::Sender<Statistics>,
    inbox: Inbox,
    streams: HashMap<StreamId, queue::Sender<Event>>,
    links: HashMap<LinkId, queue::Sender<MasterToAgent>>,
    requests: HashMap<RequestId, oneshot::Sender<Result<Answer, Refusal>>>,
    outbox: Outbox<Outgoing>,
    /// Streams and links that got their first answer.
    greeted: HashSet<Destination>,
    /// The position that each entry on its way through the log completes, and when it left; oldest first.
    in_flight: VecDeque<(Position, Instant)>,
    /// Commands that wait for their turn to become an entry.
    gathered: CommandBatch,
    persisted: Position,
    /// When the next entry is due. `None`: nothing asks for one.
    gathered_due: Option<Instant>,
    /// The core was told that the disk has no room.
    short: bool,
    meters: Meters,
}

impl<L: Log> Leader<L> {
    pub(crate) fn new(
        core: Master,
        clock: Clock,
        log: L,
        view: View,
        statistics: watch::Sender<Statistics>,
        inbox: Inbox,
        meters: Meters,
    ) -> Self {
        Self {
            core,
            clock,
            log,
            view,
            statistics,
            inbox,
            streams: HashMap::new(),
            links: HashMap::new(),
            requests: HashMap::new(),
            outbox: Outbox::default(),
            greeted: HashSet::new(),
            in_flight: VecDeque::new(),
            gathered: CommandBatch::default(),
            persisted: Position(0),
            gathered_due: None,
            short: false,
            meters,
        }
    }

    /// Runs until the last handle is gone, `stop` is asked for, or the log fails. `committed` gets
    /// one message for each entry of this leader that the log committed, in order.
    ///
    /// # Errors
    /// The log refused an entry or ended: nothing may be promised any more.
    pub(crate) async fn run(
        mut self,
        mut committed: mpsc::Receiver<()>,
        mut heartbeat: Heartbeat,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        self.settle()?;
        loop {
            let timeout = self.core.poll_timeout();
            let sleep = tokio::time::sleep_until(self.clock.instant(timeout.unwrap_or(u64::MAX)));
            let gathered_due = self.gathered_due;
            let gathering = async {
                match gathered_due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // Biased: the sign of life first, for it is rare; commits next, as they set messages free; then inputs; timers last, since a
            // late timer is harmless. All arms are cancel-safe: `recv`, `changed` and `sleep_until`
            // lose nothing when another arm wins.
            tokio::select! {
                biased;
                () = heartbeat.due() => {}
                entry = committed.recv() => {
                    if entry.is_none() {
                        anyhow::bail!("the replicated log stopped");
                    }
                    self.entry_committed();
                    while committed.try_recv().is_ok() {
                        self.entry_committed();
                    }
                }
                // While the log is behind, callers wait: nothing grows without bound.
                message = self.inbox.recv(), if self.gathered.commands.len() < GATHERED_MAX => {
                    let Some(message) = message else { return Ok(()) };
                    self.take(message);
                    for _ in 1..ROUND_INPUTS {
                        let Some(message) = self.inbox.try_recv() else { break };
                        self.take(message);
                    }
                }
                () = sleep, if timeout.is_some() => {
                    let now = self.clock.now();
                    self.core.handle_timeout(now);
                }
                () = gathering, if self.in_flight.len() < IN_FLIGHT_MAX => self.append()?,
                changed = stop.changed() => {
                    if changed.is_err() || *stop.borrow() {
                        return Ok(());
                    }
                }
            }
            self.settle()?;
            self.meters.dispatches.set(committed.len() as f64);
            self.meters.queued.set(self.gathered.commands.len() as f64);
        }
    }

    fn take(&mut self, message: Message) {
        let input = match message {
            Message::Input(input) => {
                match &input {
                    Input::StreamClosed { stream } => {
                        self.streams.remove(stream);
                        self.greeted.remove(&Destination::Stream(*stream));
                    }
                    Input::LinkClosed { link } => {
                        self.links.remove(link);
                        self.greeted.remove(&Destination::Link(*link));
                    }
                    _ => {}
                }
                input
            }
            Message::Stream { stream, events, first } => {
                self.streams.insert(stream, events);
                first
            }
            Message::Link { link, messages } => {
                self.links.insert(link, messages);
                return;
            }
            Message::Request { request, answer, input } => {
                self.requests.insert(request, answer);
                input
            }
        };
        mezzo_fault_points::hit!("master.input.taken");
        self.look_for_room(&input);
        self.core.handle(self.clock.now(), input);
        mezzo_fault_points::hit!("master.input.handled");
    }

    /// Tells the core whether it may promise anything new, when somebody is about to ask for that.
    fn look_for_room(&mut self, input: &Input) {
        let asks = match input {
            Input::Call { call, .. } => {
                call.accept.as_ref().is_some_and(|accept| !accept.operations.is_empty())
                    || call.update_framework.is_some()
            }
            Input::AgentMessage { message, .. } => {
                matches!(message.message, Some(agent_to_master::Message::Register(_)))
            }
            _ => false,
        };
        if !asks {
            return;
        }
        let shortage = self.log.shortage();
        if shortage.is_some() || self.short {
            self.short = shortage.is_some();
            self.core.handle(self.clock.now(), Input::Room { shortage });
        }
    }

    fn entry_committed(&mut self) {
        let Some((position, since)) = self.in_flight.pop_front() else { return };
        self.meters.store.observe(since.elapsed());
        mezzo_fault_points::hit!("master.outbox.released");
        for (to, outgoing) in self.outbox.committed(position) {
            self.deliver(to, outgoing);
        }
    }

    /// Carries out all effects of a round, and what carrying them out leads to.
    fn settle(&mut self) -> anyhow::Result<()> {
        let mut urgent = false;
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Persist(command) => {
                    self.persisted = self.persisted.next();
                    urgent |= !is_removal(&command);
                    self.gathered.commands.push(*command);
                }
                Effect::Event { stream, event, after } => {
                    self.send(Destination::Stream(stream), after, Outgoing::Event(event));
                }
                Effect::CloseStream { stream, after } => {
                    self.send(Destination::Stream(stream), after, Outgoing::CloseStream);
                }
                Effect::Agent { link, message, after } => {
                    let to = Destination::of(link, &message, after);
                    self.send(to, after, Outgoing::Agent(message));
                }
                Effect::CloseLink { link, after } => {
                    self.send(Destination::Link(link), after, Outgoing::CloseLink);
                }
                Effect::Reply { request, result, after } => {
                    self.send(Destination::Request(request), after, Outgoing::Answer(result));
                }
                Effect::View(change) => self.view.apply(*change),
                Effect::Halt(reason) => anyhow::bail!(reason),
            }
        }
        if urgent || self.gathered.commands.len() >= REMOVALS_MAX {
            self.gathered_due = Some(Instant::now());
        } else if !self.gathered.commands.is_empty() && self.gathered_due.is_none() {
            self.gathered_due = Some(Instant::now() + REMOVALS_WAIT);
        }
        if self.gathered_due.is_some_and(|due| due <= Instant::now()) {
            self.append()?;
        }
        self.statistics.send_replace(self.core.statistics());
        Ok(())
    }

    /// Makes an entry of what was gathered; later, if enough entries are on their way.
    fn append(&mut self) -> anyhow::Result<()> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return Ok(());
        }
        self.gathered_due = None;
        let batch = std::mem::take(&mut self.gathered);
        if !batch.commands.is_empty() {
            self.in_flight.push_back((self.persisted, Instant::now()));
            mezzo_fault_points::hit!("master.log.appending");
            self.log.append(batch.encode_to_vec())?;
            mezzo_fault_points::hit!("master.log.appended");
        }
        Ok(())
    }

    fn send(&mut self, to: Destination, after: Position, outgoing: Outgoing) {
        // Signs of life depend on nothing, so they do not wait for the disk behind what does; but
        // nothing may come before the first answer on a stream or link.
        if self.greeted.contains(&to) && outgoing.is_sign_of_life() {
            return self.deliver(to, outgoing);
        }
        if let Some(outgoing) = self.outbox.push(to, after, outgoing) {
            self.deliver(to, outgoing);
        }
    }

    fn is_open(&self, to: Destination) -> bool {
        match to {
            Destination::Stream(stream) => self.streams.contains_key(&stream),
            Destination::Link(link) | Destination::Removals(link) => self.links.contains_key(&link),
            Destination::Request(_) => false,
        }
    }

    fn deliver(&mut self, to: Destination, outgoing: Outgoing) {
        if outgoing.is_greeting() && self.is_open(to) {
            self.greeted.insert(to);
        }
        match (to, outgoing) {
            (Destination::Stream(stream), Outgoing::Event(event)) => {
                mezzo_fault_points::hit!("master.event.sending");
                self.deliver_event(stream, event);
            }
            (Destination::Stream(stream), _) => {
                // Dropping our end closes the stream after what is queued has been read.
                self.streams.remove(&stream);
            }
            (Destination::Link(link) | Destination::Removals(link), Outgoing::Agent(message)) => {
                mezzo_fault_points::hit!("master.agent.sending");
                let bytes = message.encoded_len();
                let sent = self.links.get(&link).map(|messages| messages.send(message, bytes));
                if let Some(Err(full)) = sent {
                    tracing::warn!(
                        link = link.0,
                        waiting = full.messages,
                        bytes = full.bytes,
                        "the agent is too slow or gone: closing its link"
                    );
                    if let Some(messages) = self.links.remove(&link) {
                        messages.end_with(None);
                    }
                    // The connection may take its time to end.
                    self.core.handle(self.clock.now(), Input::LinkClosed { link });
                }
            }
            (Destination::Link(link) | Destination::Removals(link), _) => {
                self.links.remove(&link);
            }
            (Destination::Request(request), Outgoing::Answer(result)) => {
                mezzo_fault_points::hit!("master.answer.sending");
                if let Some(answer) = self.requests.remove(&request) {
                    // The caller may have hung up; the call was carried out all the same.
                    answer.send(result).ok();
                }
            }
            (Destination::Request(request), _) => {
                self.requests.remove(&request);
            }
        }
    }

    fn deliver_event(&mut self, stream: StreamId, event: Box<Event>) {
        let Some(events) = self.streams.get(&stream) else { return };
        let bytes = event.encoded_len();
        let Err(full) = events.send(event, bytes) else { return };
        tracing::warn!(
            stream = stream.0,
            waiting = full.messages,
            bytes = full.bytes,
            "the framework is too slow: closing its stream"
        );
        let message = format!(
            "the scheduler reads too slowly: {} events of {} bytes wait; subscribe again and reconcile",
            full.messages, full.bytes
        );
        let error = Event {
            r#type: Some(event::Type::Error as i32),
            error: Some(event::Error { message }),
            ..Event::default()
        };
        if let Some(events) = self.streams.remove(&stream) {
            events.end_with(Some(Box::new(error)));
        }
        // The connection may take its time to end.
        self.core.handle(self.clock.now(), Input::StreamClosed { stream });
    }
}

/// Takes tasks out of the ledger whose ends were acknowledged.
fn is_removal(command: &Command) -> bool {
    matches!(command.command, Some(CommandKind::ForgetTasks(_)))
}
