//! Each behaviour by example, then the whole against a slow reference and against its own books.

mod examples;
mod properties;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mezzo_types::{
    AgentId, Conversion, FrameworkId, Now, Reservation, ReservationKind, Reservations, Resource,
    ResourceName, Resources, Scalar, Value,
};

use super::DrfAllocator;
use crate::{AgentOptions, Allocation, Allocator, AllocatorConfig, Capabilities, FrameworkOptions};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Now {
    Now::default().advanced(MS * u32::try_from(ms).unwrap())
}

/// CPUs and memory in MB; zero is none.
fn room(cpus: u32, mem: u32) -> Resources {
    let amounts = [(ResourceName::CPUS, cpus), (ResourceName::MEM, mem)];
    amounts.into_iter().map(|(name, amount)| scalar(name, amount)).collect()
}

fn scalar(name: ResourceName, amount: u32) -> Resource {
    Resource::new(name, Value::Scalar(Scalar::from_units(amount)))
}

fn reserved(resources: Resources, role: &str) -> Resources {
    resources.map(|resource| resource.reservations = Reservations::fixed(role))
}

fn in_roles(roles: &[&str]) -> FrameworkOptions {
    let roles = BTreeSet::from_iter(roles.iter().map(|role| role.to_string()));
    FrameworkOptions { roles, ..FrameworkOptions::default() }
}

fn allocator() -> DrfAllocator {
    DrfAllocator::new(AllocatorConfig::default())
}

fn add_agent(allocator: &mut DrfAllocator, now: Now, id: &str, total: Resources) {
    allocator.add_agent(now, &id.into(), total, BTreeMap::new(), AgentOptions::default());
}

/// Everything that is due by then, one line per allocation: `framework role agent resources`.
fn allocate(allocator: &mut DrfAllocator, now: Now) -> Vec<String> {
    let allocations = allocator.allocate(now);
    allocator.check_invariants().unwrap();
    allocations.iter().map(line).collect()
}

fn line(allocation: &Allocation) -> String {
    let Allocation { framework, role, agent, resources } = allocation;
    assert_eq!(*resources, resources.unallocated().allocate(role));
    format!("{framework} {role} {agent} {}", resources.unallocated())
}

fn recover(
    allocator: &mut DrfAllocator,
    now: Now,
    framework: &str,
    agent: &str,
    resources: &Resources,
    refuse: Option<Duration>,
) {
    let (framework, agent) = (FrameworkId::from(framework), AgentId::from(agent));
    allocator.recover(now, &framework, &agent, resources, refuse);
}

fn capable(options: FrameworkOptions, capabilities: Capabilities) -> FrameworkOptions {
    FrameworkOptions { capabilities, ..options }
}
