//! `cpu`: a weight against others, and a hard share that holds even on an idle machine.

use super::{Demand, Isolator, IsolatorError};
use crate::cgroups::{ContainerCgroup, Controller, CpuLimits, Usage};

/// Weight by `cpus`; quota by the task's limit or, with `hard` on, by `cpus`.
#[derive(Debug)]
pub struct CpuIsolator {
    hard: bool,
}

const NAME: &str = "cpu";

impl CpuIsolator {
    /// With `hard` off only tasks that give a limit of their own are held to one.
    pub fn new(hard: bool) -> Self {
        CpuIsolator { hard }
    }

    fn limits(&self, demand: &Demand) -> CpuLimits {
        let limit = match demand.cpus {
            super::Limit::Request if !self.hard => None,
            _ => demand.cpu_limit_millis(),
        };
        CpuLimits::of_millis(demand.cpu_millis(), limit)
    }

    fn set(
        &self,
        verb: &'static str,
        demand: &Demand,
        cgroup: &ContainerCgroup,
    ) -> Result<(), IsolatorError> {
        cgroup.set_cpu(&self.limits(demand)).map_err(|source| IsolatorError {
            isolator: NAME,
            verb,
            source,
        })
    }
}

impl Isolator for CpuIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn controllers(&self) -> &'static [Controller] {
        &[Controller::Cpu, Controller::Cpuacct]
    }

    fn isolate(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        self.set("isolate", demand, cgroup)
    }

    fn update(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        self.set("update", demand, cgroup)
    }

    fn usage(&self, cgroup: &ContainerCgroup, usage: &mut Usage) -> Result<(), IsolatorError> {
        cgroup.read_cpu(usage).map_err(|source| IsolatorError {
            isolator: NAME,
            verb: "measure",
            source,
        })
    }
}
