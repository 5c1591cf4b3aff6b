//! Frameworks that come, come back, fall silent and leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mezzo_master_allocator::{Capabilities, FrameworkOptions};
use mezzo_proto::internal::v1::{ShutdownFramework, UpdateFramework, master_to_agent};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{
    FrameworkRecord, PutCounters, PutFramework, RemoveFramework, framework_record,
};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::capability::Type as Capability;
use mezzo_proto::v1::scheduler::{Call, Event, call, event};
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, FrameworkId, Now, Position, Quantities, ResourceName, Scalar};

use crate::effect::{TaskNews, ViewChange};
use crate::framework::{Framework, has_capability, roles_of};
use crate::input::StreamId;
use crate::master::Master;
use crate::status::from_master;
use crate::timers::Timer;
use crate::validation;

/// So many removed frameworks are remembered, lest their ids come back (Mesos remembers
/// `--max_completed_frameworks`, 50). Ids count upwards, so the first is the oldest.
const COMPLETED_MAX: usize = 10_000;

impl Master {
    /// SUBSCRIBE: a new framework, or a known one on a new stream. Refusals come as ERROR events,
    /// as the stream is open already.
    pub(crate) fn subscribe(
        &mut self,
        now: Now,
        stream: StreamId,
        call: Call,
        principal: Option<String>,
    ) {
        let Some(mut subscribe) = call.subscribe else {
            self.send_error(stream, "Expecting 'subscribe' to be present".to_owned());
            return;
        };
        // An empty id is none, as with Mesos.
        subscribe.framework_info.id.take_if(|id| id.value.is_empty());
        self.keep_what_may_not_change(&mut subscribe.framework_info);
        if let Err(message) = self.check_subscription(&subscribe, principal.as_deref()) {
            self.send_error(stream, message);
            return;
        }
        let info = &subscribe.framework_info;
        match &info.id {
            None => {
                let (id, position) = self.next_framework_id();
                self.admit(now, id.clone(), *subscribe, principal);
                self.connect(now, &id, stream, position);
            }
            Some(id) => {
                let id = FrameworkId::from(id);
                if self.frameworks.contains_key(&id) {
                    self.resubscribe(now, &id, *subscribe);
                } else {
                    // An id from another life of the cluster: Mesos admits it, too.
                    self.admit(now, id.clone(), *subscribe, principal);
                }
                self.connect(now, &id, stream, Position(0));
            }
        }
    }

    /// A known framework that subscribes with another `user` or `checkpoint` keeps its old one, as with Mesos: it
    /// would lose its tasks if it were turned away. UPDATE_FRAMEWORK is refused.
    fn keep_what_may_not_change(&self, info: &mut v1::FrameworkInfo) {
        let known = info.id.as_ref().and_then(|id| self.frameworks.get(id.value.as_str()));
        if let Some(known) = known {
            info.user.clone_from(&known.info.user);
            info.checkpoint = known.info.checkpoint;
        }
    }

    fn check_subscription(
        &self,
        subscribe: &call::Subscribe,
        principal: Option<&str>,
    ) -> Result<(), String> {
        let info = &subscribe.framework_info;
        validation::framework_info(info, self.config.root_submissions)?;
        validation::roles_subset(
            "subscribe.suppressed_roles",
            &subscribe.suppressed_roles,
            &roles_of(info),
        )?;
        let constraints = subscribe.offer_constraints.as_ref();
        validation::offer_constraints("subscribe", constraints, &roles_of(info))?;
        if let (Some(claimed), Some(actual)) = (&info.principal, principal)
            && claimed != actual
        {
            return Err(format!(
                "framework_info.principal is '{claimed}' but the caller is authenticated as \
                 '{actual}': both must be equal"
            ));
        }
        let Some(id) = &info.id else { return Ok(()) };
        let id = FrameworkId::from(id);
        if self.completed.contains_key(&id) {
            return Err(format!(
                "Framework has been removed: the id '{id}' was torn down or failed over too late \
                 and cannot come back; subscribe without an id"
            ));
        }
        match self.frameworks.get(&id) {
            Some(old) => validation::framework_update(&old.info, info),
            None => Ok(()),
        }
    }

