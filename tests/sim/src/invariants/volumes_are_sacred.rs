//! `volumes-are-sacred`: a persistent volume's data goes only by an explicit destroy; it is never
//! offered to another role.
//!
//! The cores have no operations yet that make or destroy volumes; what applies of the invariant are
//! the walls: volumes and reservations that agents bring along stay what they were, and are offered to
//! their own role only.

use std::collections::BTreeMap;

use mezzo_proto::storage::v1::agent_record;
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::v1;
use mezzo_types::{Resources, is_same_or_subrole};

use super::Invariant;
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct VolumesAreSacred {
    /// The volumes that each agent brought, as it described them first.
    volumes: BTreeMap<String, Resources>,
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
        let offered = volumes(&offer.resources);
        let nothing = Resources::default();
        let known = self.volumes.get(agent).unwrap_or(&nothing);
        match known.contains(&offered) {
            true => Ok(()),
            false => Err(format!("of agent {agent} {offered} is offered, it has {known}")),
        }
    }
}

impl Invariant for VolumesAreSacred {
    fn name(&self) -> &'static str {
        "volumes-are-sacred"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Committed { command, .. } => {
                let Some(Kind::PutAgent(put)) = &command.command else { return Ok(()) };
                let agent = put.agent.clone().unwrap_or_default();
                // Its id only is remembered, to bar it.
                if agent.state() == agent_record::State::Gone {
                    return Ok(());
                }
                let info = agent.info.unwrap_or_default();
                let id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
                let now = volumes(&info.resources);
                let before = self.volumes.entry(id.clone()).or_insert_with(|| now.clone());
                if now != *before {
                    return Err(format!("agent {id} had {before}, has {now}"));
                }
            }
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
