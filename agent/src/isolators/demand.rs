//! What one container may use: its resources and the limits beyond them.

use std::collections::BTreeMap;

use mezzo_proto::v1;
use mezzo_types::{Resources, Scalar};

/// How far a container may go beyond what it asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// Not at all.
    #[default]
    Request,
    At(Scalar),
    /// As far as the machine goes.
    Infinite,
}

/// Resources of a container (a task's, for a command task) and its limits, and which GPUs are its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub resources: Resources,
    pub cpus: Limit,
    pub mem: Limit,
    /// Ids of the GPUs that were assigned to it.
    pub gpu_ids: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    #[error("limit '{name}' is {value}, but a limit must be a positive number or Infinity")]
    BadLimit { name: String, value: String },
    #[error("its 'gpus' are {0}, but GPUs are given out whole; ask for a whole number")]
    FractionOfGpu(Scalar),
    #[error(
        "it asks for {wanted} GPUs but has {assigned}: the others of this agent are in use; try again, or on another agent"
    )]
    TooFewGpus { wanted: usize, assigned: usize },
    #[error("limit '{name}' is {value}, less than the {request} that the task asks for")]
    BelowRequest { name: String, value: String, request: String },
}

impl Demand {
    /// `limits` are those of `TaskInfo.limits`: `cpus` and `mem` (in MB); a number or infinity.
    pub fn new(
        resources: Resources,
        limits: &BTreeMap<String, v1::value::Scalar>,
    ) -> Result<Self, DemandError> {
        let cpus = limit("cpus", resources.cpus(), limits)?;
        let mem = limit("mem", resources.mem_mb(), limits)?;
        Ok(Demand { resources, cpus, mem, gpu_ids: Vec::new() })
    }

    /// With the GPUs that were assigned, which are as many as were asked for.
    pub fn with_gpus(self, gpu_ids: Vec<String>) -> Result<Self, DemandError> {
        let asked = self.resources.gpus();
        let fraction = || DemandError::FractionOfGpu(asked);
        let thousandths = usize::try_from(asked.thousandths()).map_err(|_| fraction())?;
        if thousandths % 1000 != 0 {
            return Err(fraction());
        }
        let (wanted, assigned) = (thousandths / 1000, gpu_ids.len());
        if assigned != wanted {
            return Err(DemandError::TooFewGpus { wanted, assigned });
        }
        Ok(Demand { gpu_ids, ..self })
    }

    /// Thousandths of a processor asked for.
    pub(super) fn cpu_millis(&self) -> u64 {
        u64::try_from(self.resources.cpus().thousandths()).unwrap_or(0)
    }

    /// Memory asked for, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        bytes(self.resources.mem_mb())
    }

    /// The most thousandths of a processor; `None` without a limit.
    pub(super) fn cpu_limit_millis(&self) -> Option<u64> {
        match self.cpus {
            Limit::Request => Some(self.cpu_millis()),
            Limit::At(limit) => Some(u64::try_from(limit.thousandths()).unwrap_or(0)),
            Limit::Infinite => None,
        }
    }

    /// The most memory, in bytes; `None` without a limit.
    pub(super) fn memory_limit_bytes(&self) -> Option<u64> {
        match self.mem {
            Limit::Request => Some(self.memory_bytes()),
            Limit::At(limit) => Some(bytes(limit)),
            Limit::Infinite => None,
        }
    }
}

fn limit(
    name: &str,
    request: Scalar,
    limits: &BTreeMap<String, v1::value::Scalar>,
) -> Result<Limit, DemandError> {
    let Some(limit) = limits.get(name) else { return Ok(Limit::Request) };
    if limit.value == f64::INFINITY {
        return Ok(Limit::Infinite);
    }
    let bad = || DemandError::BadLimit { name: name.to_owned(), value: limit.value.to_string() };
    let value = Scalar::from_f64(limit.value).map_err(|_| bad())?;
    if value <= Scalar::ZERO {
        return Err(bad());
    }
    if value < request {
        return Err(DemandError::BelowRequest {
            name: name.to_owned(),
            value: value.to_string(),
            request: request.to_string(),
        });
    }
    Ok(Limit::At(value))
}

/// From MB in thousandths.
fn bytes(mem_mb: Scalar) -> u64 {
    let thousandths = u128::try_from(mem_mb.thousandths()).unwrap_or(0);
    u64::try_from(thousandths * (1 << 20) / 1000).unwrap_or(u64::MAX)
}
