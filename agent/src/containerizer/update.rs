//! A change of what a container may use, while it runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mezzo_agent_accounting::Devices;
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, Resources};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::DeviceGuard;
use super::handle::Shared;
use super::report::chain;
use crate::accounts::Holder;
use crate::cgroups::ContainerCgroup;
use crate::isolators::Demand;
use crate::sandbox::Owner;
use crate::volumes;

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
    sandbox: &Path,
    change: &Change,
) -> Result<(), String> {
    link_volumes(shared, sandbox, &change.resources)?;
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

/// Puts volumes that came with a task into the sandbox; those that are there stay. The sandbox belongs to the executor's user.
fn link_volumes(shared: &Shared, sandbox: &Path, resources: &Resources) -> Result<(), String> {
    if resources.persistent_volumes().is_empty() {
        return Ok(());
    }
    let failed = |e: &dyn std::error::Error| format!("could not open {}: {e}", sandbox.display());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = File::from(open(sandbox, flags, Mode::empty()).map_err(|e| failed(&e))?);
    let facts = directory.metadata().map_err(|e| failed(&e))?;
    let owner = Owner { uid: facts.uid(), gid: facts.gid() };
    volumes::link(&shared.config.work_dir, &directory, resources, owner).map_err(|e| chain(&e))
}