    fn next_framework_id(&mut self) -> (FrameworkId, Position) {
        let number = self.counters.next_framework;
        self.counters.next_framework += 1;
        let id = FrameworkId::from(format!("{}-{number:04}", self.counters.cluster_id));
        let counters = Some(self.counters.clone());
        let position = self.persist(CommandKind::PutCounters(PutCounters { counters }));
        (id, position)
    }

    /// Adds a framework that is not known, disconnected as yet.
    fn admit(
        &mut self,
        now: Now,
        id: FrameworkId,
        subscribe: call::Subscribe,
        principal: Option<String>,
    ) {
        let mut info = subscribe.framework_info;
        info.id = Some((&id).into());
        let admitted = self.persist_framework(now, &info, principal.as_deref());
        self.allocator.add_framework(now, &id, options(&info, &subscribe.suppressed_roles));
        let framework = Framework {
            id: id.clone(),
            roles: roles_of(&info),
            info,
            principal,
            stream: None,
            heartbeat_due_ns: 0,
            failover_due_ns: None,
            recovered: true,
            registered_unix_ns: 0,
            reregistered_unix_ns: None,
            admitted,
            tasks: BTreeMap::new(),
            executors: BTreeSet::new(),
            offers: BTreeSet::new(),
            operations: BTreeMap::new(),
        };
        self.frameworks.insert(id, framework);
    }

    /// Adds a framework that only an agent told of; it has at least `floor` to subscribe.
    pub(crate) fn admit_away(
        &mut self,
        now: Now,
        id: &FrameworkId,
        info: v1::FrameworkInfo,
        floor: Duration,
    ) -> Position {
        let subscribe = call::Subscribe { framework_info: info, ..call::Subscribe::default() };
        self.admit(now, id.clone(), subscribe, None);
        self.allocator.deactivate_framework(id);
        self.start_failover(now, id, floor);
        self.view_framework(id);
        self.frameworks.get(id).map_or(Position(0), |framework| framework.admitted)
    }

    /// A known framework brings new information; its old stream, if any, ends.
    fn resubscribe(&mut self, now: Now, id: &FrameworkId, subscribe: call::Subscribe) {
        let old = self.frameworks.get(id).and_then(|f| f.stream);
        if let Some(old) = old {
            self.send_error(old, "Framework failed over".to_owned());
            self.disconnect(now, id);
        }
        self.replace_info(now, id, subscribe.framework_info, &subscribe.suppressed_roles);
    }

