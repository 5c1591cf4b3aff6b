//! Executors of frameworks, as the master knows them: where they run, and what they hold.
//!
//! An executor is counted from the launch that starts it until its agent says that it ended, or registers without
//! it. The ledger does not have it: after a change of leaders the agents tell. Command tasks have none.

use std::collections::BTreeSet;

use mezzo_proto::internal::v1::{
    AgentExecutor, ExecutorExited, ExecutorMessage, ShutdownExecutor, master_to_agent,
};
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Event, call, event};
use mezzo_types::{AgentId, ExecutorId, FrameworkId, Now, Position, Resources};

use crate::agent::Agent;
use crate::effect::ViewChange;
use crate::framework::Framework;
use crate::invariants::Violation;
use crate::master::Master;

pub(crate) type ExecutorKey = (FrameworkId, ExecutorId);

/// An executor on an agent.
#[derive(Debug)]
pub(crate) struct Executor {
    /// With `framework_id`.
    pub(crate) info: v1::ExecutorInfo,
    /// That its resources are allocated to.
    pub(crate) role: String,
    pub(crate) resources: Resources,
}

impl Agent {
    /// The executors of a framework, in order.
    pub(crate) fn executors_of(
        &self,
        framework: &FrameworkId,
    ) -> impl Iterator<Item = (&ExecutorId, &Executor)> {
        let first = (framework.clone(), ExecutorId::from(""));
        self.executors
            .range(first..)
            .take_while(|(key, _)| key.0 == *framework)
            .map(|(key, executor)| (&key.1, executor))
    }
}

