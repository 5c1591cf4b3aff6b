//! The readers' copy of the state, fed by the core's effects: reads never wait for the loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use mezzo_master_core::{AgentState, ViewChange};
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::{
    GetAgents, GetFrameworks, GetTasks, get_agents, get_frameworks,
};
use mezzo_types::{AgentId, FrameworkId, TaskId};

use crate::decisions::Decisions;

/// Ended tasks that are remembered (Mesos: 1000 a framework).
const COMPLETED_TASKS_MAX: usize = 10_000;
/// Removed frameworks that are remembered (Mesos: `--max_completed_frameworks`).
const COMPLETED_FRAMEWORKS_MAX: usize = 50;

/// What GET_TASKS and its like answer from.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    state: Arc<RwLock<State>>,
    decisions: Decisions,
}

#[derive(Debug, Default)]
struct State {
    frameworks: BTreeMap<FrameworkId, get_frameworks::Framework>,
    completed_frameworks: VecDeque<get_frameworks::Framework>,
    agents: BTreeMap<AgentId, AgentEntry>,
    tasks: BTreeMap<(FrameworkId, TaskId), v1::Task>,
    completed_tasks: VecDeque<v1::Task>,
    offers: BTreeMap<String, v1::Offer>,
}

#[derive(Debug)]
struct AgentEntry {
    agent: get_agents::Agent,
    state: AgentState,
    since: v1::TimeInfo,
}

