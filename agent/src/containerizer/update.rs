//! A change of what a container may use, while it runs.

use std::collections::BTreeMap;

use mezzo_agent_accounting::Devices;
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, Resources};

use super::DeviceGuard;
use super::handle::Shared;
use super::report::chain;
use crate::accounts::Holder;
use crate::cgroups::ContainerCgroup;
use crate::isolators::Demand;

/// What the container may use from now on.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) framework: FrameworkId,
    pub(super) executor: ExecutorId,
    pub(super) resources: Resources,
    /// Comes back with the answer.
    pub(super) grant: u64,
}

/// Sets limits, and what the kernel lets it do. Blocks for a moment.
pub(super) fn update(
    shared: &Shared,
    id: &ContainerId,
    cgroup: &ContainerCgroup,
    change: &Change,
) -> Result<(), String> {
    let demand = Demand::new(change.resources.clone(), &BTreeMap::new())
        .and_then(|demand| demand.with_gpus(shared.gpus().of(id)))
        .map_err(|e| chain(&e))?;
    let plan = shared.isolators.prepare(&demand).map_err(|e| chain(&e))?;
    shared.isolators.update(&demand, cgroup).map_err(|e| chain(&e))?;
    let guard = shared.guard_of(&plan.grant.devices);
    if let (Devices::Only(devices), Some(DeviceGuard::Controller)) = (&plan.grant.devices, guard) {
        cgroup.set_devices(devices).map_err(|e| chain(&e))?;
    }
    let holder = Holder {
        framework: change.framework.clone(),
        task: change.executor.as_str().into(),
        container: id.clone(),
    };
    shared.accounts.admit(holder, cgroup, &plan.grant).map_err(|e| chain(&e))
}
