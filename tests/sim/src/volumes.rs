//! The directories of persistent volumes on a simulated host.

use mezzo_agent_core::Input;
use mezzo_types::{ReservationKind, Resource, Resources, Uuid16};

use crate::fact::Fact;
use crate::world::{Happening, MS, World};

/// Where a volume's directory is: its role and its id.
pub(crate) fn place(volume: &Resource) -> (String, String) {
    let role = volume.reservation_role().unwrap_or_default().to_owned();
    (role, volume.persistence_id().unwrap_or_default().to_owned())
}

impl World {
    pub(crate) fn make_volumes(&mut self, number: usize, operation: Uuid16, volumes: &Resources) {
        let agent = &mut self.agents[number];
        let fails = agent.rng.chance(5);
        let mut outcome = Ok(());
        for volume in volumes.iter() {
            match agent.host.volumes.get(&place(volume)) {
                _ if fails => outcome = Err("no luck".to_owned()),
                Some(0) => {}
                Some(_) => outcome = Err("somebody's data is in the way".to_owned()),
                None => {
                    agent.host.volumes.insert(place(volume), 0);
                }
            }
        }
        let (starts, delay) = (agent.starts, agent.rng.skewed(MS / 10, 50 * MS));
        let made = Happening::VolumesMade { agent: number, starts, operation, outcome };
        self.queue.push(self.now_ns + delay, made);
    }

    pub(crate) fn volumes_made(
        &mut self,
        number: usize,
        starts: u64,
        operation: Uuid16,
        outcome: Result<(), String>,
    ) {
        if self.agents[number].starts == starts {
            self.agent_input(number, Input::VolumesMade { operation, outcome });
        }
    }

    pub(crate) fn remove_volumes(&mut self, number: usize, volumes: &Resources) {
        for volume in volumes.iter() {
            let agent = &mut self.agents[number];
            if agent.host.volumes.remove(&place(volume)).is_some() {
                let flushed = agent.store.flushed();
                self.watch.see(&Fact::Removes { agent: number, volume, flushed });
            }
        }
    }

    /// A task that uses a volume finds it, with all that was written to it.
    pub(crate) fn write_to_volumes(&mut self, number: usize, resources: &Resources) {
        for volume in resources.persistent_volumes().iter() {
            if !is_made_by_operation(volume) {
                continue;
            }
            let found = self.agents[number].host.volumes.get_mut(&place(volume));
            let found = found.map(|writes| {
                *writes += 1;
                *writes
            });
            self.watch.see(&Fact::Writes { agent: number, volume, found });
        }
    }
}

/// Others are part of a machine's configuration and have no directory that was made.
fn is_made_by_operation(volume: &Resource) -> bool {
    volume.reservations.iter().any(|level| level.kind == ReservationKind::Dynamic)
}