    /// Takes over a FrameworkInfo that was validated against the old one.
    pub(crate) fn replace_info(
        &mut self,
        now: Now,
        id: &FrameworkId,
        info: v1::FrameworkInfo,
        suppressed: &[String],
    ) -> Position {
        let mut info = info;
        info.id = Some(id.into());
        self.allocator.update_framework(now, id, options(&info, suppressed));
        let Some(framework) = self.frameworks.get_mut(id) else { return Position(0) };
        if framework.info == info {
            return framework.admitted;
        }
        framework.roles = roles_of(&info);
        framework.info = info.clone();
        let principal = framework.principal.clone();
        let position = self.persist_framework(now, &info, principal.as_deref());
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.admitted = position;
        }
        self.tell_agents(id, &info, position);
        self.rescind_offers_of_left_roles(now, id);
        self.view_framework(id);
        position
    }

    /// The agents that run its tasks and executors hear what the framework says of itself now.
    fn tell_agents(&mut self, id: &FrameworkId, info: &v1::FrameworkInfo, after: Position) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let of_tasks = framework.tasks.values().map(|task| &task.agent);
        let of_executors = framework.executors.iter().map(|(agent, _)| agent);
        let agents: BTreeSet<&AgentId> = of_tasks.chain(of_executors).collect();
        let links: Vec<_> =
            agents.into_iter().filter_map(|agent| self.agents.get(agent)?.link).collect();
        for link in links {
            let update = UpdateFramework { framework_info: Some(info.clone()) };
            self.send_agent(
                link,
                master_to_agent::Message::UpdateFramework(Box::new(update)),
                after,
            );
        }
    }

    fn persist_framework(
        &mut self,
        now: Now,
        info: &v1::FrameworkInfo,
        principal: Option<&str>,
    ) -> Position {
        self.persist(CommandKind::PutFramework(PutFramework {
            framework: Some(FrameworkRecord {
                info: Some(info.clone()),
                state: framework_record::State::Active as i32,
                since_unix_ns: now.unix_ns,
                principal: principal.unwrap_or_default().to_owned(),
            }),
        }))
    }

    /// Binds the stream, answers SUBSCRIBED and resends what waits for an acknowledgement.
    fn connect(&mut self, now: Now, id: &FrameworkId, stream: StreamId, after: Position) {
        let due = now.plus(self.config.heartbeat_interval);
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.stream = Some(stream);
        if let Some(principal) = &framework.info.principal {
            self.statistics.count_messages_of(principal);
        }
        self.statistics.framework_subscribed(id);
        framework.heartbeat_due_ns = due;
        framework.recovered = false;
        match framework.registered_unix_ns {
            0 => framework.registered_unix_ns = now.unix_ns,
            _ => framework.reregistered_unix_ns = Some(now.unix_ns),
        }
        let failover_due = framework.failover_due_ns.take();
        let mut after = after.max(framework.admitted);
        if is_on(Bug::MasterSubscribesEarly) {
            after = Position(0);
        }
        let waiting: Vec<v1::TaskStatus> = framework
            .tasks
            .values()
            .filter_map(|task| task.unacknowledged.as_deref().cloned())
            .collect();
        if let Some(due) = failover_due {
            self.timers.cancel(due, Timer::Failover(id.clone()));
        }
        self.streams.insert(stream, id.clone());
        self.timers.set(due, Timer::Heartbeat(stream));
        let subscribed = event::Subscribed {
            framework_id: id.into(),
            heartbeat_interval_seconds: Some(self.config.heartbeat_interval.as_secs_f64()),
            master_info: Some(self.config.master_info.clone()),
        };
        let event = Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(Box::new(subscribed)),
            ..Event::default()
        };
        self.send_event(stream, event, after);
        for status in waiting {
            self.send_status(id, status, Position(0));
        }
        self.resend_operations(id);
        self.allocator.activate_framework(now, id);
        self.view_framework(id);
        self.ask_framework_to_leave(id);
    }

    /// The peer closed its stream: the framework is away until it comes back or its failover
    /// timeout passes.
    pub(crate) fn stream_closed(&mut self, now: Now, stream: StreamId) {
        let Some(id) = self.streams.get(&stream).cloned() else { return };
        self.disconnect(now, &id);
        self.start_failover(now, &id, Duration::ZERO);
    }

    /// Unbinds the framework's stream: no offers, no events.
    fn disconnect(&mut self, now: Now, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let Some(stream) = framework.stream.take() else { return };
        let due = framework.heartbeat_due_ns;
        self.streams.remove(&stream);
        self.timers.cancel(due, Timer::Heartbeat(stream));
        self.allocator.deactivate_framework(id);
        self.remove_offers_of_framework(now, id);
        self.forget_inverse_offers_of_framework(id);
        self.view_framework(id);
    }

    /// Starts the clock after which the framework is removed, at least `floor` from now.
    pub(crate) fn start_failover(&mut self, now: Now, id: &FrameworkId, floor: Duration) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let seconds = framework.info.failover_timeout.unwrap_or(0.0).max(0.0);
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).max(floor);
        if timeout.is_zero() {
            self.remove_framework(now, &id.clone());
            return;
        }
        let due = now.plus(timeout);
        framework.failover_due_ns = Some(due);
        self.timers.set(due, Timer::Failover(id.clone()));
    }

    pub(crate) fn failover_timeout(&mut self, now: Now, id: &FrameworkId) {
        let due = self.frameworks.get(id).and_then(|f| f.failover_due_ns);
        if due.is_some_and(|due| due <= now.mono_ns) {
            self.remove_framework(now, id);
        }
    }

    /// Removes a framework for good: its tasks are ended on their agents, its id is barred.
    pub(crate) fn remove_framework(&mut self, now: Now, id: &FrameworkId) -> Position {
        let stream = self.frameworks.get(id).and_then(|f| f.stream);
        self.disconnect(now, id);
        let Some(mut framework) = self.frameworks.remove(id) else { return Position(0) };
        if let Some(due) = framework.failover_due_ns {
            self.timers.cancel(due, Timer::Failover(id.clone()));
        }
        let position = self.persist(CommandKind::PutFramework(PutFramework {
            framework: Some(FrameworkRecord {
                info: Some(framework.info.clone()),
                state: framework_record::State::Completed as i32,
                since_unix_ns: now.unix_ns,
                principal: framework.principal.clone().unwrap_or_default(),
            }),
        }));
        let mut agents = BTreeSet::new();
        for (task_id, task) in &mut framework.tasks {
            if task.holds_resources {
                self.allocator.recover(now, id, &task.agent, &task.resources, None);
            }
            let ended = mezzo_types::is_terminal(task.state);
            let last = if ended { task.state } else { TaskState::TaskKilled };
            if task.counted.is_some() {
                task.count_as(&mut self.statistics, Some(last));
                task.count_as(&mut self.statistics, None);
            }
            let status = (!ended).then(|| {
                let message = format!("Framework '{id}' was removed");
                let (agent, reason) = (Some(&task.agent), Some(Reason::FrameworkRemoved));
                Arc::new(from_master(now, task_id, agent, last, reason, message))
            });
            if let Some(status) = &status {
                self.statistics.task_ended(id, status);
            }
            let news = TaskNews { state: last, ..task.news(status) };
            self.view(ViewChange::TaskNews(news));
            agents.insert(task.agent.clone());
            if let Some(agent) = self.agents.get_mut(&task.agent) {
                agent.tasks.remove(&(id.clone(), task_id.clone()));
                if agent.drain.is_some() {
                    self.drained_maybe.insert(task.agent.clone());
                }
            }
        }
        agents.extend(self.drop_executors_of_framework(now, &framework));
        for agent in agents {
            if is_on(Bug::MasterLeavesOrphans) {
                continue;
            }
            let Some(link) = self.agents.get(&agent).and_then(|a| a.link) else { continue };
            let shutdown = ShutdownFramework { framework_id: id.to_string() };
            self.send_agent(link, master_to_agent::Message::ShutdownFramework(shutdown), position);
        }
        let operations: Vec<_> = framework.operations.values().copied().collect();
        self.release_operations(id, &operations);
        if let Some(stream) = stream {
            self.close_stream(stream);
        }
        let principal = framework.info.principal.as_deref();
        let shared = |other: &Framework| other.info.principal.as_deref() == principal;
        if let Some(principal) = principal.filter(|_| !self.frameworks.values().any(shared)) {
            self.statistics.forget_messages_of(principal);
        }
        self.statistics.forget_framework(id);
        self.allocator.remove_framework(id);
        self.inverse_offers.forget_answers_of(id);
        self.completed.insert(id.clone(), framework.info);
        while self.completed.len() > COMPLETED_MAX {
            let Some((oldest, _)) = self.completed.pop_first() else { break };
            let framework_id = oldest.to_string();
            self.persist(CommandKind::RemoveFramework(RemoveFramework { framework_id }));
        }
        self.view(ViewChange::FrameworkCompleted { id: id.clone(), unix_ns: now.unix_ns });
        position
    }
}

