//! `limits-hold`: a task cannot exceed its limits, nor use what it was not given.
//!
//! Without a kernel that means: what runs on a host never adds up to more than it has, and no task is
//! reported over while its command runs. (Tasks of a framework that was removed are on their way out;
//! their resources count as free from then on, as with Mesos.)

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::storage::v1::framework_record;
use mezzo_types::{ContainerId, Resources, is_terminal};

use super::Invariant;
use crate::fact::{Fact, TaskKey};

#[derive(Default)]
pub(super) struct LimitsHold {
    totals: BTreeMap<usize, Resources>,
    running: BTreeMap<usize, BTreeMap<ContainerId, (TaskKey, Resources)>>,
    completed: BTreeSet<String>,
}

impl LimitsHold {
    fn check(&self, agent: usize) -> Result<(), String> {
        let mut used = Resources::default();
        for (key, resources) in self.running.get(&agent).into_iter().flat_map(|all| all.values()) {
            if !self.completed.contains(&key.0) {
                used += &resources.unallocated();
            }
        }
        let total = self.totals.get(&agent).cloned().unwrap_or_default();
        // Operations reserve some of it meanwhile, which changes no amount.
        let amounts = total.quantities().contains(&used.quantities());
        match amounts && total.ports().contains(&used.ports()) {
            true => Ok(()),
            false => Err(format!("host {agent} has {total}, but {used} is in use")),
        }
    }
}

impl Invariant for LimitsHold {
    fn name(&self) -> &'static str {
        "limits-hold"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Reports { agent, message: ToMaster::Register(register), .. } => {
                let info = register.agent_info.clone().unwrap_or_default();
                let total = Resources::from_proto(&info.resources).unwrap_or_default();
                self.totals.insert(*agent, total.unallocated());
            }
            Fact::Committed { command, .. } => {
                let Some(Kind::PutFramework(put)) = &command.command else { return Ok(()) };
                let framework = put.framework.clone().unwrap_or_default();
                let id = framework.info.as_ref().and_then(|info| info.id.as_ref());
                if framework.state() == framework_record::State::Completed {
                    self.completed.extend(id.map(|id| id.value.clone()));
                }
            }
            Fact::Began { agent, container, key, resources } => {
                let of = self.running.entry(*agent).or_default();
                of.insert((*container).clone(), ((*key).clone(), (*resources).clone()));
                return self.check(*agent);
            }
            Fact::Ended { agent, container, .. } => {
                if let Some(of) = self.running.get_mut(agent) {
                    of.remove(*container);
                }
            }
            Fact::Rebooted { agent } => {
                self.running.remove(agent);
            }
            Fact::Reports { agent, message: ToMaster::StatusUpdate(update), .. } => {
                let Some(status) = &update.status else { return Ok(()) };
                let id = status.container_status.as_ref().and_then(|c| c.container_id.as_ref());
                let id = id.map(ContainerId::from).filter(|_| is_terminal(status.state()));
                let running = id.is_some_and(|id| {
                    self.running.get(agent).is_some_and(|of| of.contains_key(&id))
                });
                if running {
                    let (task, state) = (&status.task_id.value, status.state().as_str_name());
                    return Err(format!("task {task} is reported {state} while it runs"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
