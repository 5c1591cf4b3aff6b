//! Who has which GPU.
//!
//! A GPU is its holder's until that is gone with all its processes. The master takes a task's resources for free as soon as it
//! hears of its end, which is a little earlier: a GPU may be promised to the next container while the last one is being
//! destroyed. That one then waits for it.

use std::collections::{BTreeSet, VecDeque};

use mezzo_types::ContainerId;

/// A container asks for more GPUs than are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} GPUs are wanted, but only {free} of {all} are free")]
pub struct TooFew {
    pub wanted: usize,
    pub free: usize,
    pub all: usize,
}

/// One GPU.
#[derive(Debug)]
struct Slot {
    id: String,
    /// Those that a record names but the machine has not, or not any more, are given to nobody.
    given_out: bool,
    /// The first has it, the others wait for it.
    containers: VecDeque<ContainerId>,
}

/// GPUs and containers.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    slots: Vec<Slot>,
    /// Holders that are being destroyed.
    ending: BTreeSet<ContainerId>,
}

impl Holdings {
    /// All free. They are given out in this order.
    pub(super) fn new(ids: impl IntoIterator<Item = String>) -> Self {
        let slot = |id| Slot { id, given_out: true, containers: VecDeque::new() };
        Holdings { slots: ids.into_iter().map(slot).collect(), ending: BTreeSet::new() }
    }

    /// Gives a container `wanted` GPUs, or none. One that has some keeps exactly those.
    pub(super) fn assign(
        &mut self,
        container: &ContainerId,
        wanted: usize,
    ) -> Result<Vec<String>, TooFew> {
        let held = self.of(container);
        if wanted == 0 || !held.is_empty() {
            return Ok(held);
        }
        let ending = &self.ending;
        let all = self.slots.iter().filter(|slot| slot.given_out).count();
        let mut free: Vec<&mut Slot> = self
            .slots
            .iter_mut()
            .filter(|slot| slot.given_out)
            .filter(|slot| slot.containers.iter().all(|other| ending.contains(other)))
            .collect();
        if free.len() < wanted {
            return Err(TooFew { wanted, free: free.len(), all });
        }
        // Stable: among those that are as free as others, the first.
        free.sort_by_key(|slot| slot.containers.len());
        let mut given: Vec<&mut Slot> = free.into_iter().take(wanted).collect();
        given.iter_mut().for_each(|slot| slot.containers.push_back(container.clone()));
        Ok(self.of(container))
    }

    /// Gives a container that runs GPUs beside those that it has, up to `wanted`; or takes those from it that it was
    /// given last.
    pub(super) fn resize(
        &mut self,
        container: &ContainerId,
        wanted: usize,
    ) -> Result<Vec<String>, TooFew> {
        let held = self.of(container);
        if wanted < held.len() {
            let last: Vec<String> = held.iter().skip(wanted).cloned().collect();
            for slot in self.slots.iter_mut().filter(|slot| last.contains(&slot.id)) {
                slot.containers.retain(|other| other != container);
            }
            return Ok(self.of(container));
        }
        // Only what nobody has at all: a container that runs cannot wait for another's end.
        let missing = wanted - held.len();
        let all = self.slots.iter().filter(|slot| slot.given_out).count();
        let empty = |slot: &&mut Slot| slot.given_out && slot.containers.is_empty();
        let mut free: Vec<&mut Slot> = self.slots.iter_mut().filter(empty).collect();
        if free.len() < missing {
            return Err(TooFew { wanted: missing, free: free.len(), all });
        }
        for slot in free.iter_mut().take(missing) {
            slot.containers.push_back(container.clone());
        }
        Ok(self.of(container))
    }

    /// Takes up what a record says. `started`: a process of the container may be there, so it comes before those that wait.
    pub(super) fn recover(&mut self, container: &ContainerId, ids: &[String], started: bool) {
        for id in ids {
            let known = self.slots.iter().position(|slot| slot.id == *id);
            let at = known.unwrap_or_else(|| {
                let containers = VecDeque::new();
                self.slots.push(Slot { id: id.clone(), given_out: false, containers });
                self.slots.len() - 1
            });
            let containers = &mut self.slots[at].containers;
            match (containers.contains(container), started) {
                (true, _) => {}
                (false, true) => containers.push_front(container.clone()),
                (false, false) => containers.push_back(container.clone()),
            }
        }
    }

    /// What a container has or waits for, in the order in which they are given out.
    pub(super) fn of(&self, container: &ContainerId) -> Vec<String> {
        let has = |slot: &&Slot| slot.containers.contains(container);
        self.slots.iter().filter(has).map(|slot| slot.id.clone()).collect()
    }

    /// Whether a container waits for none of its GPUs.
    pub(super) fn has_all(&self, container: &ContainerId) -> bool {
        let mine = self.slots.iter().filter(|slot| slot.containers.contains(container));
        mine.into_iter().all(|slot| slot.containers.front() == Some(container))
    }

    /// The container is being destroyed: others may wait for what it has.
    pub(super) fn end(&mut self, container: &ContainerId) {
        if self.slots.iter().any(|slot| slot.containers.contains(container)) {
            self.ending.insert(container.clone());
        }
    }

    /// The container is gone. Whether it had any.
    pub(super) fn release(&mut self, container: &ContainerId) -> bool {
        self.ending.remove(container);
        let mut had = false;
        for slot in &mut self.slots {
            let before = slot.containers.len();
            slot.containers.retain(|other| other != container);
            had |= slot.containers.len() < before;
        }
        self.slots.retain(|slot| slot.given_out || !slot.containers.is_empty());
        had
    }
}
