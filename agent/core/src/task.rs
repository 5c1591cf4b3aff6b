//! A task and its container, as the core knows them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mezzo_proto::internal::v1::LaunchPosition;
use mezzo_proto::v1;
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, TaskId};

use crate::checks::Checks;
use crate::effect::TaskStage;
use crate::executor::ExecutorKey;
use crate::input::Limitation;

pub(crate) type TaskKey = (FrameworkId, TaskId);

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) info: Arc<v1::TaskInfo>,
    /// As the framework sent it.
    pub(crate) raw: Bytes,
    /// None for a task that was turned down before it had one.
    pub(crate) container: Option<ContainerId>,
    pub(crate) stage: TaskStage,
    /// Of the container's first process, once it was started.
    pub(crate) pid: Option<i32>,
    pub(crate) latest: Option<Box<v1::TaskStatus>>,
    pub(crate) kill: Option<Kill>,
    pub(crate) limitation: Option<Limitation>,
    /// When its command was started.
    pub(crate) started_unix_ns: Option<i64>,
    /// Of a command task that runs and has some.
    pub(crate) checks: Option<Box<Checks>>,
    /// Failures in a row of its health check that an earlier run of the agent counted.
    pub(crate) health_failures: u32,
    /// Monotonic end of `max_completion_time`.
    pub(crate) completion_due_ns: Option<u64>,
    /// Nobody waits for its updates: its framework is gone.
    pub(crate) forsaken: bool,
    /// None for a command task, which is its own executor.
    pub(crate) part: Option<Part>,
}

/// What there is to say of a task that an executor runs.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) executor: ExecutorId,
    /// Of the order that brought it.
    pub(crate) position: LaunchPosition,
    /// All tasks of that order are launched and killed as one.
    pub(crate) group: bool,
    /// Handed to the executor, which may not have got it.
    pub(crate) delivered: bool,
    /// How the kill under way is to be done, where somebody said so.
    pub(crate) kill_policy: Option<v1::KillPolicy>,
}

impl Task {
    pub(crate) fn new(info: v1::TaskInfo, raw: Bytes) -> Self {
        Task {
            info: Arc::new(info),
            raw,
            container: None,
            stage: TaskStage::Launching,
            pid: None,
            latest: None,
            kill: None,
            limitation: None,
            started_unix_ns: None,
            checks: None,
            health_failures: 0,
            completion_due_ns: None,
            forsaken: false,
            part: None,
        }
    }

    pub(crate) fn executor(&self) -> Option<&ExecutorId> {
        self.part.as_ref().map(|part| &part.executor)
    }

    pub(crate) fn ended(&self) -> bool {
        self.stage == TaskStage::Ended
    }
}

/// A kill under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) ordered_unix_ns: i64,
    /// Monotonic time of the same moment; saturates at zero after a restart.
    pub(crate) ordered_ns: u64,
    pub(crate) grace: Duration,
    /// Monotonic time at which SIGKILL follows; None once it followed.
    pub(crate) due_ns: Option<u64>,
    pub(crate) cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// By a framework, an operator, or for the sake of either.
    Ordered,
    /// The task's `max_completion_time` is over.
    CompletionTime,
    /// The task's health check failed too often.
    Unhealthy,
    /// The agent is drained.
    Draining,
}

/// Whom a container was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A command task.
    Task(TaskKey),
    /// An executor, and all its tasks.
    Executor(ExecutorKey),
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) owner: Owner,
    /// (pid, start time in ticks) of its first process.
    pub(crate) started: Option<(i32, u64)>,
    pub(crate) destroying: bool,
}

#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) info: Arc<v1::FrameworkInfo>,
    /// How many tasks of it are known.
    pub(crate) tasks: usize,
    /// And how many executors.
    pub(crate) executors: usize,
}

impl Framework {
    pub(crate) fn can(&self, capability: v1::framework_info::capability::Type) -> bool {
        self.info.capabilities.iter().any(|has| has.r#type() == capability)
    }
}

/// A duration message; negative counts as none at all.
pub(crate) fn duration(message: &v1::DurationInfo) -> Duration {
    Duration::from_nanos(u64::try_from(message.nanoseconds).unwrap_or(0))
}