impl View {
    /// Takes over one change.
    pub(crate) fn apply(&self, change: ViewChange) {
        self.decisions.apply(&change);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            ViewChange::Framework { info, connected, active } => {
                let Some(id) = info.id.as_ref().map(FrameworkId::from) else { return };
                let framework = get_frameworks::Framework {
                    framework_info: info,
                    active,
                    connected,
                    recovered: false,
                    ..get_frameworks::Framework::default()
                };
                state.frameworks.insert(id, framework);
            }
            ViewChange::FrameworkCompleted(id) => state.complete_framework(&id),
            ViewChange::Agent {
                info,
                version,
                state: stands,
                since_unix_ns,
                registered_unix_ns,
                total,
                deactivated,
                drain,
            } => {
                let Some(id) = info.id.as_ref().map(AgentId::from) else { return };
                let pid = format!("slave(1)@{}:{}", info.hostname, info.port.unwrap_or(5051));
                let since = v1::TimeInfo { nanoseconds: since_unix_ns };
                let away = stands == AgentState::Disconnected;
                let agent = get_agents::Agent {
                    agent_info: info,
                    active: stands == AgentState::Active,
                    disconnected_time: away.then_some(since),
                    version,
                    pid: Some(pid),
                    registered_time: Some(v1::TimeInfo { nanoseconds: registered_unix_ns }),
                    total_resources: total,
                    deactivated: Some(deactivated),
                    estimated_drain_start_time: drain
                        .as_ref()
                        .map(|(_, since)| v1::TimeInfo { nanoseconds: *since }),
                    drain_info: drain.map(|(info, _)| info),
                    ..get_agents::Agent::default()
                };
                state.agents.insert(id, AgentEntry { agent, state: stands, since });
            }
            ViewChange::AgentRemoved(id) => {
                state.agents.remove(&id);
            }
            ViewChange::Task(task) => {
                let key = (FrameworkId::from(&task.framework_id), TaskId::from(&task.task_id));
                state.tasks.insert(key, task);
            }
            ViewChange::TaskCompleted(framework, task) => {
                if let Some(task) = state.tasks.remove(&(framework, task)) {
                    state.complete_task(task);
                }
            }
            ViewChange::Offer(offer) => {
                state.offers.insert(offer.id.value.clone(), offer);
            }
            ViewChange::OfferRemoved(id) => {
                state.offers.remove(&id.value);
            }
            ViewChange::InverseOffer(_)
            | ViewChange::InverseOfferRemoved(_)
            | ViewChange::Executor { .. }
            | ViewChange::ExecutorRemoved { .. }
            | ViewChange::Operation(_)
            | ViewChange::OperationRemoved(_)
            | ViewChange::Weights(_)
            | ViewChange::Quotas(_)
            | ViewChange::Maintenance { .. } => {}
        }
    }

    /// What operators decided.
    pub(crate) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// GET_TASKS.
    pub(crate) fn tasks(&self) -> GetTasks {
        let state = self.read();
        let (mut tasks, mut unreachable_tasks) = (Vec::new(), Vec::new());
        for task in state.tasks.values() {
            let agent = state.agents.get(task.agent_id.value.as_str());
            let live = !mezzo_types::is_terminal(task.state());
            if live && agent.is_some_and(|a| a.state == AgentState::Unreachable) {
                unreachable_tasks.push(task.clone());
            } else {
                tasks.push(task.clone());
            }
        }
        GetTasks {
            tasks,
            unreachable_tasks,
            completed_tasks: state.completed_tasks.iter().cloned().collect(),
            ..GetTasks::default()
        }
    }

    /// GET_AGENTS.
    pub(crate) fn agents(&self) -> GetAgents {
        let state = self.read();
        let mut agents: BTreeMap<&str, get_agents::Agent> = BTreeMap::new();
        let mut answer = GetAgents::default();
        for (id, entry) in &state.agents {
            let away = || get_agents::Away {
                agent_info: entry.agent.agent_info.clone(),
                since: Some(entry.since),
            };
            match entry.state {
                AgentState::Active | AgentState::Disconnected => {
                    agents.insert(id.as_ref(), entry.agent.clone());
                }
                AgentState::Recovered => {
                    answer.recovered_agents.push(entry.agent.agent_info.clone());
                }
                AgentState::Unreachable => answer.unreachable_agents.push(away()),
                AgentState::Gone => answer.gone_agents.push(away()),
            }
        }
        for task in state.tasks.values().filter(|t| !mezzo_types::is_terminal(t.state())) {
            if let Some(agent) = agents.get_mut(task.agent_id.value.as_str()) {
                agent.allocated_resources.extend(task.resources.iter().cloned());
            }
        }
        for offer in state.offers.values() {
            if let Some(agent) = agents.get_mut(offer.agent_id.value.as_str()) {
                agent.offered_resources.extend(offer.resources.iter().cloned());
            }
        }
        for agent in agents.values_mut() {
            agent.allocated_resources = merged(&agent.allocated_resources);
            agent.offered_resources = merged(&agent.offered_resources);
        }
        answer.agents = agents.into_values().collect();
        answer
    }

    /// GET_FRAMEWORKS.
    pub(crate) fn frameworks(&self) -> GetFrameworks {
        let state = self.read();
        let mut frameworks: BTreeMap<&str, get_frameworks::Framework> =
            state.frameworks.iter().map(|(id, f)| (id.as_ref(), f.clone())).collect();
        for task in state.tasks.values().filter(|t| !mezzo_types::is_terminal(t.state())) {
            if let Some(framework) = frameworks.get_mut(task.framework_id.value.as_str()) {
                framework.allocated_resources.extend(task.resources.iter().cloned());
            }
        }
        for offer in state.offers.values() {
            if let Some(framework) = frameworks.get_mut(offer.framework_id.value.as_str()) {
                framework.offered_resources.extend(offer.resources.iter().cloned());
                framework.offers.push(offer.clone());
            }
        }
        for framework in frameworks.values_mut() {
            framework.allocated_resources = merged(&framework.allocated_resources);
            framework.offered_resources = merged(&framework.offered_resources);
        }
        GetFrameworks {
            frameworks: frameworks.into_values().collect(),
            completed_frameworks: state.completed_frameworks.iter().cloned().collect(),
            ..GetFrameworks::default()
        }
    }

    /// GET_ROLES.
    pub(crate) fn roles(&self) -> Vec<v1::Role> {
        let state = self.read();
        let mut roles: BTreeMap<String, v1::Role> = BTreeMap::new();
        for framework in state.frameworks.values() {
            let info = &framework.framework_info;
            let mut names = info.roles.clone();
            #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
            if names.is_empty() {
                names.push(info.role.clone().unwrap_or_else(|| "*".to_owned()));
            }
            for name in names {
                let role = roles.entry(name.clone()).or_insert_with(|| v1::Role {
                    name,
                    weight: 1.0,
                    ..v1::Role::default()
                });
                role.frameworks.extend(info.id.clone());
            }
        }
        roles.into_values().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn complete_framework(&mut self, id: &FrameworkId) {
        let first = (id.clone(), TaskId::from(""));
        let keys: Vec<_> = self
            .tasks
            .range(first..)
            .take_while(|((owner, _), _)| owner == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            if let Some(task) = self.tasks.remove(&key) {
                self.complete_task(task);
            }
        }
        let Some(mut framework) = self.frameworks.remove(id) else { return };
        framework.active = false;
        framework.connected = false;
        self.completed_frameworks.push_back(framework);
        if self.completed_frameworks.len() > COMPLETED_FRAMEWORKS_MAX {
            self.completed_frameworks.pop_front();
        }
    }

    fn complete_task(&mut self, task: v1::Task) {
        self.completed_tasks.push_back(task);
        if self.completed_tasks.len() > COMPLETED_TASKS_MAX {
            self.completed_tasks.pop_front();
        }
    }
}

/// Like resources added up.
fn merged(resources: &[v1::Resource]) -> Vec<v1::Resource> {
    match mezzo_types::Resources::from_proto(resources) {
        Ok(sum) => sum.to_proto(),
        Err(_) => resources.to_vec(),
    }
}
