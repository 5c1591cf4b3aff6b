//! [`Master`]: what it holds, how inputs reach the code that answers them, timers and effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mezzo_master_allocator::Allocator;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{Command, Counters};
use mezzo_proto::v1;
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_types::{AgentId, FrameworkId, IdMap, Now, OfferId, Position, TaskId, Uuid16};

use crate::agent::Agent;
use crate::config::Config;
use crate::effect::{AgentState, Answer, Effect, Refusal, ViewChange};
use crate::framework::Framework;
use crate::input::{Input, LinkId, RequestId, StreamId};
use crate::inverse_offers::InverseOffers;
use crate::links::Removals;
use crate::maintenance::Maintenance;
use crate::offers::Offer;
use crate::operation::Operation;
use crate::statistics::Statistics;
use crate::throttle::Throttle;
use crate::timers::{Timer, Timers};

/// The leading master. See the crate's documentation for how it is driven.
pub struct Master {
    pub(crate) config: Config,
    /// Raft term of this leadership: fences launches and agents.
    pub(crate) term: u64,
    pub(crate) counters: Counters,
    pub(crate) next_offer: u64,
    pub(crate) allocator: Box<dyn Allocator>,
    pub(crate) frameworks: BTreeMap<FrameworkId, Framework>,
    /// Removed frameworks, oldest first in `completed_order`: their ids may not come back.
    pub(crate) completed: BTreeMap<FrameworkId, v1::FrameworkInfo>,
    /// In boxes, as the table has room for twice as many while it grows.
    pub(crate) agents: IdMap<AgentId, Box<Agent>>,
    /// Agents that are known from the registry and did not come back yet, and how many there were.
    pub(crate) recovered: BTreeSet<AgentId>,
    pub(crate) recovered_at_first: usize,
    /// Agents that are to be marked unreachable.
    pub(crate) removals: Removals,
    /// Unreachable agents, with since when: the longest first.
    pub(crate) unreachable: BTreeSet<(i64, AgentId)>,
    /// Agents marked gone: barred until the registry forgets them.
    pub(crate) gone: BTreeMap<AgentId, i64>,
    pub(crate) gone_by_age: BTreeSet<(i64, AgentId)>,
    pub(crate) offers: IdMap<OfferId, Offer>,
    /// Operations on agents' resources until nobody waits for anything of them.
    pub(crate) operations: BTreeMap<Uuid16, Operation>,
    pub(crate) next_operation: u64,
    /// By role; roles of weight 1 are not here.
    pub(crate) weights: BTreeMap<String, f64>,
    pub(crate) quotas: BTreeMap<String, QuotaConfig>,
    pub(crate) maintenance: Maintenance,
    pub(crate) inverse_offers: InverseOffers,
    /// Draining agents of which a task was forgotten: they may be drained.
    pub(crate) drained_maybe: BTreeSet<AgentId>,
    pub(crate) streams: BTreeMap<StreamId, FrameworkId>,
    pub(crate) links: BTreeMap<LinkId, AgentId>,
    pub(crate) timers: Timers,
    pub(crate) throttle: Throttle,
    pub(crate) statistics: Statistics,
    /// Why nothing new can be promised, if so: launches and admissions are refused with it.
    pub(crate) shortage: Option<String>,
    effects: VecDeque<Effect>,
    position: Position,
}

impl Master {
    /// An empty master of `term`; [`Master::recover`] fills it from the registry.
    pub(crate) fn empty(config: Config, term: u64, allocator: Box<dyn Allocator>) -> Self {
        let throttle = Throttle::new(&config.call_rates);
        Self {
            config,
            term,
            counters: Counters::default(),
            next_offer: 0,
            allocator,
            frameworks: BTreeMap::new(),
            completed: BTreeMap::new(),
            agents: IdMap::default(),
            recovered: BTreeSet::new(),
            recovered_at_first: 0,
            removals: Removals::default(),
            unreachable: BTreeSet::new(),
            gone: BTreeMap::new(),
            gone_by_age: BTreeSet::new(),
            offers: IdMap::default(),
            operations: BTreeMap::new(),
            next_operation: 1,
            weights: BTreeMap::new(),
            quotas: BTreeMap::new(),
            maintenance: Maintenance::default(),
            inverse_offers: InverseOffers::default(),
            drained_maybe: BTreeSet::new(),
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            timers: Timers::default(),
            throttle,
            statistics: Statistics::default(),
            shortage: None,
            effects: VecDeque::new(),
            position: Position(0),
        }
    }

