//! Lists of resources and their algebra.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Add, AddAssign};
use std::sync::Arc;

use crate::quantities::Quantities;
use crate::resource::{Reservation, Resource, ResourceName};
use crate::role::is_same_or_subrole;
use crate::value::Value;
use crate::{Ranges, Scalar};

/// Resources in canonical form: sorted, fungible ones merged, nothing empty. Equal lists hold the
/// same, however they came about. A short sorted vector: an agent has a handful of entries, and
/// walking them beats any map.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Resources(Vec<Entry>);

/// A resource and how many copies of it there are: more than one only for those that do not merge.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    resource: Resource,
    copies: u32,
}

impl Resources {
    pub const fn new() -> Resources {
        Resources(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each resource. Copies of a whole disk are yielded one by one; a shared volume is yielded
    /// once, because its copies are uses of the same space.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.0.iter().flat_map(|entry| {
            let times = if entry.resource.shared { 1 } else { entry.copies };
            std::iter::repeat_n(&entry.resource, times as usize)
        })
    }

    /// Each resource with the number of its copies.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Resource, u32)> {
        self.0.iter().map(|entry| (&entry.resource, entry.copies))
    }

    /// How many copies of exactly this resource there are: the users of a shared volume.
    pub fn copies(&self, resource: &Resource) -> u32 {
        match self.position(resource) {
            Ok(at) if self.0[at].resource.value == resource.value => self.0[at].copies,
            _ => 0,
        }
    }

    /// Adds one resource; an empty one changes nothing.
    pub fn insert(&mut self, resource: Resource) {
        self.insert_copies(resource, 1);
    }

    fn insert_copies(&mut self, resource: Resource, copies: u32) {
        if resource.value.is_empty() || copies == 0 {
            return;
        }
        match self.position(&resource) {
            Ok(at) if resource.is_counted() => {
                let entry = &mut self.0[at];
                entry.copies = entry.copies.saturating_add(copies);
            }
            Ok(at) => self.0[at].resource.value.add(&resource.value),
            Err(at) => self.0.insert(at, Entry { resource, copies }),
        }
    }

    fn position(&self, resource: &Resource) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| entry.resource.order(resource))
    }

    /// Whether all of `other` is in here. Roles, reservations and all other properties must match:
    /// unreserved CPUs do not stand in for reserved ones.
    pub fn contains(&self, other: &Resources) -> bool {
        other.0.iter().all(|asked| self.contains_entry(asked).is_some())
    }

    /// Whether one (or one more) such resource is in here.
    pub fn contains_resource(&self, resource: &Resource) -> bool {
        resource.value.is_empty()
            || self
                .position(resource)
                .is_ok_and(|at| self.0[at].resource.value.contains(&resource.value))
    }

    fn contains_entry(&self, asked: &Entry) -> Option<usize> {
        let at = self.position(&asked.resource).ok()?;
        let held = &self.0[at];
        let enough =
            held.copies >= asked.copies && held.resource.value.contains(&asked.resource.value);
        enough.then_some(at)
    }

    /// What is left without `other`; `None` unless all of `other` is in here.
    pub fn checked_sub(&self, other: &Resources) -> Option<Resources> {
        let mut left = self.clone();
        for asked in &other.0 {
            let at = left.contains_entry(asked)?;
            let held = &mut left.0[at];
            let emptied = if asked.resource.is_counted() {
                held.copies -= asked.copies;
                held.copies == 0
            } else {
                held.resource.value.subtract(&asked.resource.value);
                held.resource.value.is_empty()
            };
            if emptied {
                left.0.remove(at);
            }
        }
        Some(left)
    }

    /// What is left without `other`, or without as much of it as is in here.
    pub fn without(&self, other: &Resources) -> Resources {
        let mut left = self.clone();
        for asked in &other.0 {
            let Ok(at) = left.position(&asked.resource) else { continue };
            let held = &mut left.0[at];
            let emptied = if asked.resource.is_counted() {
                held.copies = held.copies.saturating_sub(asked.copies);
                held.copies == 0
            } else {
                held.resource.value.subtract(&asked.resource.value);
                held.resource.value.is_empty()
            };
            if emptied {
                left.0.remove(at);
            }
        }
        left
    }

    /// Those for which `keep` holds.
    pub fn filter(&self, mut keep: impl FnMut(&Resource) -> bool) -> Resources {
        Resources(self.0.iter().filter(|entry| keep(&entry.resource)).cloned().collect())
    }

    /// Each changed by `change`; merges what becomes fungible.
    pub fn map(&self, mut change: impl FnMut(&mut Resource)) -> Resources {
        let mut changed = Resources(Vec::with_capacity(self.0.len()));
        for entry in &self.0 {
            let mut resource = entry.resource.clone();
            change(&mut resource);
            changed.insert_copies(resource, entry.copies);
        }
        changed
    }

    /// The same, allocated to `role`.
    pub fn allocate(&self, role: &str) -> Resources {
        let role: Arc<str> = role.into();
        self.map(|resource| resource.allocation_role = Some(role.clone()))
    }

    /// The same, allocated to nobody.
    pub fn unallocated(&self) -> Resources {
        if self.0.iter().all(|entry| entry.resource.allocation_role.is_none()) {
            return self.clone();
        }
        self.map(|resource| resource.allocation_role = None)
    }

    /// The roles they are allocated to.
    pub fn allocation_roles(&self) -> BTreeSet<Arc<str>> {
        self.0.iter().filter_map(|entry| entry.resource.allocation_role.clone()).collect()
    }

    /// Those reserved for nobody.
    pub fn unreserved(&self) -> Resources {
        self.filter(|resource| resource.reservations.is_empty())
    }

    /// Those reserved for exactly this role.
    pub fn reserved(&self, role: &str) -> Resources {
        self.filter(|resource| resource.reservation_role() == Some(role))
    }

    /// Those a framework in `role` may use: unreserved, or reserved for the role or one above it.
    pub fn eligible_for(&self, role: &str) -> Resources {
        self.filter(|resource| match resource.reservation_role() {
            None => true,
            Some(reserved_for) => is_same_or_subrole(role, reserved_for),
        })
    }

    /// The same with one more reservation on each.
    pub fn push_reservation(&self, reservation: &Reservation) -> Resources {
        self.map(|resource| {
            resource.reservations = resource.reservations.pushed(reservation.clone())
        })
    }

    /// The same without the topmost reservation of each.
    pub fn pop_reservation(&self) -> Resources {
        self.map(|resource| resource.reservations = resource.reservations.popped())
    }

    pub fn revocable(&self) -> Resources {
        self.filter(|resource| resource.revocable)
    }

    pub fn non_revocable(&self) -> Resources {
        self.filter(|resource| !resource.revocable)
    }

    pub fn shared(&self) -> Resources {
        self.filter(|resource| resource.shared)
    }

    pub fn non_shared(&self) -> Resources {
        self.filter(|resource| !resource.shared)
    }

    pub fn persistent_volumes(&self) -> Resources {
        self.filter(|resource| resource.persistence_id().is_some())
    }

    /// The names there are, ascending.
    pub fn names(&self) -> BTreeSet<ResourceName> {
        self.0.iter().map(|entry| entry.resource.name.clone()).collect()
    }

    /// The sum of the scalars of that name, over all reservations and roles; `None` if there is
    /// none.
    pub fn scalar(&self, name: impl AsRef<str>) -> Option<Scalar> {
        let name = name.as_ref();
        let mut sum = None;
        for resource in self.iter().filter(|resource| resource.name == *name) {
            if let Value::Scalar(scalar) = &resource.value {
                sum = Some(sum.unwrap_or(Scalar::ZERO).saturating_add(*scalar));
            }
        }
        sum
    }

    pub fn cpus(&self) -> Scalar {
        self.scalar(ResourceName::CPUS).unwrap_or_default()
    }

    pub fn mem_mb(&self) -> Scalar {
        self.scalar(ResourceName::MEM).unwrap_or_default()
    }

    pub fn disk_mb(&self) -> Scalar {
        self.scalar(ResourceName::DISK).unwrap_or_default()
    }

    pub fn gpus(&self) -> Scalar {
        self.scalar(ResourceName::GPUS).unwrap_or_default()
    }

    /// The union of the ranges of that name.
    pub fn ranges(&self, name: impl AsRef<str>) -> Ranges {
        let name = name.as_ref();
        let mut all = Ranges::new();
        for Entry { resource, .. } in &self.0 {
            if let Value::Ranges(ranges) = &resource.value
                && resource.name == *name
            {
                all.add(ranges);
            }
        }
        all
    }

    pub fn ports(&self) -> Ranges {
        self.ranges(ResourceName::PORTS)
    }

    /// The scalars by name, whatever their other properties.
    pub fn quantities(&self) -> Quantities {
        let mut sums = Quantities::new();
        for resource in self.iter() {
            if let Value::Scalar(scalar) = &resource.value {
                sums.add(&resource.name, *scalar);
            }
        }
        sums
    }
}

