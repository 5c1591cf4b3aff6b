//! What all agents have together and what of it is taken, as numbers that are always up to date.

use std::collections::BTreeMap;

use mezzo_types::{Quantities, Resource, Resources, Value};
use prost::Message;

use super::role::Way;

/// Scalars of many things added up. Whatever may be taken back at any time is apart, as in Mesos' metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) firm: Quantities,
    pub(crate) revocable: Quantities,
}

/// Numbers of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Of the agents that are registered, disconnected ones included.
    pub(crate) total: Amounts,
    /// By tasks and executors.
    pub(crate) used: Amounts,
    /// By offers that are out.
    pub(crate) offered: Amounts,
}

/// The sums while things come and go: [`Totals`], and what it takes to keep them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) totals: Totals,
    /// How often each shared volume is used, by its encoding: it takes its space once.
    used_shared: BTreeMap<Vec<u8>, u32>,
}

impl Sums {
    pub(super) fn total(&mut self, resources: &Resources, way: Way) {
        self.totals.total.change(resources.iter(), way);
    }

    pub(super) fn offered(&mut self, resources: &Resources, way: Way) {
        self.totals.offered.change(resources.iter(), way);
    }

    pub(super) fn used(&mut self, resources: &Resources, way: Way) {
        let shared = &mut self.used_shared;
        let counts = resources.iter().filter(|r| !r.shared || is_first_or_last(shared, r, way));
        self.totals.used.change(counts, way);
    }
}

/// Notes one more user of the volume, or one less. Whether it is the first that comes, or the last that goes.
fn is_first_or_last(users: &mut BTreeMap<Vec<u8>, u32>, volume: &Resource, way: Way) -> bool {
    let key = volume.to_proto().encode_to_vec();
    match way {
        Way::Add => {
            let users = users.entry(key).or_default();
            *users += 1;
            *users == 1
        }
        Way::Subtract => match users.get_mut(&key) {
            Some(1) => users.remove(&key).is_some(),
            Some(more) => {
                *more -= 1;
                false
            }
            None => false,
        },
    }
}

impl Amounts {
    fn change<'a>(&mut self, resources: impl Iterator<Item = &'a Resource>, way: Way) {
        for resource in resources {
            let Value::Scalar(amount) = &resource.value else { continue };
            let sum = if resource.revocable { &mut self.revocable } else { &mut self.firm };
            match way {
                Way::Add => sum.add(&resource.name, *amount),
                Way::Subtract => sum.subtract(&resource.name, *amount),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Resources {
        Resources::parse(text, "*").expect("resources")
    }

    #[test]
    fn what_goes_leaves_nothing_behind() {
        let mut sums = Sums::default();
        let (agent, task) = (parse("cpus:8;mem:64;ports:[1-9]"), parse("cpus:0.1;ports:[1-1]"));
        let mut revocable: Resource = agent.iter().next().expect("one").clone();
        revocable.revocable = true;
        let volume =
            Resource { shared: true, ..parse("disk:5").iter().next().expect("one").clone() };
        for way in [Way::Add, Way::Subtract] {
            sums.total(&agent, way);
            sums.total(&revocable.clone().into(), way);
            for _ in 0..3 {
                sums.used(&(task.clone() + volume.clone().into()), way);
            }
            sums.offered(&parse("mem:32"), way);
            if way == Way::Add {
                let Totals { total, used, offered } = &sums.totals;
                assert_eq!(total.firm.to_string(), "cpus:8; mem:64");
                assert_eq!(total.revocable.to_string(), "cpus:8");
                // The volume is one, whoever uses it.
                assert_eq!(used.firm.to_string(), "cpus:0.3; disk:5");
                assert_eq!(offered.firm.to_string(), "mem:32");
            }
        }
        assert_eq!(sums.totals, Totals::default());
        assert!(sums.used_shared.is_empty());
    }
}
