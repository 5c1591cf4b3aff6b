//! `ports`: a container binds the ports that it was given, and no others.

use mezzo_agent_accounting::{PortPolicy, PortRule};

use super::{Demand, Isolator, IsolatorError, Plan};

/// Asks the kernel to guard ports (`docs/ebpf.md`).
#[derive(Debug)]
pub struct PortsIsolator {
    policy: PortPolicy,
    ephemeral: bool,
}

impl PortsIsolator {
    /// `ephemeral`: whether containers may also have ports that the kernel chooses.
    pub fn new(policy: PortPolicy, ephemeral: bool) -> Self {
        PortsIsolator { policy, ephemeral }
    }
}

impl Isolator for PortsIsolator {
    fn name(&self) -> &'static str {
        "ports"
    }

    fn prepare(&self, demand: &Demand, plan: &mut Plan) -> Result<(), IsolatorError> {
        let ports = demand.resources.ports();
        // What is above the last port there is, nobody can bind.
        let port = |number: u64| u16::try_from(number).ok();
        let range =
            |(first, last): (u64, u64)| Some((port(first)?, port(last).unwrap_or(u16::MAX)));
        plan.grant.ports = PortRule {
            policy: self.policy,
            ephemeral: self.ephemeral,
            ranges: ports.iter().filter_map(range).collect(),
        };
        Ok(())
    }
}
