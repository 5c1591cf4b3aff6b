//! An agent registers: new, back after a break, or back after it was given up.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_master_allocator::AgentOptions;
use mezzo_proto::internal::v1::{
    AgentTask, KillTask, Register, Registered, ShutdownFramework, master_to_agent,
};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{PlaceTasks, Placement, PutCounters, agent_record};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, ExecutorId, FrameworkId, Now, Position, Resources, TaskId};
use prost::Message;

use crate::agent::Agent;
use crate::input::LinkId;
use crate::master::Master;
use crate::status::{from_master, lost_or};
use crate::task::{Launch, Task};
use crate::timers::Timer;

impl Master {
    /// `Register`: admits the agent, settles which of its tasks live, and answers `Registered`
    /// once the registry has it.
    pub(crate) fn register(&mut self, now: Now, link: LinkId, register: Register) {
        let Some(info) = register.agent_info.clone() else {
            return self.refuse_link(link, "Register lacks agent_info", false);
        };
        if register.highest_term > self.term && !is_on(Bug::MasterAdmitsLaterTerms) {
            let message = format!(
                "the agent has seen term {} but this master leads in term {}: it is not the \
                 leader any more, or the agent belongs to another cluster",
                register.highest_term, self.term
            );
            return self.refuse_link(link, &message, false);
        }
        let total = match Resources::from_proto(&info.resources) {
            Ok(total) => total,
            Err(error) => {
                let message = format!("agent_info.resources is invalid: {error}");
                return self.refuse_link(link, &message, false);
            }
        };
        let known = info.id.as_ref().map(AgentId::from);
        if let Some(id) = &known
            && self.gone.contains_key(id)
        {
            let message = format!(
                "agent '{id}' was marked gone by an operator and cannot come back: remove its work \
                 directory to let the host join as a new agent"
            );
            return self.refuse_link(link, &message, true);
        }
        let (id, mut admitted) = match known {
            Some(id) => (id, Position(0)),
            None => self.next_agent_id(),
        };
        let was = self.agents.get(&id);
        let old_link = was.and_then(|a| a.link);
        let was_unreachable = was.is_some_and(|a| a.unreachable_since_unix_ns.is_some());
        let rebooted = was.is_some_and(|a| a.boot_id != register.boot_id);
        let changed =
            was.is_none_or(|a| a.boot_id != register.boot_id || a.info.resources != info.resources);
        if old_link.is_some() {
            self.unlink(now, &id);
        }
        if let Some(old_link) = old_link {
            self.refuse_link(old_link, "the agent registered anew on another link", false);
        }
        if was_unreachable || self.agents.contains_key(&id) {
            self.statistics.agents_reregistered += 1;
        } else {
            self.statistics.agents_registered += 1;
        }
        self.bind(now, link, &id, info, total, &register);
        if changed || was_unreachable {
            admitted = admitted.max(self.persist_agent(now, &id, agent_record::State::Admitted));
        }
        let last = register.last_launch.unwrap_or_default();
        let last = Launch { term: last.term, sequence: last.sequence };
        let placed = self.settle_tasks(now, &id, &register.tasks, last, rebooted, was_unreachable);
        let admitted = admitted.max(placed);
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.admitted = admitted;
        }
        let registered = Registered {
            agent_id: id.to_string(),
            term: self.term,
            ping_timeout_ms: u64::try_from(self.ping_patience().as_millis()).unwrap_or(u64::MAX),
        };
        self.send_agent(link, master_to_agent::Message::Registered(registered), admitted);
        self.repeat_orders(link, &id, &register);
        self.open_books(now, &id);
        self.view_agent(&id);
    }

    /// How long an agent should wait for a ping before it takes the link for dead.
    fn ping_patience(&self) -> std::time::Duration {
        self.config.agent_ping_timeout * (self.config.max_agent_ping_timeouts + 1)
    }

    fn next_agent_id(&mut self) -> (AgentId, Position) {
        let number = self.counters.next_agent;
        self.counters.next_agent += 1;
        let id = AgentId::from(format!("{}-S{number}", self.counters.cluster_id));
        let counters = Some(self.counters.clone());
        (id, self.persist(CommandKind::PutCounters(PutCounters { counters })))
    }

    fn bind(
        &mut self,
        now: Now,
        link: LinkId,
        id: &AgentId,
        mut info: v1::AgentInfo,
        total: Resources,
        register: &Register,
    ) {
        info.id = Some(id.into());
        let (tasks, last_launch, reregister_due) = match self.agents.remove(id) {
            Some(old) => (old.tasks, old.last_launch, old.reregister_due_ns),
            None => (BTreeSet::new(), Launch::default(), None),
        };
        if let Some(due) = reregister_due {
            self.timers.cancel(due, Timer::Reregister(id.clone()));
        }
        let ping_due_ns = now.plus(self.config.agent_ping_timeout);
        self.timers.set(ping_due_ns, Timer::Ping(link));
        self.links.insert(link, id.clone());
        let agent = Agent {
            id: id.clone(),
            info,
            version: register.version.clone(),
            boot_id: register.boot_id.clone(),
            total,
            link: Some(link),
            admitted: Position(0),
            registered_unix_ns: now.unix_ns,
            last_launch,
            ping_due_ns,
            pings_unanswered: 0,
            reregister_due_ns: None,
            unreachable_since_unix_ns: None,
            tasks,
            offers: BTreeSet::new(),
        };
        self.agents.insert(id.clone(), agent);
    }

    /// Holds the agent's list against the ledger. Returns the position of what had to be added.
    fn settle_tasks(
        &mut self,
        now: Now,
        id: &AgentId,
        reported: &[AgentTask],
        last: Launch,
        rebooted: bool,
        was_unreachable: bool,
    ) -> Position {
        let mut seen = BTreeSet::new();
        let mut added = Vec::new();
        for task in reported {
            let Ok(info) = v1::TaskInfo::decode(task.task_info.as_ref()) else { continue };
            let key = (FrameworkId::from(task.framework_id.as_str()), TaskId::from(&info.task_id));
            seen.insert(key.clone());
            if let Some(placement) = self.adopt(now, id, &key, info, task, was_unreachable) {
                added.push(placement);
            }
        }
        let expected: Vec<(FrameworkId, TaskId)> = match self.agents.get(id) {
            Some(agent) => agent.tasks.difference(&seen).cloned().collect(),
            None => Vec::new(),
        };
        for (framework, task) in expected {
            self.settle_missing(now, &framework, &task, last, rebooted);
        }
        if added.is_empty() {
            return Position(0);
        }
        self.persist(CommandKind::PlaceTasks(PlaceTasks { placements: added }))
    }

    /// Takes a reported task over; returns its placement if the ledger lacked it.
    fn adopt(
        &mut self,
        now: Now,
        agent: &AgentId,
        key: &(FrameworkId, TaskId),
        info: v1::TaskInfo,
        reported: &AgentTask,
        was_unreachable: bool,
    ) -> Option<Placement> {
        let (framework_id, id) = key;
        let aware_role = self.frameworks.get(framework_id)?;
        let fallback_role = aware_role.roles.first().cloned().unwrap_or_else(|| "*".to_owned());
        let latest = reported.latest.clone().unwrap_or_default();
        let state = latest.state();
        let framework = self.frameworks.get_mut(framework_id)?;
        let name = info.name.clone();
        let executor = latest.executor_id.as_ref().map(ExecutorId::from);
        if let Some(task) = framework.tasks.get_mut(id) {
            if task.agent != *agent {
                return None;
            }
            task.name = name;
            task.info = Some(Box::new(info));
            task.executor = executor.or(task.executor.take());
            task.unreachable_since_unix_ns = None;
            task.holds_resources = !mezzo_types::is_terminal(state);
            let was = task.state;
            task.state = state;
            self.statistics.task_moved(Some(was as i32), Some(state as i32));
            if was_unreachable {
                let reason = Some(Reason::AgentReregistered);
                let status = from_master(now, id, Some(agent), state, reason, "Agent reregistered");
                self.send_status(framework_id, status, Position(0));
            }
            self.view_task(framework_id, id);
            return None;
        }
        let role = info
            .resources
            .iter()
            .find_map(|r| r.allocation_info.as_ref().and_then(|a| a.role.clone()))
            .unwrap_or(fallback_role);
        let resources = Resources::from_proto(&info.resources).unwrap_or_default().allocate(&role);
        let placement = Placement {
            framework_id: framework_id.to_string(),
            task_id: id.to_string(),
            agent_id: agent.to_string(),
            role: role.clone(),
            resources: resources.to_proto(),
            launch_term: 0,
            launch_sequence: 0,
        };
        let task = Task {
            framework: framework_id.clone(),
            id: id.clone(),
            agent: agent.clone(),
            role,
            resources,
            launch: Launch::default(),
            name,
            executor,
            info: Some(Box::new(info)),
            state,
            last_status: None,
            unacknowledged: None,
            holds_resources: !mezzo_types::is_terminal(state),
            kill: None,
            unreachable_since_unix_ns: None,
        };
        self.statistics.task_moved(None, Some(state as i32));
        framework.tasks.insert(id.clone(), task);
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.tasks.insert(key.clone());
        }
        self.view_task(framework_id, id);
        Some(placement)
    }

    /// The ledger has a task that the agent does not know. Either its launch never arrived, or the
    /// agent lost it with the host; an acknowledged ending was forgotten by the ledger first.
    fn settle_missing(
        &mut self,
        now: Now,
        framework_id: &FrameworkId,
        id: &TaskId,
        last: Launch,
        rebooted: bool,
    ) {
        if is_on(Bug::MasterMissesNoLaunch) {
            return;
        }
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let aware = framework.partition_aware();
        let Some(task) = framework.tasks.get_mut(id) else { return };
        task.holds_resources = false;
        // After a reboot the agent's last launch may be older than the truth, as it is written
        // unsynced: that the task never ran would be a guess.
        let (precise, reason, message) = if rebooted {
            (TaskState::TaskGone, Reason::AgentRestarted, "the agent's host was restarted")
        } else if task.launch > last {
            let message = "the launch never reached the agent: its connection broke before";
            (TaskState::TaskDropped, Reason::AgentDisconnected, message)
        } else {
            let message = "the agent does not know the task any more";
            (TaskState::TaskGone, Reason::AgentRestarted, message)
        };
        let agent = task.agent.clone();
        // An ending that was reported but not acknowledged stands.
        let reported = task.last_status.as_deref().cloned();
        let status = match reported.filter(|status| mezzo_types::is_terminal(status.state())) {
            Some(mut status) => {
                status.uuid = None;
                status
            }
            None => {
                let state = lost_or(aware, precise);
                from_master(now, id, Some(&agent), state, Some(reason), message)
            }
        };
        self.set_task_state(now, framework_id, id, status.state());
        if let Some(task) = self.frameworks.get_mut(framework_id).and_then(|f| f.tasks.get_mut(id))
        {
            task.last_status = Some(Box::new(status.clone()));
        }
        self.view_task(framework_id, id);
        let position = self.forget_task(framework_id, id);
        self.send_status(framework_id, status, position);
    }

    /// Kills that were ordered, and frameworks that were removed, while the agent was away.
    fn repeat_orders(&mut self, link: LinkId, id: &AgentId, register: &Register) {
        let owners: BTreeSet<&str> =
            register.tasks.iter().map(|t| t.framework_id.as_str()).collect();
        for owner in owners {
            // Frameworks this master never heard of are left alone: they may come back.
            if !self.completed.contains_key(owner) {
                continue;
            }
            let shutdown = ShutdownFramework { framework_id: owner.to_owned() };
            let message = master_to_agent::Message::ShutdownFramework(shutdown);
            // The removal may not be committed yet; a crash must not bring the framework back to dead
            // tasks.
            self.send_agent(link, message, self.everything_so_far());
        }
        let kills: Vec<KillTask> = match self.agents.get(id) {
            Some(_) if is_on(Bug::MasterForgetsKills) => Vec::new(),
            Some(agent) => agent.tasks.iter().filter_map(|key| self.pending_kill(key)).collect(),
            None => Vec::new(),
        };
        for kill in kills {
            self.send_agent(link, master_to_agent::Message::KillTask(kill), Position(0));
        }
    }

    fn pending_kill(&self, (framework, id): &(FrameworkId, TaskId)) -> Option<KillTask> {
        let task = self.frameworks.get(framework)?.tasks.get(id)?;
        let kill_policy = task.kill?;
        (!mezzo_types::is_terminal(task.state)).then(|| KillTask {
            framework_id: framework.to_string(),
            task_id: id.to_string(),
            kill_policy,
        })
    }

    /// Gives the agent to the allocator, with what its tasks hold.
    fn open_books(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        let mut used: BTreeMap<(FrameworkId, String), Resources> = BTreeMap::new();
        for (framework, task) in &agent.tasks {
            let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(task));
            let Some(task) = task.filter(|task| task.holds_resources) else { continue };
            *used.entry((framework.clone(), task.role.clone())).or_default() += &task.resources;
        }
        self.allocator.add_agent(now, id, agent.total.clone(), used, AgentOptions::default());
    }
}
