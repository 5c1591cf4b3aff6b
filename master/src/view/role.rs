//! What roles have: kept up to date with every change, in plain numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mezzo_proto::v1;
use mezzo_types::{FrameworkId, Quantities, Resources, Value};

use super::totals::Sums;
use mezzo_legacy_json::is_multi_role;

/// What one role has, without the roles below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RoleUse {
    pub(super) allocated: Quantities,
    pub(super) offered: Quantities,
    /// Of the agents that are registered.
    pub(super) reserved: Quantities,
    /// The part of `reserved` that is allocated.
    pub(super) reserved_allocated: Quantities,
    /// Those that are subscribed in it.
    pub(super) frameworks: BTreeSet<FrameworkId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Add,
    Subtract,
}

/// All roles of which there is something to say. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Roles {
    by_name: BTreeMap<Arc<str>, Arc<RoleUse>>,
    /// Of all roles.
    pub(super) sums: Sums,
}

impl Roles {
    fn change(&mut self, role: &str, change: impl FnOnce(&mut RoleUse)) {
        if !self.by_name.contains_key(role) {
            self.by_name.insert(role.into(), Arc::default());
        }
        let Some(of) = self.by_name.get_mut(role) else { return };
        change(Arc::make_mut(of));
        if **of == RoleUse::default() {
            self.by_name.remove(role);
        }
    }

    pub(super) fn allocated(&mut self, resources: &Resources, way: Way) {
        self.sums.used(resources, way);
        for (role, amounts) in by_allocation(resources) {
            self.change(&role, |of| adjust(&mut of.allocated, &amounts, way));
        }
        for (role, amounts) in by_reservation(resources) {
            self.change(&role, |of| adjust(&mut of.reserved_allocated, &amounts, way));
        }
    }

    pub(super) fn offered(&mut self, resources: &Resources, way: Way) {
        self.sums.offered(resources, way);
        for (role, amounts) in by_allocation(resources) {
            self.change(&role, |of| adjust(&mut of.offered, &amounts, way));
        }
    }

    /// `total` is what a registered agent has.
    pub(super) fn reserved(&mut self, total: &Resources, way: Way) {
        self.sums.total(total, way);
        for (role, amounts) in by_reservation(total) {
            self.change(&role, |of| adjust(&mut of.reserved, &amounts, way));
        }
    }

    pub(super) fn subscribed(&mut self, info: &v1::FrameworkInfo, way: Way) {
        let Some(id) = info.id.as_ref().map(FrameworkId::from) else { return };
        for role in roles_of(info) {
            self.change(role, |of| {
                match way {
                    Way::Add => of.frameworks.insert(id.clone()),
                    Way::Subtract => of.frameworks.remove(&id),
                };
            });
        }
    }

    /// Every role that is known, and those above it, with what it and the roles below it have. `also` names
    /// roles that are known for another reason. Names are in order.
    pub(super) fn with_those_above<'a>(
        &self,
        also: impl Iterator<Item = &'a str>,
    ) -> BTreeMap<String, RoleUse> {
        let mut all: BTreeMap<String, RoleUse> = BTreeMap::new();
        for role in also {
            for name in itself_and_above(role) {
                all.entry(name.to_owned()).or_default();
            }
        }
        for (role, own) in &self.by_name {
            for name in itself_and_above(role) {
                let sum = all.entry(name.to_owned()).or_default();
                sum.allocated.add_all(&own.allocated);
                sum.offered.add_all(&own.offered);
                sum.reserved.add_all(&own.reserved);
                sum.reserved_allocated.add_all(&own.reserved_allocated);
            }
            if let Some(sum) = all.get_mut(&**role) {
                sum.frameworks.clone_from(&own.frameworks);
            }
        }
        all
    }
}

impl RoleUse {
    /// What counts against the quota: what is allocated, and what is reserved although nobody uses it.
    pub(super) fn consumed(&self) -> Quantities {
        let mut consumed = self.reserved.clone();
        consumed.subtract_all(&self.reserved_allocated);
        consumed.add_all(&self.allocated);
        consumed
    }
}

fn adjust(sum: &mut Quantities, amounts: &Quantities, way: Way) {
    match way {
        Way::Add => sum.add_all(amounts),
        Way::Subtract => sum.subtract_all(amounts),
    }
}

fn by_allocation(resources: &Resources) -> BTreeMap<Arc<str>, Quantities> {
    let mut by_role: BTreeMap<Arc<str>, Quantities> = BTreeMap::new();
    for resource in resources.iter() {
        let Value::Scalar(amount) = &resource.value else { continue };
        let role = resource.allocation_role.clone().unwrap_or_else(|| "*".into());
        by_role.entry(role).or_default().add(&resource.name, *amount);
    }
    by_role
}

fn by_reservation(resources: &Resources) -> BTreeMap<Arc<str>, Quantities> {
    let mut by_role: BTreeMap<Arc<str>, Quantities> = BTreeMap::new();
    for resource in resources.iter() {
        let (Value::Scalar(amount), Some(role)) = (&resource.value, resource.reservation_role())
        else {
            continue;
        };
        by_role.entry(role.into()).or_default().add(&resource.name, *amount);
    }
    by_role
}

/// The roles that a framework subscribes in.
fn roles_of(info: &v1::FrameworkInfo) -> Vec<&str> {
    if is_multi_role(info) {
        return info.roles.iter().map(String::as_str).collect();
    }
    #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
    let role = info.role.as_deref();
    vec![role.unwrap_or("*")]
}

/// `a/b/c`, `a/b`, `a`.
fn itself_and_above(role: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(role), |role| role.rsplit_once('/').map(|(above, _)| above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_shows_what_those_below_it_have() {
        let mut roles = Roles::default();
        let of =
            |role: &str, text: &str| Resources::parse(text, "*").expect("resources").allocate(role);
        roles.allocated(&of("eng/web", "cpus:2;mem:64"), Way::Add);
        roles.allocated(&of("eng", "cpus:1"), Way::Add);
        roles.offered(&of("eng/db", "cpus:4"), Way::Add);
        roles.reserved(&Resources::parse("cpus(eng/web):3", "*").expect("resources"), Way::Add);
        let all = roles.with_those_above(["ops/a"].into_iter());
        assert_eq!(all.keys().collect::<Vec<_>>(), ["eng", "eng/db", "eng/web", "ops", "ops/a"]);
        let cpus = |quantities: &Quantities| quantities.get(&"cpus".into()).to_f64();
        assert_eq!(cpus(&all["eng"].allocated), 3.0);
        assert_eq!(cpus(&all["eng"].offered), 4.0);
        assert_eq!(cpus(&all["eng"].reserved), 3.0);
        assert_eq!(cpus(&all["eng"].consumed()), 6.0);
        assert_eq!(cpus(&all["ops"].consumed()), 0.0);
        roles.allocated(&of("eng/web", "cpus:2;mem:64"), Way::Subtract);
        roles.allocated(&of("eng", "cpus:1"), Way::Subtract);
        roles.offered(&of("eng/db", "cpus:4"), Way::Subtract);
        roles
            .reserved(&Resources::parse("cpus(eng/web):3", "*").expect("resources"), Way::Subtract);
        assert!(roles.by_name.is_empty());
    }
}
