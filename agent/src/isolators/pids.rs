//! `pids`: a limit on processes and threads, so that a fork bomb hurts only itself.

use super::{Demand, Isolator, IsolatorError};
use crate::cgroups::{ContainerCgroup, Controller, Usage};

/// Processes and threads of a container unless the operator says otherwise: far more than any sane task, far less than the
/// machine's own limit (32768 by default), so that several bombs at once still leave room.
pub const DEFAULT_PIDS_LIMIT: u64 = 4096;

#[derive(Debug)]
pub struct PidsIsolator {
    limit: Option<u64>,
}

const NAME: &str = "pids";

impl PidsIsolator {
    /// `None`: counted, not limited.
    pub fn new(limit: Option<u64>) -> Self {
        PidsIsolator { limit }
    }
}

impl Isolator for PidsIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn controllers(&self) -> &'static [Controller] {
        &[Controller::Pids]
    }

    fn isolate(&self, _demand: &Demand, cgroup: &ContainerCgroup) -> Result<(), IsolatorError> {
        cgroup.set_pids(self.limit).map_err(|source| IsolatorError {
            isolator: NAME,
            verb: "isolate",
            source,
        })
    }

    fn usage(&self, cgroup: &ContainerCgroup, usage: &mut Usage) -> Result<(), IsolatorError> {
        cgroup.read_pids(usage).map_err(|source| IsolatorError {
            isolator: NAME,
            verb: "measure",
            source,
        })
    }
}
