//! What a container may use, one isolator per concern, composed by `--isolation`.
//!
//! Every isolator has the same verbs, called in this order for each container: [`prepare`](Isolator::prepare) adds to the plan
//! of the launch, [`isolate`](Isolator::isolate) sets limits on the fresh control group before any process enters it,
//! [`watch`](Isolator::watch) waits for a breach, [`update`](Isolator::update) follows a change of resources,
//! [`usage`](Isolator::usage) reads counters, [`cleanup`](Isolator::cleanup) forgets. [`recover`](Isolator::recover) takes the
//! place of the first two after a restart of the agent.

mod allowed;
mod cpu;
mod demand;
mod devices;
mod gpus;
mod list;
mod memory;
mod namespaces;
mod pids;
mod ports;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use mezzo_agent_accounting::{Device, Devices, Grant};
use mezzo_proto::v1;

use crate::cgroups::{CgroupError, ContainerCgroup, Controller, Usage};

pub use allowed::{AllowedDevicesError, allowed_devices};
pub use cpu::CpuIsolator;
pub use demand::{Demand, DemandError, Limit};
pub use devices::DevicesIsolator;
pub use gpus::GpusIsolator;
pub use list::{DEFAULT_ISOLATION, IsolationError, IsolationOptions, Isolators};
pub use memory::MemoryIsolator;
pub use namespaces::NamespacesIsolator;
pub use pids::{DEFAULT_PIDS_LIMIT, PidsIsolator};
pub use ports::PortsIsolator;

/// The namespaces that a container gets for itself; the others it shares with the agent's machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSet {
    pub pid: bool,
    pub mount: bool,
    pub ipc: bool,
    pub uts: bool,
}

/// What isolators ask of the launch of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub namespaces: NamespaceSet,
    /// Ports and devices, which the kernel guards.
    pub grant: Grant,
    /// Variables that the command gets unless it sets them itself.
    pub environment: Vec<(String, String)>,
}

impl Plan {
    /// Has the container's devices guarded, and allows it these beside those that others allowed.
    pub(crate) fn allow_devices(&mut self, devices: &[Device]) {
        let mut all = match std::mem::take(&mut self.grant.devices) {
            Devices::Only(granted) => granted,
            Devices::Unguarded => Vec::new(),
        };
        for Device { kind, major, minor, access } in devices {
            let same = |other: &&mut Device| {
                (other.kind, other.major, other.minor) == (*kind, *major, *minor)
            };
            match all.iter_mut().find(same) {
                Some(known) => {
                    known.access.read |= access.read;
                    known.access.write |= access.write;
                    known.access.mknod |= access.mknod;
                }
                None => {
                    all.push(Device { kind: *kind, major: *major, minor: *minor, access: *access })
                }
            }
        }
        self.grant.devices = Devices::Only(all);
    }
}

/// A breach that ends a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Limitation {
    pub reason: v1::task_status::Reason,
    pub message: String,
    /// The resource that was exceeded, with the amount used.
    pub resources: Vec<v1::Resource>,
}

/// The future of [`Isolator::watch`].
pub type Breach = Pin<Box<dyn Future<Output = Result<Limitation, IsolatorError>> + Send>>;

/// Failure of one isolator's verb.
#[derive(Debug, thiserror::Error)]
#[error("isolator '{isolator}' could not {verb} the container")]
pub struct IsolatorError {
    pub isolator: &'static str,
    pub verb: &'static str,
    #[source]
    pub source: CgroupError,
}

/// One concern of isolation. Verbs other than `watch` may block on the kernel for a moment and are called off the event loop.
pub trait Isolator: fmt::Debug + Send + Sync {
    /// As it is listed in `--isolation`.
    fn name(&self) -> &'static str;

    /// Controllers that it needs in the container's control group.
    fn controllers(&self) -> &'static [Controller] {
        &[]
    }

    /// Takes up a container that runs already.
    fn recover(&self, _demand: &Demand, _cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        Ok(())
    }

    /// Adds to the plan of the launch.
    fn prepare(&self, _demand: &Demand, _plan: &mut Plan) -> Result<(), IsolatorError> {
        Ok(())
    }

    /// Sets limits, before any process is in `cgroup`.
    fn isolate(&self, _demand: &Demand, _cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        Ok(())
    }

    /// A future that ends when the container breaches its limit; `None` if this isolator's limit cannot be breached.
    /// It is called on the runtime, and again after a restart of the agent: a breach in between is reported then.
    fn watch(&self, _cgroup: &ContainerCgroup) -> Result<Option<Breach>, IsolatorError> {
        Ok(None)
    }

    /// Looks once, without waiting, for a breach that happened: asked when the container has ended by itself, so that its ending and
    /// the breach are told in the right order.
    fn breached(&self, _cgroup: &ContainerCgroup) -> Result<Option<Limitation>, IsolatorError> {
        Ok(None)
    }

    /// Follows a change of what the container may use.
    fn update(&self, _demand: &Demand, _cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        Ok(())
    }

    /// Adds its counters to `usage`.
    fn usage(&self, _cgroup: &ContainerCgroup, _usage: &mut Usage) -> Result<(), IsolatorError> {
        Ok(())
    }

    /// Forgets a container whose control group is gone.
    fn cleanup(&self, _container_id: &str) {}
}
