//! What each agent has, who holds it, what is left.

use std::collections::BTreeMap;

use mezzo_types::{AgentId, ResourceName, Resources};

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
    /// `total` without `used`.
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

    pub(super) fn set_total(&mut self, total: Resources) {
        self.has_gpus = has_gpus(&total);
        self.total = total;
        self.left = remainder(&self.total, &self.used);
    }

    /// Whether the client held nothing here before.
    pub(super) fn take(&mut self, client: NodeId, resources: &Resources) -> bool {
        let new = !self.held.contains_key(&client);
        *self.held.entry(client).or_default() += resources;
        self.used += resources;
        self.left = remainder(&self.total, &self.used);
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
        self.left = remainder(&self.total, &self.used);
        Some(last)
    }
}

fn has_gpus(total: &Resources) -> bool {
    total.iter().any(|resource| resource.name == ResourceName::GPUS)
}

/// What is left of `total`. Of a resource of which more is used than there is, nothing is.
fn remainder(total: &Resources, used: &Resources) -> Resources {
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
