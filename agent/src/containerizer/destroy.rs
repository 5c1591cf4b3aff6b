//! The end of a container: no process, no control group.

use std::time::Duration;

use mezzo_telemetry::Counter;

use super::report::chain;
use crate::cgroups::{CgroupError, ContainerCgroup};

/// Attempts at a group that is empty but refuses to go; a process stuck in the kernel is waited for without end.
const ATTEMPTS: u32 = 8;

/// Kills everything in the group, waits, removes it. Returns when that is done, or is hopeless: then a later start of the agent finds what is left.
/// A container that does not die in time, or whose group stays, is counted in `errors`, once.
pub(super) async fn destroy(cgroup: &ContainerCgroup, errors: &Counter) {
    let mut failures = 0;
    let mut counted = false;
    let mut count = || {
        if !std::mem::replace(&mut counted, true) {
            errors.inc();
        }
    };
    loop {
        match cgroup.destroy().await {
            Ok(()) => return,
            Err(e @ CgroupError::StillPopulated { .. }) => {
                // Half a minute passed. Not giving up is right: its resources are not free.
                count();
                tracing::warn!(container = cgroup.id(), error = %e, "a container does not die");
            }
            Err(e) => {
                failures += 1;
                let error = chain(&e);
                if failures == ATTEMPTS {
                    count();
                    tracing::error!(
                        container = cgroup.id(),
                        error,
                        "could not remove a container's control group; it stays"
                    );
                    return;
                }
                tracing::debug!(container = cgroup.id(), error, "control group not removed yet");
                tokio::time::sleep(Duration::from_millis(10 << failures)).await;
            }
        }
    }
}
