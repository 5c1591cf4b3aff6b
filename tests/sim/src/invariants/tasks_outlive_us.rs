//! `tasks-outlive-us`: agent, launcher, master and framework may die and return; tasks go on.
//!
//! Nothing signals or destroys a running command without a reason that came from outside: somebody
//! ordered the kill, the framework was removed, a limit was met, the time was over, the agent leaves.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::storage::v1::framework_record;
use mezzo_types::ContainerId;

use super::Invariant;
use crate::fact::{Fact, TaskKey};

#[derive(Default)]
pub(super) struct TasksOutliveUs {
    /// Tasks that a framework or an operator wants ended.
    wanted: BTreeSet<TaskKey>,
    completed: BTreeSet<String>,
    /// Tasks that an agent was told to end.
    ordered: BTreeSet<(usize, TaskKey)>,
    shut_down: BTreeSet<(usize, String)>,
    /// Containers that may be ended for what they did themselves.
    doomed: BTreeSet<(usize, ContainerId)>,
    /// Containers whose task has a limited time.
    timed: BTreeMap<(usize, ContainerId), ()>,
    leaving: BTreeSet<usize>,
}

impl Invariant for TasksOutliveUs {
    fn name(&self) -> &'static str {
        "tasks-outlive-us"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Calls { id: Some(id), call, .. } => {
                let task = call.kill.as_ref().map(|kill| kill.task_id.value.clone());
                self.wanted.extend(task.map(|task| (id.to_string(), task)));
            }
            Fact::OperatorKills { key } => {
                self.wanted.insert(key.clone());
            }
            Fact::Committed { command, .. } => {
                let Some(Kind::PutFramework(put)) = &command.command else { return Ok(()) };
                let framework = put.framework.clone().unwrap_or_default();
                let id = framework.info.as_ref().and_then(|info| info.id.as_ref());
                if framework.state() == framework_record::State::Completed {
                    self.completed.extend(id.map(|id| id.value.clone()));
                }
            }
            Fact::Obeys { agent, message: ToAgent::KillTask(kill) } => {
                let key = (kill.framework_id.clone(), kill.task_id.clone());
                if !self.wanted.contains(&key) {
                    return Err(format!("agent {agent} is to kill {key:?}, which nobody wants"));
                }
                self.ordered.insert((*agent, key));
            }
            Fact::Obeys { agent, message: ToAgent::ShutdownFramework(shutdown) } => {
                let id = shutdown.framework_id.clone();
                if !self.completed.contains(&id) {
                    return Err(format!("agent {agent} is to end all of {id}, which lives"));
                }
                self.shut_down.insert((*agent, id));
            }
            Fact::Limited { agent, container } => {
                self.doomed.insert((*agent, (*container).clone()));
            }
            Fact::Launches { agent, launch, .. } if timed(launch) => {
                self.timed.insert((*agent, launch.container.clone()), ());
            }
            Fact::Leaves { agent } => {
                self.leaving.insert(*agent);
            }
            Fact::Ends { agent, container, key, runs: true } => {
                let own = (*agent, (*container).clone());
                let may = self.ordered.contains(&(*agent, (*key).clone()))
                    || self.shut_down.contains(&(*agent, key.0.clone()))
                    || self.doomed.contains(&own)
                    || self.timed.contains_key(&own)
                    || self.leaving.contains(agent);
                if !may {
                    return Err(format!("agent {agent} ends the running {key:?} of itself"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the agent ends it by itself when its time is over.
fn timed(launch: &mezzo_agent_core::Launch) -> bool {
    match &launch.workload {
        mezzo_agent_core::Workload::Task(task) => task.max_completion_time.is_some(),
        mezzo_agent_core::Workload::Executor(_) => false,
    }
}
