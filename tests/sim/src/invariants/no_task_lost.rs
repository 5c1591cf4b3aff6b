//! `no-task-lost`: a launched task is known, or reported terminal or unreachable; none vanishes.
//!
//! While there are faults: the master forgets a task only after its end, and what a framework was told
//! has ended for good does not run. In the end every framework has heard of the end of every task
//! that it launched, and nothing is left of any, with master, log, agents or hosts.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_master_core::ViewChange;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ContainerId, is_terminal};

use super::Invariant;
use crate::fact::{Fact, TaskKey};
use crate::world::World;

#[derive(Default)]
pub(super) struct NoTaskLost {
    /// By master: the newest state that readers were told.
    states: BTreeMap<(usize, TaskKey), TaskState>,
    running: BTreeMap<(usize, ContainerId), TaskKey>,
    /// Told by the master to be over for good.
    over: BTreeSet<TaskKey>,
}

/// Statuses by which the master itself declares a task dead. Others of its making (an agent that is
/// unreachable, an answer to a question about a task that was never launched) may be overtaken.
fn is_final(reason: Reason) -> bool {
    matches!(reason, Reason::AgentDisconnected | Reason::AgentRestarted)
}

impl Invariant for NoTaskLost {
    fn name(&self) -> &'static str {
        "no-task-lost"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::View { master, change: ViewChange::Task(task) } => {
                let key = (task.framework_id.value.clone(), task.task_id.value.clone());
                self.states.insert((*master, key), task.state());
            }
            Fact::View { master, change: ViewChange::TaskNews(news) } => {
                let key = (news.framework.to_string(), news.task.to_string());
                self.states.insert((*master, key), news.state);
            }
            Fact::View { master, change: ViewChange::TaskCompleted(framework, task) } => {
                let key = (framework.to_string(), task.to_string());
                let state = self.states.remove(&(*master, key.clone()));
                if !state.is_some_and(is_terminal) {
                    return Err(format!("the master forgot task {key:?} in state {state:?}"));
                }
            }
            Fact::Began { agent, container, key, .. } => {
                self.running.insert((*agent, (*container).clone()), (*key).clone());
                if self.over.contains(*key) {
                    return Err(format!("task {key:?} begins after its end was told"));
                }
            }
            Fact::Ended { agent, container, .. } => {
                self.running.remove(&(*agent, (*container).clone()));
            }
            Fact::Rebooted { agent } => self.running.retain(|(of, _), _| of != agent),
            Fact::Hears { honest: true, id: Some(id), event, .. } => {
                let Some(update) = &event.update else { return Ok(()) };
                let status = &update.status;
                let told = status.uuid.is_none() && is_terminal(status.state());
                if told && is_final(status.reason()) {
                    let key = (id.to_string(), status.task_id.value.clone());
                    if self.running.values().any(|running| *running == key) {
                        let state = status.state().as_str_name();
                        return Err(format!("task {key:?} runs but is told to be {state}"));
                    }
                    self.over.insert(key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&self, world: &World) -> Result<(), String> {
        for (number, framework) in world.frameworks.iter().enumerate() {
            let living = framework.tasks.iter().find(|(_, task)| {
                let unreachable = task.state == TaskState::TaskUnreachable;
                !(task.over || unreachable && world.is_abandoned(&task.agent))
            });
            if let Some((id, task)) = living {
                let state = task.state.as_str_name();
                return Err(format!("framework {number} hears no end of task {id}: {state}"));
            }
            if !framework.subscribed && !framework.gone {
                return Err(format!("framework {number} is not subscribed"));
            }
        }
        let mut placements = world.log.registry.placements.iter();
        if let Some((key, _)) = placements.find(|(_, at)| !world.is_abandoned(&at.agent_id)) {
            return Err(format!("the log still places task {key:?}"));
        }
        for (number, agent) in world.agents.iter().enumerate() {
            if let Some((key, _)) = agent.store.written.tasks.first_key_value() {
                return Err(format!("agent {number} still has a record of task {key:?}"));
            }
            if let Some((id, _)) = agent.store.written.containers.first_key_value() {
                return Err(format!("agent {number} still has a record of container {id}"));
            }
            if let Some((id, container)) = agent.host.containers.first_key_value() {
                let key = &container.key;
                return Err(format!("host {number} still has container {id} of {key:?}"));
            }
        }
        Ok(())
    }
}
