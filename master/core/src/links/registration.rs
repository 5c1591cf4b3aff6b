//! An agent registers: new, back after a break, or back after it was given up.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_master_allocator::AgentOptions;
use mezzo_proto::internal::v1::{
    KillTask, Register, Registered, ShutdownFramework, UpdateFramework, master_to_agent,
};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{PutCounters, agent_record};
use mezzo_proto::v1;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, FrameworkId, Now, Position, Resources, TaskId};

use super::departure::barred;
use super::settlement::Return;
use crate::agent::Agent;
use crate::input::LinkId;
use crate::master::Master;
use crate::task::Launch;
use crate::timers::Timer;

impl Master {
    /// `Register`: admits the agent, settles which of its tasks live, and answers `Registered`
    /// once the registry has it.
    pub(crate) fn register(&mut self, now: Now, link: LinkId, register: Register) {
        let Some(info) = register.agent_info.clone() else {
            return self.refuse_link(link, "Register lacks agent_info", false);
        };
        // First of all: terms of another cluster say nothing.
        let known = info.id.as_ref().map(AgentId::from);
        if let Some(message) = self.may_not_join(known.as_ref()) {
            return self.refuse_link(link, &message, false);
        }
        if register.highest_term > self.term && !is_on(Bug::MasterAdmitsLaterTerms) {
            let message = format!(
                "the agent has seen term {} but this master leads in term {}: it is not the \
                 leader any more, or the agent belongs to another cluster",
                register.highest_term, self.term
            );
            return self.refuse_link(link, &message, false);
        }
        let total = Resources::from_proto(&info.resources)
            .map_err(|error| format!("agent_info.resources is invalid: {error}"))
            .and_then(|configured| Self::registered_total(&configured, &register.total_resources));
        let total = match total {
            Ok(total) => total,
            Err(message) => return self.refuse_link(link, &message, false),
        };
        if let Some(id) = &known
            && self.gone.contains_key(id)
        {
            return self.refuse_link(link, &barred(id), true);
        }
        if let Some((message, shutdown)) =
            self.machine_is_down(now, &info, &register.ip, known.as_ref())
        {
            return self.refuse_link_after(link, &message, shutdown, self.everything_so_far());
        }
        let returns = known.is_some();
        let (id, mut admitted) = match known {
            Some(id) => (id, Position(0)),
            None => self.next_agent_id(),
        };
        let was = self.agents.get(&id);
        let old_link = was.and_then(|a| a.link);
        let was_unreachable = was.is_some_and(|a| a.unreachable_since_unix_ns.is_some());
        let rebooted = was.is_some_and(|a| a.boot_id != register.boot_id);
        // An agent that was unreachable for so long that the registry forgot it returns as well.
        let given_up = was_unreachable || returns && was.is_none();
        let old_info = was.map(|a| a.info.clone());
        let old_total = was.map(|a| a.confirmed.clone());
        if let Some(old_link) = old_link {
            self.unlink(now, &id);
            self.refuse_link(old_link, "the agent registered anew on another link", false);
        }
        if returns {
            self.statistics.agents_reregistered += 1;
        } else {
            self.statistics.agents_registered += 1;
        }
        self.bind(now, link, &id, info, total, &register);
        let agent = self.agents.get(&id);
        let changed = agent.map(|a| &a.info) != old_info.as_ref()
            || agent.map(|a| &a.confirmed) != old_total.as_ref();
        if changed || rebooted || was_unreachable {
            admitted = admitted.max(self.persist_agent(now, &id, agent_record::State::Admitted));
        }
        admitted = admitted.max(self.adopt_frameworks(now, &register));
        let back = Return { last: last_launch(&register), rebooted, given_up };
        let settlement = self.settle_tasks(now, &id, &register.tasks, &back);
        self.settle_executors(&id, &register.executors);
        let operations = self.settle_operations(&id, &register.operations, back.last);
        let admitted = admitted.max(settlement.position).max(operations);
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.admitted = admitted;
        }
        let registered = Registered {
            agent_id: id.to_string(),
            term: self.term,
            ping_timeout_ms: u64::try_from(self.ping_patience().as_millis()).unwrap_or(u64::MAX),
        };
        self.send_agent(link, master_to_agent::Message::Registered(registered), admitted);
        self.repeat_orders(link, &id, &register, settlement.doubles);
        self.repeat_drain(link, &id);
        self.open_books(now, &id);
        self.view_agent(&id);
    }

    /// Why an agent cannot be let in, now or ever.
    fn may_not_join(&self, known: Option<&AgentId>) -> Option<String> {
        let own = self.counters.cluster_id.as_str();
        match known {
            // Ids are `<cluster>-S<number>`.
            Some(id) => {
                let (cluster, _) = id.as_str().rsplit_once("-S").unwrap_or((id.as_str(), ""));
                (cluster != own).then(|| {
                    format!(
                        "agent '{id}' belongs to the cluster '{cluster}', but this master leads the \
                         cluster '{own}': give the agent its own master with --master, or an empty \
                         --work-dir to let it join this cluster as a new agent"
                    )
                })
            }
            None => self.shortage.clone(),
        }
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
        self.cancel_removal(id);
        self.recovered.remove(id);
        let decided = self.agents.get(id).map(|old| (old.deactivated, old.drain));
        let (deactivated, drain) = decided.unwrap_or_default();
        let (tasks, operations, executors, launched) = match self.agents.swap_remove(id) {
            Some(old) => {
                if let Some(due) = old.reregister_due_ns {
                    self.timers.cancel(due, Timer::Reregister(id.clone()));
                }
                if let Some(since) = old.unreachable_since_unix_ns {
                    self.unreachable.remove(&(since, id.clone()));
                }
                (old.tasks, old.operations, old.executors, old.last_launch)
            }
            // Launches are counted on from where this master, before it forgot the agent, stopped.
            None => {
                let last = last_launch(register);
                let last = if last.term == self.term { last } else { Launch::default() };
                (BTreeSet::new(), BTreeMap::new(), BTreeMap::new(), last)
            }
        };
        let ping_due_ns = now.plus(self.config.agent_ping_timeout);
        self.timers.set(ping_due_ns, Timer::Ping(link));
        self.links.insert(link, id.clone());
        let agent = Agent {
            id: id.clone(),
            info,
            version: register.version.clone(),
            boot_id: register.boot_id.clone(),
            confirmed: total.clone(),
            total,
            doubtful: false,
            operations,
            link: Some(link),
            admitted: Position(0),
            registered_unix_ns: now.unix_ns,
            last_launch: launched,
            ping_due_ns,
            heard: false,
            silent_intervals: 0,
            removal: None,
            reregister_due_ns: None,
            since_unix_ns: now.unix_ns,
            unreachable_since_unix_ns: None,
            tasks,
            executors,
            offers: BTreeSet::new(),
            ip: register.ip.clone(),
            deactivated,
            drain,
        };
        self.agents.insert(id.clone(), Box::new(agent));
    }

    /// Frameworks that the agent knows and this master does not, because its registry was lost: they
    /// are away, and their tasks theirs.
    fn adopt_frameworks(&mut self, now: Now, register: &Register) -> Position {
        let floor = self.config.agent_reregister_timeout;
        let mut position = Position(0);
        for info in &register.frameworks {
            let Some(id) = info.id.as_ref().map(FrameworkId::from) else { continue };
            let owns =
                |task: &mezzo_proto::internal::v1::AgentTask| task.framework_id == id.as_str();
            let owns_executor = |executor: &mezzo_proto::internal::v1::AgentExecutor| {
                executor.framework_id == id.as_str()
            };
            if self.frameworks.contains_key(&id)
                || self.completed.contains_key(&id)
                || !(register.tasks.iter().any(owns)
                    || register.executors.iter().any(owns_executor))
            {
                continue;
            }
            position = self.admit_away(now, &id, info.clone(), floor).max(position);
        }
        position
    }

    /// Kills that were ordered, and frameworks that were removed or changed, while the agent was away.
    fn repeat_orders(
        &mut self,
        link: LinkId,
        id: &AgentId,
        register: &Register,
        doubles: Vec<(FrameworkId, TaskId)>,
    ) {
        let of_tasks = register.tasks.iter().map(|t| t.framework_id.as_str());
        let of_executors = register.executors.iter().map(|e| e.framework_id.as_str());
        let owners: BTreeSet<&str> = of_tasks.chain(of_executors).collect();
        for owner in owners {
            if !self.completed.contains_key(owner) {
                continue;
            }
            let shutdown = ShutdownFramework { framework_id: owner.to_owned() };
            let message = master_to_agent::Message::ShutdownFramework(shutdown);
            // The removal may not be committed yet; a crash must not bring the framework back to dead
            // tasks.
            self.send_agent(link, message, self.everything_so_far());
        }
        for info in &register.frameworks {
            let known = info.id.as_ref().and_then(|id| self.frameworks.get(id.value.as_str()));
            // It changed while the agent was away.
            let Some(known) = known.filter(|known| known.info != *info) else { continue };
            let (framework_info, after) = (Some(known.info.clone()), known.admitted);
            let update = master_to_agent::Message::UpdateFramework(Box::new(UpdateFramework {
                framework_info,
            }));
            self.send_agent(link, update, after);
        }
        let mut kills: Vec<KillTask> = match self.agents.get(id) {
            Some(_) if is_on(Bug::MasterForgetsKills) => Vec::new(),
            Some(agent) => agent.tasks.iter().filter_map(|key| self.pending_kill(key)).collect(),
            None => Vec::new(),
        };
        // While the agent was forgotten its framework used the task's id again: one of both must end.
        kills.extend(doubles.into_iter().map(|(framework, task)| KillTask {
            framework_id: framework.to_string(),
            task_id: task.to_string(),
            kill_policy: None,
        }));
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

    /// Gives the agent to the allocator, with what its tasks and executors hold.
    fn open_books(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        let mut used: BTreeMap<(FrameworkId, String), Resources> = BTreeMap::new();
        for (framework, task) in &agent.tasks {
            let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(task));
            let Some(task) = task.filter(|task| task.holds_resources) else { continue };
            *used.entry((framework.clone(), task.role.clone())).or_default() += &task.resources;
        }
        for ((framework, _), executor) in &agent.executors {
            let key = (framework.clone(), executor.role.clone());
            *used.entry(key).or_default() += &executor.resources;
        }
        let deactivated = agent.deactivated;
        self.allocator.add_agent(now, id, agent.total.clone(), used, AgentOptions::default());
        if deactivated {
            self.allocator.deactivate_agent(id);
        }
        self.inverse_offers.look_at(id);
    }
}

/// The last launch that arrived at the agent.
fn last_launch(register: &Register) -> Launch {
    let last = register.last_launch.unwrap_or_default();
    Launch { term: last.term, sequence: last.sequence }
}
