//! `devices`: a container uses the devices that every program may need, those that the operator allows, and no others.

use mezzo_agent_accounting::Device;

use super::{Demand, Isolator, IsolatorError, Plan};

/// Asks the kernel to guard devices (`docs/ebpf.md`): by eBPF, or by cgroup v1's controller where that does not work.
#[derive(Debug)]
pub struct DevicesIsolator {
    allowed: Vec<Device>,
}

impl DevicesIsolator {
    /// `allowed`: for every container, beside what is harmless.
    pub fn new(allowed: Vec<Device>) -> Self {
        DevicesIsolator { allowed }
    }
}

impl Isolator for DevicesIsolator {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn prepare(&self, _demand: &Demand, plan: &mut Plan) -> Result<(), IsolatorError> {
        plan.allow_devices(&self.allowed);
        Ok(())
    }
}