impl Master {
    pub(crate) fn add_executor(&mut self, id: &AgentId, key: ExecutorKey, executor: Executor) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let Some(framework) = self.frameworks.get_mut(&key.0) else { return };
        framework.executors.insert((id.clone(), key.1.clone()));
        // Readers see whose the resources are, as they do with tasks.
        let resources = executor.resources.to_proto();
        let info = v1::ExecutorInfo { resources, ..executor.info.clone() };
        let change = ViewChange::Executor { framework: key.0.clone(), agent: id.clone(), info };
        agent.executors.insert(key, executor);
        self.view(change);
    }

    /// Forgets an executor; what becomes of its resources is the caller's business.
    fn take_executor(&mut self, id: &AgentId, key: &ExecutorKey) -> Option<Executor> {
        let executor = self.agents.get_mut(id)?.executors.remove(key)?;
        if let Some(framework) = self.frameworks.get_mut(&key.0) {
            framework.executors.remove(&(id.clone(), key.1.clone()));
        }
        self.view_executor_gone(id, key);
        Some(executor)
    }

    fn view_executor_gone(&mut self, id: &AgentId, key: &ExecutorKey) {
        let (framework, executor) = key.clone();
        self.view(ViewChange::ExecutorRemoved { framework, agent: id.clone(), executor });
    }

    /// The agent says that an executor ended.
    pub(crate) fn executor_exited(&mut self, now: Now, id: &AgentId, exited: &ExecutorExited) {
        let key: ExecutorKey =
            (exited.framework_id.as_str().into(), exited.executor_id.as_str().into());
        let Some(executor) = self.take_executor(id, &key) else { return };
        self.allocator.recover(now, &key.0, id, &executor.resources, None);
        self.send_executor_lost(id, &key, Some(exited.wait_status));
    }

    /// FAILURE, as Mesos tells of an executor that ended: once, to whoever listens.
    fn send_executor_lost(&mut self, id: &AgentId, key: &ExecutorKey, status: Option<i32>) {
        let Some(stream) = self.frameworks.get(&key.0).and_then(|f| f.stream) else { return };
        let failure = event::Failure {
            agent_id: Some(id.into()),
            executor_id: Some((&key.1).into()),
            status,
        };
        let event = Event {
            r#type: Some(event::Type::Failure as i32),
            failure: Some(failure),
            ..Event::default()
        };
        self.send_event(stream, event, Position(0));
    }

    /// Holds what a registration lists against what was counted. The books are opened afterwards.
    pub(crate) fn settle_executors(&mut self, id: &AgentId, reported: &[AgentExecutor]) {
        let key = |executor: &AgentExecutor| {
            let of = &executor.executor_info.as_ref()?.executor_id;
            Some((FrameworkId::from(executor.framework_id.as_str()), ExecutorId::from(of)))
        };
        let there: BTreeSet<ExecutorKey> = reported.iter().filter_map(key).collect();
        let counted = self.agents.get(id).map(|agent| &agent.executors);
        let missing: Vec<ExecutorKey> = counted
            .into_iter()
            .flat_map(|executors| executors.keys())
            .filter(|key| !there.contains(*key))
            .cloned()
            .collect();
        for key in missing {
            self.take_executor(id, &key);
            self.send_executor_lost(id, &key, None);
        }
        for executor in reported {
            let (Some(key), Some(info)) = (key(executor), executor.executor_info.clone()) else {
                continue;
            };
            let known = self.agents.get(id).is_some_and(|agent| agent.executors.contains_key(&key));
            if known || !self.frameworks.contains_key(&key.0) {
                continue;
            }
            let role = self.role_of_executor(id, &key, &info);
            let resources = Resources::from_proto(&info.resources).unwrap_or_default();
            let resources = resources.unallocated().allocate(&role);
            self.add_executor(id, key, Executor { info, role, resources });
        }
    }

    /// To which role an executor's resources are allocated: its own words, else its tasks' role, else a role of its
    /// framework.
    fn role_of_executor(&self, id: &AgentId, key: &ExecutorKey, info: &v1::ExecutorInfo) -> String {
        let said = info.resources.iter().find_map(|resource| resource.allocation_info.as_ref());
        if let Some(role) = said.and_then(|said| said.role.clone()) {
            return role;
        }
        let framework = self.frameworks.get(&key.0);
        let tasks = self.agents.get(id).into_iter().flat_map(|agent| &agent.tasks);
        let mut tasks = tasks
            .filter(|task| task.0 == key.0)
            .filter_map(|task| framework?.tasks.get(&task.1))
            .filter(|task| task.executor.as_ref() == Some(&key.1));
        tasks.next().map(|task| task.role.clone()).unwrap_or_else(|| {
            let roles = framework.map(|framework| &framework.roles);
            roles.and_then(|roles| roles.first().cloned()).unwrap_or_else(|| "*".to_owned())
        })
    }

    /// The agent is out of the books with all that it has: nothing is given back.
    pub(crate) fn drop_executors_of_agent(&mut self, id: &AgentId) {
        let keys = self.agents.get(id).map(|agent| agent.executors.keys().cloned().collect());
        let keys: Vec<ExecutorKey> = keys.unwrap_or_default();
        for key in keys {
            self.take_executor(id, &key);
        }
    }

    /// The framework is removed: its executors are ended with its tasks. Returns the agents that they are on.
    pub(crate) fn drop_executors_of_framework(
        &mut self,
        now: Now,
        framework: &Framework,
    ) -> BTreeSet<AgentId> {
        let mut agents = BTreeSet::new();
        for (agent_id, executor_id) in &framework.executors {
            let key = (framework.id.clone(), executor_id.clone());
            let Some(executor) = self.take_executor(agent_id, &key) else { continue };
            self.allocator.recover(now, &key.0, agent_id, &executor.resources, None);
            agents.insert(agent_id.clone());
        }
        agents
    }

    /// MESSAGE of a framework: best effort, as in Mesos.
    pub(crate) fn message_to_executor(&mut self, framework: &FrameworkId, message: call::Message) {
        let agent = self.agents.get(&AgentId::from(&message.agent_id));
        let Some(link) = agent.and_then(|agent| agent.link) else {
            self.statistics.messages_to_executors_invalid += 1;
            return;
        };
        self.statistics.messages_to_executors_valid += 1;
        let message = ExecutorMessage {
            framework_id: framework.to_string(),
            executor_id: message.executor_id.value,
            data: message.data,
        };
        // The executor's launch may wait for its commit; nothing overtakes it.
        self.send_agent(link, master_to_agent::Message::ExecutorMessage(message), Position(0));
    }

    /// What an executor tells its framework.
    pub(crate) fn message_of_executor(&mut self, agent: &AgentId, message: ExecutorMessage) {
        let framework = FrameworkId::from(message.framework_id.as_str());
        let Some(stream) = self.frameworks.get(&framework).and_then(|f| f.stream) else {
            self.statistics.messages_of_executors_invalid += 1;
            return;
        };
        self.statistics.messages_of_executors_valid += 1;
        let told = event::Message {
            agent_id: agent.into(),
            executor_id: v1::ExecutorId { value: message.executor_id },
            data: message.data,
        };
        let event = Event {
            r#type: Some(event::Type::Message as i32),
            message: Some(told),
            ..Event::default()
        };
        self.send_event(stream, event, Position(0));
    }

    /// SHUTDOWN of a framework: not retried, as in Mesos.
    pub(crate) fn shut_executor_down(&mut self, framework: &FrameworkId, call: &call::Shutdown) {
        let agent = self.agents.get(&AgentId::from(&call.agent_id));
        let Some(link) = agent.and_then(|agent| agent.link) else { return };
        let shutdown = ShutdownExecutor {
            framework_id: framework.to_string(),
            executor_id: call.executor_id.value.clone(),
        };
        self.send_agent(link, master_to_agent::Message::ShutdownExecutor(shutdown), Position(0));
    }

    /// Agents and frameworks know of the same executors.
    pub(crate) fn executors_are_known(&self) -> Result<(), Violation> {
        let broken = |detail: String| Err(Violation { name: "no-task-lost", detail });
        for framework in self.frameworks.values() {
            for (agent, executor) in &framework.executors {
                let key = (framework.id.clone(), executor.clone());
                if !self.agents.get(agent).is_some_and(|a| a.executors.contains_key(&key)) {
                    return broken(format!("agent '{agent}' lacks executor '{executor}'"));
                }
            }
        }
        for agent in self.agents.values() {
            for (framework, executor) in agent.executors.keys() {
                let key = (agent.id.clone(), executor.clone());
                if !self.frameworks.get(framework).is_some_and(|f| f.executors.contains(&key)) {
                    return broken(format!(
                        "agent '{}' lists unknown executor '{executor}'",
                        agent.id
                    ));
                }
            }
        }
        Ok(())
    }
}
