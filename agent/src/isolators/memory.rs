//! `memory`: a soft limit at what was asked for, a hard one where the kernel kills; a kill ends the container.

use mezzo_proto::v1;

use super::{Breach, Demand, Isolator, IsolatorError, Limitation};
use crate::cgroups::{
    ContainerCgroup, Controller, MIN_MEMORY_BYTES, MemoryLimits, OomReport, Usage,
};

#[derive(Debug, Default)]
pub struct MemoryIsolator;

const NAME: &str = "memory";

fn failed(verb: &'static str) -> impl Fn(crate::cgroups::CgroupError) -> IsolatorError {
    move |source| IsolatorError { isolator: NAME, verb, source }
}

impl MemoryIsolator {
    fn limits(demand: &Demand) -> MemoryLimits {
        MemoryLimits {
            soft_bytes: demand.memory_bytes().max(MIN_MEMORY_BYTES),
            hard_bytes: demand.memory_limit_bytes().map(|bytes| bytes.max(MIN_MEMORY_BYTES)),
        }
    }
}

impl Isolator for MemoryIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn controllers(&self) -> &'static [Controller] {
        &[Controller::Memory]
    }

    fn isolate(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        cgroup.set_memory(&Self::limits(demand)).map_err(failed("isolate"))
    }

    fn watch(&self, cgroup: &ContainerCgroup) -> Result<Option<Breach>, IsolatorError> {
        let mut kills = cgroup.watch_oom().map_err(failed("watch"))?;
        let cgroup = cgroup.clone();
        Ok(Some(Box::pin(async move {
            kills.next().await.map_err(failed("watch"))?;
            // Reading the statistics and the kernel's log is a few system calls; kills are rare.
            let report = cgroup.oom_report().map_err(failed("watch"))?;
            Ok(limitation(&report))
        })))
    }

    fn breached(&self, cgroup: &ContainerCgroup) -> Result<Option<Limitation>, IsolatorError> {
        if cgroup.oom_kills().map_err(failed("watch"))? == 0 {
            return Ok(None);
        }
        let report = cgroup.oom_report().map_err(failed("watch"))?;
        Ok(Some(limitation(&report)))
    }

    /// The hard limit is raised, never lowered: a lower one could kill what was within its rights when it started.
    fn update(&self, demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        let mut limits = Self::limits(demand);
        let now = cgroup.memory_limit().map_err(failed("update"))?;
        limits.hard_bytes = match (limits.hard_bytes, now) {
            (Some(wanted), Some(now)) => Some(wanted.max(now)),
            _ => None,
        };
        cgroup.set_memory(&limits).map_err(failed("update"))
    }

    fn usage(&self, cgroup: &ContainerCgroup, usage: &mut Usage) -> Result<(), IsolatorError> {
        cgroup.read_memory(usage).map_err(failed("measure"))
    }
}

fn limitation(report: &OomReport) -> Limitation {
    let used = v1::Resource {
        name: "mem".to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value: (report.peak_bytes >> 20) as f64 }),
        ..Default::default()
    };
    Limitation {
        reason: v1::task_status::Reason::ContainerLimitationMemory,
        message: report.to_string(),
        resources: vec![used],
    }
}
