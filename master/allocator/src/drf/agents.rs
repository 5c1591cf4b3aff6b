//! What each agent has, who holds it, what is left.

use std::collections::BTreeMap;

use mezzo_types::{AgentId, Conversion, ConversionError, Quantities, ResourceName, Resources};

use super::roles::NodeId;
use crate::AgentOptions;

/// An agent, numbered in the order of arrival; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgentNo(pub(super) u64);

impl AgentNo {
    pub(super) const FIRST: AgentNo = AgentNo(0);
    pub(super) const LAST: AgentNo = AgentNo(u64::MAX);
}

/// One agent's books. No resource in them carries an allocation role.
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) options: AgentOptions,
    /// Deactivated agents keep their books but are not offered.
    pub(super) active: bool,
    pub(super) has_gpus: bool,
    total: Resources,
    held: BTreeMap<NodeId, Resources>,
    /// The sum of `held`.
    used: Resources,
    /// Shared volumes that are in an offer.
    lent: Resources,
    /// `total` without `used`; of shared volumes, those that are not lent.
    left: Resources,
}

impl Agent {
    pub(super) fn new(id: AgentId, total: Resources, options: AgentOptions) -> Self {
        Agent {
            id,
            options,
            active: true,
            has_gpus: has_gpus(&total),
            left: total.clone(),
            total,
            held: BTreeMap::new(),
            used: Resources::default(),
            lent: Resources::default(),
        }
    }

    pub(super) fn total(&self) -> &Resources {
        &self.total
    }

    pub(super) fn left(&self) -> &Resources {
        &self.left
    }

    pub(super) fn used(&self) -> &Resources {
        &self.used
    }

    pub(super) fn held(&self) -> &BTreeMap<NodeId, Resources> {
        &self.held
    }

    pub(super) fn lent(&self) -> &Resources {
        &self.lent
    }

    pub(super) fn set_total(&mut self, total: Resources) {
        self.has_gpus = has_gpus(&total);
        self.total = total;
        self.recompute();
    }

    fn recompute(&mut self) {
        self.left = remainder(&self.total, &self.used, &self.lent);
    }

    /// What of these resources counts for the client's share beside what it holds: a shared volume
    /// counts once, however many of its tasks use it.
    pub(super) fn counted(&self, client: NodeId, resources: &Resources) -> Quantities {
        match self.held.get(&client) {
            Some(held) if resources.iter().any(|resource| resource.shared) => resources
                .filter(|resource| !resource.shared || held.copies(resource) == 0)
                .quantities(),
            _ => resources.quantities(),
        }
    }

    /// The shared volumes among the resources are in an offer now.
    pub(super) fn lend(&mut self, resources: &Resources) {
        let shared = resources.shared();
        if !shared.is_empty() {
            self.lent += shared;
            self.recompute();
        }
    }

    /// They are in none any more. Whether any were.
    pub(super) fn return_lent(&mut self, resources: &Resources) -> bool {
        let lent = self.lent.filter(|lent| !resources.contains_resource(lent));
        let any = lent != self.lent;
        if any {
            self.lent = lent;
            self.recompute();
        }
        any
    }

    /// Turns what the client holds, and the total with it, into something else.
    pub(super) fn convert_held(
        &mut self,
        client: NodeId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        let held = self.held.get(&client).cloned().unwrap_or_default();
        let converted = held.convert(steps)?;
        let total = self.total.convert(steps)?;
        let others = self.used.checked_sub(&held).unwrap_or_default();
        self.used = others + converted.clone();
        if converted.is_empty() {
            self.held.remove(&client);
        } else {
            self.held.insert(client, converted);
        }
        // A volume that came or went is lent to nobody else.
        self.lent = self.lent.filter(|lent| total.contains_resource(lent));
        self.set_total(total);
        Ok(())
    }

    /// Turns what is left, and the total with it, into something else.
    pub(super) fn convert_left(&mut self, steps: &[Conversion]) -> Result<(), ConversionError> {
        self.left.convert(steps)?;
        let total = self.total.convert(steps)?;
        self.set_total(total);
        Ok(())
    }

    /// Whether the client held nothing here before.
    pub(super) fn take(&mut self, client: NodeId, resources: &Resources) -> bool {
        let new = !self.held.contains_key(&client);
        *self.held.entry(client).or_default() += resources;
        self.used += resources;
        self.recompute();
        new
    }

    /// Breaks the books, for the test of their check.
    #[cfg(test)]
    pub(super) fn forge_left(&mut self, left: Resources) {
        self.left = left;
    }

    /// Whether the client holds nothing here any more; `None` when it does not hold all of that.
    pub(super) fn give_back(&mut self, client: NodeId, resources: &Resources) -> Option<bool> {
        let held = self.held.get_mut(&client)?;
        let rest = held.checked_sub(resources)?;
        let used = self.used.checked_sub(resources)?;
        let last = rest.is_empty();
        if last {
            self.held.remove(&client);
        } else {
            *held = rest;
        }
        self.used = used;
        self.recompute();
        Some(last)
    }
}

fn has_gpus(total: &Resources) -> bool {
    total.iter().any(|resource| resource.name == ResourceName::GPUS)
}

/// What is left of `total`. Of a resource of which more is used than there is, nothing is. A shared
/// volume can always be used once more, but is in one offer at a time.
fn remainder(total: &Resources, used: &Resources, lent: &Resources) -> Resources {
    if !total.iter().any(|resource| resource.shared) {
        return unused(total, used);
    }
    let shared = total.shared().filter(|volume| lent.copies(volume) == 0);
    unused(&total.non_shared(), &used.non_shared()) + shared
}

fn unused(total: &Resources, used: &Resources) -> Resources {
    if let Some(rest) = total.checked_sub(used) {
        return rest;
    }
    let mut rest = total.clone();
    for resource in used.iter() {
        rest = match rest.checked_sub(&Resources::from(resource.clone())) {
            Some(rest) => rest,
            None => rest.filter(|other| other.name != resource.name),
        };
    }
    rest
}