    /// Takes one input. What it leads to is read with [`Master::poll_effect`].
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Subscribe { stream, call, principal } => {
                self.statistics.subscribe_received(&call);
                self.subscribe(now, stream, *call, principal);
            }
            Input::Call { request, stream, call, task_infos } => {
                self.statistics.calls += 1;
                self.paced_call(now, request, stream, call, task_infos);
            }
            Input::StreamClosed { stream } => self.stream_closed(now, stream),
            Input::AgentMessage { link, message } => self.agent_message(now, link, *message),
            Input::LinkClosed { link } => self.link_closed(now, link),
            Input::Room { shortage } => self.shortage = shortage,
            Input::KillTask { request, framework, task, policy } => {
                self.operator_kill(now, request, framework.as_ref(), &task, policy);
            }
            Input::Teardown { request, framework } => {
                self.operator_teardown(now, request, &framework);
            }
            Input::MarkAgentGone { request, agent } => self.mark_agent_gone(now, request, &agent),
            Input::Operate { request, agent, operation, principal } => {
                self.operator_operation(now, request, &agent, &operation, principal.as_deref());
            }
            Input::Order { request, order } => self.order(now, request, *order),
        }
        self.follow_up(now);
    }

    /// Does what is due at `now`; call it when [`Master::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.mono_ns) {
            match timer {
                Timer::Heartbeat(stream) => self.heartbeat(now, stream),
                Timer::Ping(link) => self.ping(now, link),
                Timer::Failover(framework) => self.failover_timeout(now, &framework),
                Timer::Reregister(agent) => self.reregister_timeout(now, &agent),
                Timer::Recovery => self.recovery_timeout(now),
                Timer::Removal => self.run_removals(now),
                Timer::RegistryGc => self.prune_registry(now),
                Timer::OfferTimeout(offer) => self.offer_timeout(now, &offer),
                Timer::InverseOffer(agent) => self.ask_to_leave_later(&agent),
                Timer::Throttle(limit) => self.throttle_timeout(now, limit),
            }
        }
        self.follow_up(now);
    }

    /// What an input left to be looked at once all of it was taken in.
    fn follow_up(&mut self, now: Now) {
        self.settle_drains(now);
        self.allocate_if_due(now);
        self.ask_to_leave(now);
    }

    /// When [`Master::handle_timeout`] is wanted next, in monotonic nanoseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        match (self.timers.next_due(), self.allocator.poll_timeout()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Counts for the metrics endpoints.
    pub fn statistics(&self) -> Statistics {
        let connected = count(self.streams.len());
        let agents_connected = count(self.links.len());
        let agents_unreachable = count(self.unreachable.len());
        let agents_away = agents_unreachable + count(self.recovered.len());
        Statistics {
            frameworks_connected: connected,
            frameworks_disconnected: count(self.frameworks.len()) - connected,
            agents_connected,
            agents_disconnected: count(self.agents.len()) - agents_connected - agents_away,
            agents_unreachable,
            outstanding_offers: count(self.offers.len()),
            ..self.statistics.clone()
        }
    }

    fn allocate_if_due(&mut self, now: Now) {
        if self.allocator.poll_timeout().is_some_and(|due| due <= now.mono_ns) {
            let allocations = self.allocator.allocate(now);
            self.make_offers(now, allocations);
        }
    }

    fn heartbeat(&mut self, now: Now, stream: StreamId) {
        let Some(id) = self.streams.get(&stream).cloned() else { return };
        let due = now.plus(self.config.heartbeat_interval);
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.heartbeat_due_ns = due;
        }
        self.timers.set(due, Timer::Heartbeat(stream));
        let event = Event { r#type: Some(event::Type::Heartbeat as i32), ..Event::default() };
        self.send_event(stream, event, Position(0));
    }

    // What the other modules use to speak.

    /// Appends to the log; returns the position to wait for.
    pub(crate) fn persist(&mut self, command: CommandKind) -> Position {
        self.position = Position(self.position.0 + 1);
        self.effects.push_back(Effect::Persist(Box::new(Command { command: Some(command) })));
        self.position
    }

    /// What a message waits for that rests on anything decided so far.
    pub(crate) fn everything_so_far(&self) -> Position {
        self.position
    }

    pub(crate) fn send_event(&mut self, stream: StreamId, event: Event, after: Position) {
        let framework = self.streams.get(&stream).and_then(|id| self.statistics.framework(id));
        if let (Some(framework), Some(number)) = (framework, event.r#type) {
            framework.event(number);
        }
        self.effects.push_back(Effect::Event { stream, event: Box::new(event), after });
    }

    /// An ERROR event, then the end of the stream.
    pub(crate) fn send_error(&mut self, stream: StreamId, message: String) {
        let event = Event {
            r#type: Some(event::Type::Error as i32),
            error: Some(event::Error { message }),
            ..Event::default()
        };
        self.send_event(stream, event, Position(0));
        self.effects.push_back(Effect::CloseStream { stream, after: Position(0) });
    }

    /// An UPDATE event, if the framework listens.
    pub(crate) fn send_status(
        &mut self,
        framework: &FrameworkId,
        status: v1::TaskStatus,
        after: Position,
    ) {
        let Some(stream) = self.frameworks.get(framework).and_then(|f| f.stream) else { return };
        let event = Event {
            r#type: Some(event::Type::Update as i32),
            update: Some(event::Update { status }),
            ..Event::default()
        };
        self.send_event(stream, event, after);
    }

    pub(crate) fn send_agent(
        &mut self,
        link: LinkId,
        message: mezzo_proto::internal::v1::master_to_agent::Message,
        after: Position,
    ) {
        let message = mezzo_proto::internal::v1::MasterToAgent { message: Some(message) };
        self.effects.push_back(Effect::Agent { link, message: Box::new(message), after });
    }

    pub(crate) fn close_stream(&mut self, stream: StreamId) {
        self.effects.push_back(Effect::CloseStream { stream, after: Position(0) });
    }

    pub(crate) fn close_link(&mut self, link: LinkId) {
        self.close_link_after(link, Position(0));
    }

    pub(crate) fn close_link_after(&mut self, link: LinkId, after: Position) {
        self.effect(Effect::CloseLink { link, after });
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn reply(&mut self, request: RequestId, result: Result<Answer, Refusal>) {
        self.reply_after(request, result, Position(0));
    }

    pub(crate) fn reply_after(
        &mut self,
        request: RequestId,
        result: Result<Answer, Refusal>,
        after: Position,
    ) {
        self.effects.push_back(Effect::Reply { request, result, after });
    }

    pub(crate) fn view(&mut self, change: ViewChange) {
        self.effects.push_back(Effect::View(Box::new(change)));
    }

    pub(crate) fn view_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let connected = framework.stream.is_some();
        let change = ViewChange::Framework {
            info: framework.info.clone(),
            connected,
            active: connected,
            recovered: framework.recovered,
            registered_unix_ns: framework.registered_unix_ns,
            reregistered_unix_ns: framework.reregistered_unix_ns,
        };
        self.view(change);
    }

    pub(crate) fn view_agent(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        let (state, since_unix_ns) = match agent.unreachable_since_unix_ns {
            Some(since) => (AgentState::Unreachable, since),
            None if agent.link.is_some() => (AgentState::Active, agent.since_unix_ns),
            None if self.recovered.contains(id) => (AgentState::Recovered, agent.since_unix_ns),
            None => (AgentState::Disconnected, agent.since_unix_ns),
        };
        let change = ViewChange::Agent {
            info: agent.info.clone(),
            version: agent.version.clone(),
            state,
            since_unix_ns,
            registered_unix_ns: agent.registered_unix_ns,
            total: agent.total.to_proto(),
            deactivated: agent.deactivated,
            drain: agent.drain,
        };
        self.view(change);
    }

    /// Readers are told of the task's state and its last status.
    pub(crate) fn view_task(&mut self, framework: &FrameworkId, task: &TaskId) {
        let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(task));
        if let Some(task) = task {
            let change = ViewChange::TaskNews(task.news(task.last_status.clone()));
            self.view(change);
        }
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
