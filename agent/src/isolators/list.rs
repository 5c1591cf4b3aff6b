//! The isolators that `--isolation` names.

use std::sync::Arc;
use std::task::Poll;

use mezzo_agent_accounting::{Device, PortPolicy};

use super::{
    Breach, CpuIsolator, DEFAULT_PIDS_LIMIT, Demand, DevicesIsolator, GpusIsolator, Isolator,
    IsolatorError, Limitation, MemoryIsolator, NamespaceSet, NamespacesIsolator, PidsIsolator,
    Plan, PortsIsolator,
};
use crate::cgroups::{ContainerCgroup, Controller, Usage};
use crate::gpus::Gpus;

/// What an agent isolates unless told otherwise.
pub const DEFAULT_ISOLATION: &str = "cpu,memory,pids,namespaces,ports,devices";

/// Names as Mezzo calls them, each with the names that Mesos users know.
const KNOWN: &str = "cpu (cgroups/cpu), memory (cgroups/mem), pids (cgroups/pids), ports (network/ports), \
                     devices (cgroups/devices), namespaces, namespaces/pid, namespaces/ipc, namespaces/uts, namespaces/mount, \
                     gpus (gpu/nvidia)";

/// Settings of the isolators that have any.
#[derive(Clone, Debug)]
pub struct IsolationOptions {
    /// Hold each task to its `cpus` even while processors are idle.
    pub hard_cpu: bool,
    /// Processes and threads per container; `None` for no limit.
    pub pids_limit: Option<u64>,
    /// What happens when a container binds a port that is not among its resources.
    pub ports_policy: PortPolicy,
    /// Whether containers may have ports that the kernel chooses.
    pub ports_ephemeral: bool,
    /// Devices for every container, beside what is harmless.
    pub allowed_devices: Vec<Device>,
    /// Those that containers are given.
    pub gpus: Gpus,
}

impl Default for IsolationOptions {
    fn default() -> Self {
        IsolationOptions {
            hard_cpu: true,
            pids_limit: Some(DEFAULT_PIDS_LIMIT),
            ports_policy: PortPolicy::Observe,
            ports_ephemeral: false,
            allowed_devices: Vec::new(),
            gpus: Gpus::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsolationError {
    #[error("--isolation names '{name}', which is unknown; known are {KNOWN}")]
    Unknown { name: String },
    #[error("--isolation names '{name}' twice")]
    Twice { name: &'static str },
    #[error(
        "--ports-policy=enforce needs the isolator 'ports', which --isolation does not name; name it as well"
    )]
    PortsNotIsolated,
    #[error(
        "--isolation names 'gpus', which needs 'devices' to keep containers from one another's GPUs; name both"
    )]
    GpusWithoutDevices,
}

/// The isolators of an agent, in the order they act. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Isolators(Arc<[Box<dyn Isolator>]>);

impl Isolators {
    /// Reads a comma-separated list such as [`DEFAULT_ISOLATION`]; an empty one isolates nothing.
    pub fn parse(list: &str, options: &IsolationOptions) -> Result<Self, IsolationError> {
        let mut isolators: Vec<Box<dyn Isolator>> = Vec::new();
        let mut namespaces: Option<NamespaceSet> = None;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let isolator: Box<dyn Isolator> = match name {
                "cpu" | "cgroups/cpu" => Box::new(CpuIsolator::new(options.hard_cpu)),
                "memory" | "cgroups/mem" => Box::new(MemoryIsolator),
                "pids" | "cgroups/pids" => Box::new(PidsIsolator::new(options.pids_limit)),
                "ports" | "network/ports" => {
                    Box::new(PortsIsolator::new(options.ports_policy, options.ports_ephemeral))
                }
                "devices" | "cgroups/devices" => {
                    Box::new(DevicesIsolator::new(options.allowed_devices.clone()))
                }
                "gpus" | "gpu/nvidia" => Box::new(GpusIsolator::new(options.gpus.clone())),
                name => {
                    let set = namespaces.get_or_insert_default();
                    match name {
                        "namespaces" => {
                            *set = NamespaceSet { pid: true, mount: true, ipc: true, uts: true };
                        }
                        "namespaces/pid" => set.pid = true,
                        "namespaces/mount" => set.mount = true,
                        "namespaces/ipc" => set.ipc = true,
                        "namespaces/uts" => set.uts = true,
                        _ => return Err(IsolationError::Unknown { name: name.to_owned() }),
                    }
                    continue;
                }
            };
            if isolators.iter().any(|other| other.name() == isolator.name()) {
                return Err(IsolationError::Twice { name: isolator.name() });
            }
            isolators.push(isolator);
        }
        let has = |name| isolators.iter().any(|isolator| isolator.name() == name);
        if has("gpus") && !has("devices") {
            return Err(IsolationError::GpusWithoutDevices);
        }
        if options.ports_policy == PortPolicy::Enforce
            && !isolators.iter().any(|isolator| isolator.name() == "ports")
        {
            return Err(IsolationError::PortsNotIsolated);
        }
        if let Some(set) = namespaces {
            isolators.push(Box::new(NamespacesIsolator::new(set)));
        }
        Ok(Isolators(isolators.into()))
    }

    /// Whether a list names the isolator of GPUs, for which they have to be found first.
    pub(crate) fn with_gpus(list: &str) -> bool {
        list.split(',').any(|name| matches!(name.trim(), "gpus" | "gpu/nvidia"))
    }

    /// Controllers that all of them need together.
    pub fn controllers(&self) -> Vec<Controller> {
        self.0.iter().flat_map(|isolator| isolator.controllers()).copied().collect()
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|isolator| isolator.name()).collect()
    }

    pub fn recover(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        self.0.iter().try_for_each(|isolator| isolator.recover(demand, cgroup))
    }

    pub fn prepare(&self, demand: &Demand) -> Result<Plan, IsolatorError> {
        let mut plan = Plan::default();
        self.0.iter().try_for_each(|isolator| isolator.prepare(demand, &mut plan))?;
        Ok(plan)
    }

    pub fn isolate(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        self.0.iter().try_for_each(|isolator| isolator.isolate(demand, cgroup))
    }

    /// Waits for the first breach of any limit, or for ever.
    pub fn watch(&self, cgroup: &ContainerCgroup) -> Result<Breach, IsolatorError> {
        let mut breaches: Vec<Breach> = self
            .0
            .iter()
            .filter_map(|isolator| isolator.watch(cgroup).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Box::pin(std::future::poll_fn(move |context| {
            breaches
                .iter_mut()
                .map(|breach| breach.as_mut().poll(context))
                .find(Poll::is_ready)
                .unwrap_or(Poll::Pending)
        })))
    }

    /// The first breach that any of them finds to have happened.
    pub fn breached(&self, cgroup: &ContainerCgroup) -> Result<Option<Limitation>, IsolatorError> {
        self.0.iter().find_map(|isolator| isolator.breached(cgroup).transpose()).transpose()
    }

    pub fn update(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        self.0.iter().try_for_each(|isolator| isolator.update(demand, cgroup))
    }

    pub fn usage(&self, cgroup: &ContainerCgroup) -> Result<Usage, IsolatorError> {
        let mut usage = Usage::default();
        self.0.iter().try_for_each(|isolator| isolator.usage(cgroup, &mut usage))?;
        Ok(usage)
    }

    pub fn cleanup(&self, container_id: &str) {
        for isolator in self.0.iter() {
            isolator.cleanup(container_id);
        }
    }
}
