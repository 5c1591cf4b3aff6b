//! `persist-before-promise`: what is told to others is written down by then, so that no crash takes
//! it back.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_agent_core::Change;
use mezzo_master_core::Registry;
use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::storage::v1::framework_record;
use mezzo_proto::v1;
use mezzo_types::{AgentId, FrameworkId, TaskId, is_terminal};
use prost::Message;

use super::Invariant;
use crate::fact::{Fact, TaskKey};
use crate::store::Records;

#[derive(Default)]
pub(super) struct PersistBeforePromise {
    /// Endings that a framework acknowledged, by uuid.
    terminal: BTreeMap<Vec<u8>, TaskKey>,
    /// Under which id each agent was registered last.
    ids: BTreeMap<usize, String>,
    /// Updates that were written down; they may be acknowledged, or forsaken, before they leave.
    recorded: BTreeSet<Vec<u8>>,
    /// Agents that left and did not launch anything as members since.
    leaving: BTreeSet<usize>,
}

impl PersistBeforePromise {
    fn ordered(
        &mut self,
        agent: usize,
        message: &ToAgent,
        registry: &Registry,
    ) -> Result<(), String> {
        match message {
            ToAgent::Registered(registered) => {
                let id = AgentId::from(registered.agent_id.as_str());
                self.ids.insert(agent, id.to_string());
                match registry.agents.contains_key(&id) {
                    true => Ok(()),
                    false => {
                        Err(format!("agent {id} is told it is registered; the log knows none"))
                    }
                }
            }
            ToAgent::RunTask(run) => {
                let owner = run.framework_info.as_ref().and_then(|info| info.id.as_ref());
                let framework = FrameworkId::from(owner.map_or("", |id| id.value.as_str()));
                let info = v1::TaskInfo::decode(run.task_info.as_ref()).unwrap_or_default();
                let key = (framework, TaskId::from(&info.task_id));
                // A framework that was removed meanwhile has taken its placements along.
                let removed = registry.frameworks.get(&key.0).is_none_or(|framework| {
                    framework.state() == framework_record::State::Completed
                });
                let position = run.position.unwrap_or_default();
                let placed = registry.placements.get(&key).is_some_and(|placement| {
                    (placement.launch_term, placement.launch_sequence)
                        == (position.term, position.sequence)
                });
                match placed || removed {
                    true => Ok(()),
                    false => Err(format!("task {key:?} is launched; the log does not place it")),
                }
            }
            ToAgent::Acknowledge(acknowledge) => {
                let Some(key) = self.terminal.get(acknowledge.uuid.as_ref()) else { return Ok(()) };
                let key = (FrameworkId::from(key.0.as_str()), TaskId::from(key.1.as_str()));
                // Elsewhere there may be another task of the same id.
                let own = self.ids.get(&agent);
                let placed = registry.placements.get(&key);
                match placed.is_some_and(|placement| Some(&placement.agent_id) == own) {
                    false => Ok(()),
                    true => Err(format!(
                        "the agent may forget task {key:?}, which the log still places"
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

fn reports(
    message: &ToMaster,
    written: &Records,
    recorded: &BTreeSet<Vec<u8>>,
) -> Result<(), String> {
    match message {
        ToMaster::Register(register) => {
            let last = register.last_launch.unwrap_or_default();
            if last != written.last_launch {
                let known = written.last_launch;
                return Err(format!("launch {last:?} is told of; the records know {known:?}"));
            }
            let known = written.identity.as_ref();
            let highest = known.map_or(0, |identity| identity.highest_term);
            if register.highest_term != highest {
                let told = register.highest_term;
                return Err(format!("term {told} is told of; the records know {highest}"));
            }
            for task in &register.tasks {
                let info = v1::TaskInfo::decode(task.task_info.as_ref()).unwrap_or_default();
                let key = (task.framework_id.clone(), info.task_id.value);
                let record = written.tasks.get(&key);
                // It may have waited for the agent's new description to be on the disk, and the task have
                // gone on meanwhile, of which an update tells.
                let told = task.latest.as_ref();
                let was = told.is_some_and(|status| recorded.contains(status.uuid()));
                if record.is_none_or(|record| record.latest != task.latest && !was) {
                    return Err(format!("task {key:?} is told of otherwise than the records do"));
                }
            }
            Ok(())
        }
        ToMaster::StatusUpdate(update) => {
            let Some(status) = &update.status else { return Ok(()) };
            let key = (update.framework_id.clone(), status.task_id.value.clone());
            // Only a kill of an unknown task is answered with an update that was never written down.
            let answer = status.reason() == v1::task_status::Reason::ExecutorTerminated
                && status.container_status.is_none();
            match answer || recorded.contains(status.uuid()) {
                true => Ok(()),
                false => Err(format!("an update of task {key:?} is sent and not written down")),
            }
        }
        _ => Ok(()),
    }
}

impl Invariant for PersistBeforePromise {
    fn name(&self) -> &'static str {
        "persist-before-promise"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Ordered { agent, message, registry, .. } => {
                self.ordered(*agent, message, registry)
            }
            Fact::Told { event, registry, deposed, .. } => {
                // What it offers may have left by its successor's word. Nothing comes of it: it cannot append what accepts it.
                let offers = event.offers.iter().filter(|_| !deposed);
                for offer in offers.flat_map(|offers| &offers.offers) {
                    let id = AgentId::from(&offer.agent_id);
                    if !registry.agents.contains_key(&id) {
                        return Err(format!("agent {id} is offered; the log does not know it"));
                    }
                }
                let Some(subscribed) = &event.subscribed else { return Ok(()) };
                let id = FrameworkId::from(&subscribed.framework_id);
                match registry.frameworks.contains_key(&id) {
                    true => Ok(()),
                    false => Err(format!("framework {id} is subscribed; the log does not know it")),
                }
            }
            Fact::Hears { id: Some(id), event, .. } => {
                let Some(update) = &event.update else { return Ok(()) };
                if let (Some(uuid), true) =
                    (&update.status.uuid, is_terminal(update.status.state()))
                {
                    let key = (id.to_string(), update.status.task_id.value.clone());
                    self.terminal.insert(uuid.to_vec(), key);
                }
                Ok(())
            }
            Fact::Recorded { change: Change::PutTask(_, _, record), .. } => {
                let uuids = record.updates.iter().map(|status| status.uuid().to_vec());
                self.recorded.extend(uuids);
                Ok(())
            }
            Fact::Reports { agent, message, written } => {
                // What it said of itself may be on its way when it forgets that, for good.
                let registers = matches!(message, ToMaster::Register(_));
                match registers && self.leaving.contains(agent) {
                    true => Ok(()),
                    false => reports(message, written, &self.recorded),
                }
            }
            Fact::Leaves { agent } => {
                self.leaving.insert(*agent);
                Ok(())
            }
            Fact::Launches { agent, launch, written, flushed } => {
                let key = (launch.framework_id.to_string(), launch.executor_id.to_string());
                let task = written.tasks.get(&key).map(|record| record.container_id.as_str());
                let container = launch.container.as_str();
                if task != Some(container) || !written.containers.contains_key(container) {
                    return Err(format!("task {key:?} is launched and not written down"));
                }
                match &flushed.identity {
                    Some(_) => {
                        self.leaving.remove(agent);
                        Ok(())
                    }
                    // Ordered before it left; its end is ordered next, and a crash leaves a stranger.
                    None if self.leaving.contains(agent) => Ok(()),
                    None => Err(format!("{key:?} is launched by an agent whose id is not on disk")),
                }
            }
            _ => Ok(()),
        }
    }
}
