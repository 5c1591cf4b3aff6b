//! Status updates that the master makes itself.
//!
//! They carry no `uuid`: they are neither acknowledged nor retried (Mesos 1.11 does the same).

use mezzo_proto::v1;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_proto::v1::{TaskState, TaskStatus};
use mezzo_types::{AgentId, Now, TaskId};

/// A status made by the master for `task`.
pub(crate) fn from_master(
    now: Now,
    task: &TaskId,
    agent: Option<&AgentId>,
    state: TaskState,
    reason: Option<Reason>,
    message: impl Into<String>,
) -> TaskStatus {
    TaskStatus {
        task_id: task.into(),
        state: state as i32,
        message: Some(message.into()),
        source: Some(Source::Master as i32),
        reason: reason.map(|r| r as i32),
        agent_id: agent.map(Into::into),
        timestamp: Some(seconds(now)),
        ..TaskStatus::default()
    }
}

/// Wall-clock time as Mesos writes it: seconds since the epoch, as a double.
pub(crate) fn seconds(now: Now) -> f64 {
    now.unix_ns as f64 / 1e9
}

/// Nanoseconds since the epoch as a message.
pub(crate) fn time_info(unix_ns: i64) -> v1::TimeInfo {
    v1::TimeInfo { nanoseconds: unix_ns }
}

/// The state that tells a framework of a loss: `precise` for PARTITION_AWARE ones, else TASK_LOST.
pub(crate) fn lost_or(partition_aware: bool, precise: TaskState) -> TaskState {
    if partition_aware { precise } else { TaskState::TaskLost }
}