/// What the allocator wants to know of a framework.
pub(crate) fn options(info: &v1::FrameworkInfo, suppressed: &[String]) -> FrameworkOptions {
    FrameworkOptions {
        roles: roles_of(info),
        suppressed: suppressed.iter().cloned().collect(),
        capabilities: Capabilities {
            gpu: has_capability(info, Capability::GpuResources),
            revocable: has_capability(info, Capability::RevocableResources),
            shared: has_capability(info, Capability::SharedResources),
            reservation_refinement: has_capability(info, Capability::ReservationRefinement),
            region_aware: has_capability(info, Capability::RegionAware),
        },
        min_allocatable: min_allocatable(info),
    }
}

/// By role: the alternatives of which an offer must hold one.
fn min_allocatable(info: &v1::FrameworkInfo) -> BTreeMap<String, Vec<Quantities>> {
    let quantities = |wanted: &BTreeMap<String, v1::value::Scalar>| {
        let amounts = wanted.iter().map(|(name, quantity)| {
            let amount = Scalar::from_f64(quantity.value).unwrap_or(Scalar::MAX);
            (ResourceName::from(name.as_str()), amount)
        });
        amounts.collect::<Quantities>()
    };
    let by_role = info.offer_filters.iter().filter_map(|(role, filters)| {
        let min = filters.min_allocatable_resources.as_ref()?;
        Some((role.clone(), min.quantities.iter().map(|q| quantities(&q.quantities)).collect()))
    });
    by_role.collect()
}