impl AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, other: &Resources) {
        for entry in &other.0 {
            self.insert_copies(entry.resource.clone(), entry.copies);
        }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Resources) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for entry in other.0 {
            self.insert_copies(entry.resource, entry.copies);
        }
    }
}

impl AddAssign<Resource> for Resources {
    fn add_assign(&mut self, other: Resource) {
        self.insert(other);
    }
}

impl Add<&Resources> for &Resources {
    type Output = Resources;

    fn add(self, other: &Resources) -> Resources {
        let mut sum = self.clone();
        sum += other;
        sum
    }
}

impl Add for Resources {
    type Output = Resources;

    fn add(mut self, other: Resources) -> Resources {
        self += other;
        self
    }
}

impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut all = Resources::new();
        for resource in resources {
            all.insert(resource);
        }
        all
    }
}

impl From<Resource> for Resources {
    fn from(resource: Resource) -> Self {
        Resources::from_iter([resource])
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Resources>>(lists: I) -> Self {
        lists.fold(Resources::new(), |sum, list| sum + list)
    }
}

impl<'a> std::iter::Sum<&'a Resources> for Resources {
    fn sum<I: Iterator<Item = &'a Resources>>(lists: I) -> Self {
        let mut sum = Resources::new();
        for list in lists {
            sum += list;
        }
        sum
    }
}

/// `cpus:1; mem:128; ports:[31000-31005]`; nothing at all prints as `{}`.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (at, Entry { resource, copies }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{resource}")?;
            if *copies > 1 {
                write!(f, " x{copies}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
