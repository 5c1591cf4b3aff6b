//! `updates-in-order`: status updates arrive at least once, in order, and are forgotten only after the
//! framework acknowledged them.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_agent_core::Change;
use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::storage::v1::framework_record;
use mezzo_types::{Uuid16, is_terminal};

use super::Invariant;
use crate::fact::{Fact, TaskKey};

/// One launch of a task on one agent makes one sequence of updates.
type Launch = (usize, TaskKey, String);

#[derive(Debug)]
struct Made {
    /// The one before in the sequence.
    before: Option<Uuid16>,
    terminal: bool,
}

#[derive(Default)]
pub(super) struct UpdatesInOrder {
    made: BTreeMap<Uuid16, Made>,
    /// The newest of each sequence.
    newest: BTreeMap<Launch, Uuid16>,
    /// Answers to kills of unknown tasks: told once, in no sequence.
    answers: BTreeSet<Uuid16>,
    acknowledged: BTreeSet<Uuid16>,
    /// Frameworks that were removed; nobody waits for what their tasks do.
    completed: BTreeSet<String>,
}

fn uuid(bytes: Option<&bytes::Bytes>) -> Option<Uuid16> {
    bytes.and_then(|bytes| Uuid16::from_slice(bytes))
}

impl UpdatesInOrder {
    fn record(&mut self, agent: usize, change: &Change) -> Result<(), String> {
        let Change::PutTask(framework, task, record) = change else { return Ok(()) };
        let key = (framework.to_string(), task.to_string());
        let launch = (agent, key, record.container_id.clone());
        for status in &record.updates {
            let Some(id) = uuid(status.uuid.as_ref()) else { continue };
            if self.made.contains_key(&id) {
                continue;
            }
            // A launch that was turned down has one update and no container to know it by.
            let before = match record.container_id.is_empty() {
                true => None,
                false => self.newest.insert(launch.clone(), id),
            };
            let ended = before.and_then(|before| self.made.get(&before));
            if ended.is_some_and(|before| before.terminal) {
                return Err(format!("task {:?} has an update after its end", launch.1));
            }
            let terminal = is_terminal(status.state());
            self.made.insert(id, Made { before, terminal });
        }
        Ok(())
    }

    fn arrives(&self, id: Uuid16, task: &str) -> Result<(), String> {
        if self.answers.contains(&id) {
            return Ok(());
        }
        let Some(made) = self.made.get(&id) else {
            return Err(format!("update {id} of task {task} was made by no agent"));
        };
        match made.before {
            Some(before) if !self.acknowledged.contains(&before) => {
                Err(format!("update {id} of task {task} arrives before {before} was acknowledged"))
            }
            _ => Ok(()),
        }
    }
}

impl Invariant for UpdatesInOrder {
    fn name(&self) -> &'static str {
        "updates-in-order"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Recorded { agent, change } => return self.record(*agent, change),
            Fact::Reports { message: ToMaster::StatusUpdate(update), .. } => {
                let status = update.status.as_ref();
                let id = status.and_then(|status| uuid(status.uuid.as_ref()));
                let id = id.filter(|id| !self.made.contains_key(id));
                if let Some(id) = id {
                    self.answers.insert(id);
                }
            }
            Fact::Hears { event, .. } => {
                let Some(update) = &event.update else { return Ok(()) };
                if let Some(id) = uuid(update.status.uuid.as_ref()) {
                    return self.arrives(id, &update.status.task_id.value);
                }
            }
            Fact::Calls { call, .. } => {
                let acknowledge = call.acknowledge.as_ref();
                let id = acknowledge.and_then(|call| Uuid16::from_slice(&call.uuid));
                self.acknowledged.extend(id);
            }
            Fact::Committed { command, .. } => {
                let Some(Kind::PutFramework(put)) = &command.command else { return Ok(()) };
                let framework = put.framework.clone().unwrap_or_default();
                let id = framework.info.as_ref().and_then(|info| info.id.as_ref());
                if framework.state() == framework_record::State::Completed {
                    self.completed.extend(id.map(|id| id.value.clone()));
                }
            }
            Fact::Obeys { message: ToAgent::Acknowledge(message), .. } => {
                let Some(id) = Uuid16::from_slice(&message.uuid) else { return Ok(()) };
                let forsaken = self.completed.contains(&message.framework_id);
                if !self.acknowledged.contains(&id) && !forsaken {
                    let task = &message.task_id;
                    return Err(format!(
                        "an agent may forget update {id} of task {task}, which its framework did \
                         not acknowledge"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
