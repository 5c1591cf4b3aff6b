//! Control groups: one fresh group per container run, in every hierarchy that the machine has.
//!
//! Two layouts are served behind one facade. On a **unified** machine (cgroup v2 only) a container has one
//! directory, `<mount>/<root>/<container>`. On a **hybrid** machine the controllers live in v1 hierarchies and a
//! container has one directory in each of them plus, where it is mounted, one in the v2 tree: that tree has no
//! controllers there, but it tells when a container is empty and kills all of it in one write.
//!
//! - [`Facts`] is what the machine offers, read once at start; everything else follows from it.
//! - [`Cgroups`] is the agent's root in each hierarchy; it creates, finds and lists container groups.
//! - [`ContainerCgroup`] is one container's groups: limits, usage, kill, wait, remove.
//! - v1's controller of devices joins only where eBPF does not guard them ([`Cgroups::guard_devices`]).
//! - [`OomWatch`] reports out-of-memory kills as they happen, never by failure counters (they lie).
//!
//! `cgroups-rs` writes the knobs that it has right on both versions. The weight scale, the unified tree on hybrid machines,
//! swap, out-of-memory events, killing and waiting are written here because the crate lacks them or has them wrong.
//!
//! Rules that hold everywhere in this module: limits are in place, and read back, before any process enters;
//! a group that was killed is never used again; nothing outside the agent's root is touched.

mod container;
mod devices;
mod error;
mod facts;
mod files;
mod kernel_log;
mod limits;
mod oom;
mod tree;
mod usage;

#[cfg(test)]
mod tests;

pub use container::ContainerCgroup;
pub use error::CgroupError;
pub use facts::{Controller, Facts, FactsError, Hierarchy, Layout, Version};
pub(crate) use files::watch as watch_descriptor;
pub use kernel_log::OomVictim;
pub use limits::{
    CPU_PERIOD_US, CpuLimits, CpuQuota, MIN_CPU_QUOTA_US, MIN_CPU_SHARES, MIN_MEMORY_BYTES,
    MemoryLimits, weight_of_shares,
};
pub use oom::{OomReport, OomWatch};
pub use tree::Cgroups;
pub use usage::{CpuUsage, MemoryUsage, Usage};
