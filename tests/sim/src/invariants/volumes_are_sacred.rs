//! `volumes-are-sacred`: a persistent volume's data goes only by an explicit destroy; it is never
//! offered to another role.
//!
//! Books of its own: which volumes machines brought along, which the log says that somebody asked for,
//! which it says that somebody asked to destroy, and how often tasks wrote to each.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::storage::v1::{OperationPlacement, agent_record};
use mezzo_proto::v1;
use mezzo_types::{Resource, ResourceOperation, Resources, is_same_or_subrole};

use super::Invariant;
use crate::fact::Fact;
use crate::store::Records;
use crate::volumes::place;

/// Role and persistence id.
type Place = (String, String);

#[derive(Default)]
pub(super) struct VolumesAreSacred {
    /// The volumes that each agent brought, as it described them first.
    volumes: BTreeMap<String, Resources>,
    /// Those that somebody asked for, by agent.
    made: BTreeMap<String, Vec<Resource>>,
    /// Those that somebody asked to destroy, by agent.
    destroyed: BTreeSet<(String, Place)>,
    /// How often tasks wrote to the volume, by the machine's number.
    writes: BTreeMap<(usize, Place), u64>,
}

fn volumes(resources: &[v1::Resource]) -> Resources {
    let all = Resources::from_proto(resources).unwrap_or_default();
    all.unallocated().persistent_volumes()
}

impl VolumesAreSacred {
    fn offered(&self, offer: &v1::Offer) -> Result<(), String> {
        let role = offer.allocation_info.as_ref().and_then(|info| info.role.as_deref());
        let role = role.unwrap_or("*");
        for resource in &offer.resources {
            let owner = resource.reservations.last().and_then(|r| r.role.as_deref());
            if owner.is_some_and(|owner| !is_same_or_subrole(role, owner)) {
                let name = &resource.name;
                return Err(format!("{name} reserved to {owner:?} is offered to {role}"));
            }
        }
        let agent = &offer.agent_id.value;
        let brought = self.volumes.get(agent).cloned().unwrap_or_default();
        for volume in volumes(&offer.resources).iter() {
            let made = self.made.get(agent).is_some_and(|made| made.contains(volume));
            if !made && !brought.contains_resource(volume) {
                return Err(format!("of agent {agent} {volume} is offered, which nobody made"));
            }
        }
        Ok(())
    }

    fn ordered(&mut self, placement: &OperationPlacement) {
        let Some(info) = &placement.info else { return };
        let Ok(operation) = ResourceOperation::from_proto(info) else { return };
        let operation = operation.unallocated();
        let agent = &placement.agent_id;
        let made = self.made.entry(agent.clone()).or_default();
        made.extend(operation.converted().persistent_volumes().iter().cloned());
        if let ResourceOperation::Destroy { volumes } = &operation {
            self.destroyed.extend(volumes.iter().map(|volume| (agent.clone(), place(volume))));
        }
    }

    fn removes(
        &mut self,
        agent: usize,
        volume: &Resource,
        flushed: &Records,
    ) -> Result<(), String> {
        let total = flushed.resources.as_ref().map(|record| volumes(&record.total));
        if total.is_some_and(|total| total.iter().any(|there| place(there) == place(volume))) {
            return Err(format!("host {agent} loses {volume}, which the disk says that it has"));
        }
        let asked = self.destroyed.iter().any(|(_, destroyed)| *destroyed == place(volume));
        if !asked {
            return Err(format!("host {agent} loses {volume}, which nobody destroyed"));
        }
        self.writes.remove(&(agent, place(volume)));
        Ok(())
    }

    fn writes(
        &mut self,
        agent: usize,
        volume: &Resource,
        found: Option<u64>,
    ) -> Result<(), String> {
        let writes = self.writes.entry((agent, place(volume))).or_default();
        *writes += 1;
        match found {
            Some(found) if found == *writes => Ok(()),
            Some(found) => Err(format!(
                "{volume} of host {agent} was written {writes} times, {found} of them are there"
            )),
            None => Err(format!("a task uses {volume} of host {agent}, which is not there")),
        }
    }
}

impl Invariant for VolumesAreSacred {
    fn name(&self) -> &'static str {
        "volumes-are-sacred"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Committed { command, .. } => match &command.command {
                Some(Kind::PutAgent(put)) => {
                    let agent = put.agent.clone().unwrap_or_default();
                    // Its id only is remembered, to bar it.
                    if agent.state() == agent_record::State::Gone {
                        return Ok(());
                    }
                    let info = agent.info.unwrap_or_default();
                    let id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
                    let now = volumes(&info.resources);
                    // A host keeps its volumes when it joins anew.
                    let total = volumes(&agent.total_resources);
                    self.made.entry(id.clone()).or_default().extend(total.iter().cloned());
                    let before = self.volumes.entry(id.clone()).or_insert_with(|| now.clone());
                    if now != *before {
                        return Err(format!("agent {id} had {before}, has {now}"));
                    }
                }
                Some(Kind::PutOperations(put)) => {
                    put.operations.iter().for_each(|placement| self.ordered(placement));
                }
                _ => {}
            },
            Fact::Removes { agent, volume, flushed } => {
                return self.removes(*agent, volume, flushed);
            }
            Fact::Writes { agent, volume, found } => return self.writes(*agent, volume, *found),
            // What frameworks are told, not what a master thinks: one that was deposed may still hand out an
            // agent id that the log has given to another agent, and tells nobody.
            Fact::Told { event, .. } => {
                for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                    self.offered(offer)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
