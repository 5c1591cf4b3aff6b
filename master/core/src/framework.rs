//! A framework as the master knows it.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability::Type as Capability;
use mezzo_types::{AgentId, ExecutorId, FrameworkId, OfferId, Position, TaskId, Uuid16};

use crate::input::StreamId;
use crate::task::Task;

/// A framework that may launch tasks: connected, or away within its failover timeout.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) info: v1::FrameworkInfo,
    pub(crate) principal: Option<String>,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) stream: Option<StreamId>,
    /// When the next HEARTBEAT is due, while connected.
    pub(crate) heartbeat_due_ns: u64,
    /// When the framework is torn down, while disconnected.
    pub(crate) failover_due_ns: Option<u64>,
    /// Known from before this master took the lead, and not back yet.
    pub(crate) recovered: bool,
    pub(crate) registered_unix_ns: i64,
    /// When it subscribed last, if that was not the first time.
    pub(crate) reregistered_unix_ns: Option<i64>,
    /// What SUBSCRIBED depends on.
    pub(crate) admitted: Position,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) executors: BTreeSet<(AgentId, ExecutorId)>,
    pub(crate) offers: BTreeSet<OfferId>,
    /// Its operations that have an id, by that.
    pub(crate) operations: BTreeMap<String, Uuid16>,
}

impl Framework {
    pub(crate) fn has(&self, capability: Capability) -> bool {
        has_capability(&self.info, capability)
    }

    pub(crate) fn partition_aware(&self) -> bool {
        self.has(Capability::PartitionAware)
    }
}

pub(crate) fn has_capability(info: &v1::FrameworkInfo, capability: Capability) -> bool {
    info.capabilities.iter().any(|c| c.r#type == Some(capability as i32))
}

/// The roles a framework subscribes in: `roles` for a MULTI_ROLE framework, else `role`
/// (`*` when unset).
pub(crate) fn roles_of(info: &v1::FrameworkInfo) -> BTreeSet<String> {
    if has_capability(info, Capability::MultiRole) {
        info.roles.iter().cloned().collect()
    } else {
        #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
        let role = info.role.clone();
        BTreeSet::from([role.unwrap_or_else(|| "*".to_owned())])
    }
}
