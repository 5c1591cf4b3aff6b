//! What keeps containers to their devices.

use mezzo_agent_accounting::Devices;

use super::handle::Shared;
use super::report::chain;

/// Who refuses devices that a container was not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceGuard {
    Ebpf,
    /// cgroup v1's controller, where eBPF does not work.
    Controller,
    /// Nobody: any device opens whose node the task's user may open.
    Nobody,
}

impl Shared {
    /// What guards devices on this machine, found out once and told in the log if it is not eBPF, of which the log has said why. Waits until eBPF is
    /// set up, so it blocks.
    pub(super) fn device_guard(&self) -> &DeviceGuard {
        self.device_guard.get_or_init(|| {
            if self.accounts.guards_devices() {
                return DeviceGuard::Ebpf;
            }
            match self.cgroups.guard_devices() {
                Ok(true) => {
                    tracing::warn!(
                        "devices are guarded by cgroup v1's controller: refusals are neither counted nor told"
                    );
                    DeviceGuard::Controller
                }
                Ok(false) => {
                    tracing::warn!(
                        "devices are not guarded: there is no eBPF, and no devices controller of cgroup v1 either"
                    );
                    DeviceGuard::Nobody
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "devices are not guarded: there is no eBPF, and cgroup v1's controller cannot be used"
                    );
                    DeviceGuard::Nobody
                }
            }
        })
    }

    /// What guards the devices of a container with this grant. Blocks, as above.
    pub(super) fn guard_of(&self, devices: &Devices) -> Option<&DeviceGuard> {
        matches!(devices, Devices::Only(_)).then(|| self.device_guard())
    }
}
