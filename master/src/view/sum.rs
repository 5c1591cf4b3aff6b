//! Resources that many things hold, added up: things come and go, and the sum is right at any time.

use std::collections::BTreeMap;

use mezzo_types::{Resource, Resources, Value};
use prost::Message;

use super::role::Way;

/// A sum that can be taken apart again. Amounts are added; of whole things and of ports, which are the same on many
/// agents, it is counted how often each occurs.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    amounts: Resources,
    /// By the encoded resource.
    others: BTreeMap<Vec<u8>, (Resource, u32)>,
}

fn is_amount(resource: &Resource) -> bool {
    matches!(resource.value, Value::Scalar(_)) && resource.disk.is_none() && !resource.shared
}

impl Sum {
    pub(super) fn is_empty(&self) -> bool {
        self.amounts.is_empty() && self.others.is_empty()
    }

    pub(super) fn add(&mut self, resources: &Resources) {
        for resource in resources.iter() {
            if is_amount(resource) {
                self.amounts.insert(resource.clone());
                continue;
            }
            let key = resource.to_proto().encode_to_vec();
            self.others.entry(key).or_insert_with(|| (resource.clone(), 0)).1 += 1;
        }
    }

    /// Takes out what was added before; what was not is left alone.
    pub(super) fn subtract(&mut self, resources: &Resources) {
        let amounts = resources.filter(is_amount);
        if let Some(left) = self.amounts.checked_sub(&amounts) {
            self.amounts = left;
        }
        for resource in resources.iter().filter(|resource| !is_amount(resource)) {
            let key = resource.to_proto().encode_to_vec();
            if let Some((_, count)) = self.others.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.others.remove(&key);
                }
            }
        }
    }

    pub(super) fn change(&mut self, resources: &Resources, way: Way) {
        match way {
            Way::Add => self.add(resources),
            Way::Subtract => self.subtract(resources),
        }
    }

    /// All of it. Volumes that several tasks share are there once.
    pub(super) fn total(&self) -> Resources {
        let mut total = self.amounts.clone();
        for (resource, count) in self.others.values() {
            let times = if resource.shared { 1 } else { *count };
            let ranges_or_set = !matches!(resource.value, Value::Scalar(_));
            for _ in 0..if ranges_or_set { 1 } else { times } {
                total.insert(resource.clone());
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Resources {
        Resources::parse(text, "*").expect("resources")
    }

    #[test]
    fn a_sum_survives_that_parts_of_it_are_equal() {
        let mut sum = Sum::default();
        let parts = ["cpus:1;mem:32;ports:[31000-31001]", "cpus:0.5;ports:[31000-31001]", "mem:1"];
        for part in parts {
            sum.add(&parse(part));
        }
        assert_eq!(sum.total(), parse("cpus:1.5;mem:33;ports:[31000-31001]"));
        sum.subtract(&parse(parts[0]));
        assert_eq!(sum.total(), parse("cpus:0.5;mem:1;ports:[31000-31001]"));
        sum.subtract(&parse(parts[1]));
        sum.subtract(&parse("cpus:7"));
        assert_eq!(sum.total(), parse("mem:1"));
        sum.subtract(&parse(parts[2]));
        assert!(sum.is_empty());
    }
}
