//! A master's process: the core, and what the real shell (`master/src/leader.rs`) does around it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use mezzo_master_allocator::{AllocatorConfig, DrfAllocator};
use mezzo_master_core::{Config, Effect, Input, LinkId, Master, RateLimit, RequestId, StreamId};
use mezzo_proto::internal::v1::MasterToAgent;
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::Event;
use mezzo_types::{Now, Position};

use crate::describe;
use crate::fact::Fact;
use crate::faults::master_room;
use crate::network::{ConnId, End, Near};
use crate::outbox::{Destination, Outbox};
use crate::rng::Rng;
use crate::world::{EPOCH_NS, Happening, World};

/// Something that left the core.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Event(Box<Event>),
    CloseStream,
    Agent(Box<MasterToAgent>),
    CloseLink,
    Answer,
}

/// See the module.
pub(crate) struct MasterProcess {
    pub(crate) core: Master,
    pub(crate) term: u64,
    pub(crate) number: usize,
    outbox: Outbox<Outgoing>,
    /// How many messages wait in the outbox.
    waiting: usize,
    in_flight: VecDeque<Position>,
    persisted: Position,
    started_ns: u64,
    wake: Option<u64>,
    /// Calls that wait for their answer.
    requests: BTreeSet<RequestId>,
    next_request: u64,
}

impl MasterProcess {
    fn now(&self, now_ns: u64) -> Now {
        let unix_ns = EPOCH_NS + i64::try_from(now_ns).unwrap_or(i64::MAX);
        Now { mono_ns: now_ns - self.started_ns, unix_ns }
    }
}

/// Timeouts short enough that a run of minutes meets them.
pub(crate) fn config(rng: &mut Rng) -> Config {
    let info = v1::MasterInfo { id: "c".to_owned(), ..v1::MasterInfo::default() };
    let mut config = Config::new(info);
    config.agent_ping_timeout = Duration::from_millis(rng.between(500, 5_000));
    config.max_agent_ping_timeouts = rng.between(1, 4) as u32;
    config.agent_reregister_timeout = Duration::from_millis(rng.between(2_000, 60_000));
    config.agent_removal_rate_limit = rng.chance(40).then(|| RateLimit {
        permits: rng.between(1, 3) as u32,
        per: Duration::from_millis(rng.between(1_000, 20_000)),
    });
    config.registry_gc_interval = Duration::from_millis(rng.between(2_000, 60_000));
    config
}

impl World {
    /// A master starts from the log, or takes over from one that has not noticed yet.
    pub(crate) fn start_master(&mut self) {
        let number = self.masters_started;
        self.masters_started += 1;
        let settled = self.log.lead(number);
        for command in settled {
            self.commit(&command);
        }
        let term = self.log.term;
        self.note(format_args!("master {number} leads in term {term}"));
        let registry = &self.log.registry;
        self.watch.see(&Fact::Leads { master: number, term, registry });
        let allocator = Box::new(DrfAllocator::new(AllocatorConfig::default()));
        let now = Now { mono_ns: 0, unix_ns: EPOCH_NS + self.now_ns as i64 };
        let core = Master::recover(self.master_config.clone(), term, registry, allocator, now);
        let process = MasterProcess {
            core,
            term,
            number,
            outbox: Outbox::default(),
            waiting: 0,
            in_flight: VecDeque::new(),
            persisted: Position(0),
            started_ns: self.now_ns,
            wake: None,
            requests: BTreeSet::new(),
            next_request: 0,
        };
        self.leader = Some(number);
        self.settle_master(process);
        if self.full {
            self.master_input(number, master_room(true));
        }
    }

    /// The process is gone; what it had sent is on its way.
    pub(crate) fn kill_master(&mut self, number: usize) {
        if self.masters.remove(&number).is_none() {
            return;
        }
        self.note(format_args!("master {number} dies"));
        if self.leader == Some(number) {
            self.leader = None;
        }
        for conn in self.network.of_master(number) {
            self.close(conn, End::Master);
        }
    }

    pub(crate) fn commit(&mut self, command: &mezzo_proto::storage::v1::Command) {
        self.log.apply(command);
        self.note(format_args!("log: {}", describe::command(command)));
        self.watch.see(&Fact::Committed { command, registry: &self.log.registry });
    }

    pub(crate) fn master_input(&mut self, number: usize, input: Input) {
        let Some(mut process) = self.masters.remove(&number) else { return };
        let now = process.now(self.now_ns);
        process.core.handle(now, input);
        self.settle_master(process);
    }

    /// A call of a framework or an operator.
    pub(crate) fn master_request(&mut self, number: usize, make: impl FnOnce(RequestId) -> Input) {
        let Some(process) = self.masters.get_mut(&number) else { return };
        process.next_request += 1;
        let request = RequestId(process.next_request);
        process.requests.insert(request);
        self.master_input(number, make(request));
    }

    pub(crate) fn wake_master(&mut self, number: usize) {
        let Some(mut process) = self.masters.remove(&number) else { return };
        if process.wake.is_some_and(|wake| wake <= self.now_ns) {
            process.wake = None;
            let now = process.now(self.now_ns);
            process.core.handle_timeout(now);
        }
        self.settle_master(process);
    }

    /// The oldest entry of this master is durable.
    pub(crate) fn entry_durable(&mut self, number: usize) {
        let Some(entry) = self.log.durable(number) else { return };
        for command in &entry {
            self.commit(command);
        }
        let Some(mut process) = self.masters.remove(&number) else { return };
        if let Some(position) = process.in_flight.pop_front() {
            for (to, outgoing) in process.outbox.committed(position) {
                process.waiting -= 1;
                self.deliver(&mut process, to, outgoing);
            }
        }
        self.settle_master(process);
    }

    /// Carries out all effects of a round, as `Leader::settle` does.
    fn settle_master(&mut self, mut process: MasterProcess) {
        let mut entry = Vec::new();
        while let Some(effect) = process.core.poll_effect() {
            match effect {
                Effect::Persist(command) => {
                    process.persisted = process.persisted.next();
                    entry.push(*command);
                }
                Effect::Event { stream, event, after } => {
                    let to = Destination::Stream(stream);
                    self.send(&mut process, to, after, Outgoing::Event(event));
                }
                Effect::CloseStream { stream, after } => {
                    let to = Destination::Stream(stream);
                    self.send(&mut process, to, after, Outgoing::CloseStream);
                }
                Effect::Agent { link, message, after } => {
                    let to = Destination::of(link, &message, after);
                    self.send(&mut process, to, after, Outgoing::Agent(message));
                }
                Effect::CloseLink { link, after } => {
                    self.send(&mut process, Destination::Link(link), after, Outgoing::CloseLink);
                }
                Effect::Reply { request, after, .. } => {
                    let to = Destination::Request(request);
                    self.send(&mut process, to, after, Outgoing::Answer);
                }
                Effect::View(change) => {
                    let master = process.number;
                    self.watch.see(&Fact::View { master, change: &change });
                }
                // The limit is 100% here: no share of missing agents is too large.
                Effect::Halt(reason) => panic!("the master halts: {reason}"),
            }
        }
        if !entry.is_empty() {
            match self.log.append(self.now_ns, process.number, entry) {
                Some(at) => {
                    process.in_flight.push_back(process.persisted);
                    self.queue.push(at, Happening::Durable { master: process.number });
                }
                // It is not the leader any more, and learns it when its entries do not come back.
                None => process.in_flight.push_back(process.persisted),
            }
        }
        self.watch.see(&Fact::Waiting { count: process.waiting });
        if let Err(violation) = process.core.check_invariants() {
            self.watch.fail(violation.name, violation.detail);
        }
        if let Some(due) = process.core.poll_timeout() {
            let at = self.now_ns.max(process.started_ns.saturating_add(due));
            if process.wake.is_none_or(|wake| at < wake) {
                process.wake = Some(at);
                self.queue.push(at, Happening::WakeMaster { master: process.number });
            }
        }
        self.masters.insert(process.number, process);
    }

    fn send(
        &mut self,
        process: &mut MasterProcess,
        to: Destination,
        after: Position,
        outgoing: Outgoing,
    ) {
        match process.outbox.push(to, after, outgoing) {
            Some(outgoing) => self.deliver(process, to, outgoing),
            None => process.waiting += 1,
        }
    }

    fn deliver(&mut self, process: &mut MasterProcess, to: Destination, outgoing: Outgoing) {
        match (to, outgoing) {
            (Destination::Stream(StreamId(conn)), Outgoing::Event(event)) => {
                self.deliver_event(process.term, conn, event);
            }
            (
                Destination::Link(LinkId(conn)) | Destination::Removals(LinkId(conn)),
                Outgoing::Agent(message),
            ) => {
                self.deliver_message(process.term, conn, message);
            }
            (
                Destination::Stream(StreamId(conn))
                | Destination::Link(LinkId(conn))
                | Destination::Removals(LinkId(conn)),
                _,
            ) => {
                self.close(conn, End::Master);
            }
            (Destination::Request(request), _) => {
                if !process.requests.remove(&request) {
                    self.watch.fail("answers", format!("request {} answered twice", request.0));
                }
            }
        }
    }

    fn deliver_event(&mut self, term: u64, conn: ConnId, event: Box<Event>) {
        let Some(Near::Framework(framework)) = self.network.get(conn).map(|conn| conn.near) else {
            return;
        };
        let (registry, deposed) = (&self.log.registry, term != self.log.term);
        self.watch.see(&Fact::Told { framework, deposed, event: &event, registry });
        if let Some(at) = self.network.send(self.now_ns, conn, End::Near) {
            self.queue.push(at, Happening::Event { conn, event });
        }
    }

    fn deliver_message(&mut self, term: u64, conn: ConnId, message: Box<MasterToAgent>) {
        let Some(Near::Agent(agent)) = self.network.get(conn).map(|conn| conn.near) else { return };
        if let Some(message) = &message.message {
            let registry = &self.log.registry;
            self.watch.see(&Fact::Ordered { agent, term, message, registry });
        }
        if let Some(at) = self.network.send(self.now_ns, conn, End::Near) {
            self.queue.push(at, Happening::ToAgent { conn, message });
        }
    }
}
