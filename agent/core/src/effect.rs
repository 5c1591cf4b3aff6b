//! What the core tells the shell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mezzo_proto::internal::v1::{AgentToMaster, LaunchPosition};
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, DrainRecord, ExecutorRecord, OperationRecord, ResourcesRecord,
    TaskRecord,
};
use mezzo_proto::v1;
use mezzo_types::{
    AgentId, ContainerId, ExecutorId, FrameworkId, Position, Resources, TaskId, Uuid16,
};

use crate::checks::{CheckKind, Probe};
use crate::executor::{ExecutorPhase, ExecutorRefusal};
use crate::input::{ExecutorStreamId, LinkId, RequestId};

/// Carried out in order. What has an `after` waits until that position is durable, and everything
/// with an `after` behind it waits too: so a container is launched before it is signalled.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The nth one has position n.
    Persist(Persist),
    Send {
        link: LinkId,
        message: Box<AgentToMaster>,
        after: Position,
    },
    /// The core is done with the link; the shell closes it and may open another.
    CloseLink {
        link: LinkId,
        reason: String,
    },
    Launch {
        launch: Box<Launch>,
        after: Position,
    },
    /// The container's resources changed to these. Answered by `Updated` with the same `grant`, unless the container ends.
    Update {
        container: ContainerId,
        of: (FrameworkId, ExecutorId),
        resources: Resources,
        grant: u64,
        after: Position,
    },
    /// To the command, by way of the container's init.
    Signal {
        container: ContainerId,
        signal: i32,
        after: Position,
    },
    /// Kill what is left of the container, or stop its launch, and clean up. Answered by
    /// `Destroyed` always, by `Exited` before it if a command ran.
    Destroy {
        container: ContainerId,
        after: Position,
    },
    /// Look at the task once, from inside its container; for `timeout` at most, if there is one. A container is
    /// looked at by one check of each kind at a time.
    Check {
        container: ContainerId,
        kind: CheckKind,
        probe: Box<Probe>,
        timeout: Option<Duration>,
    },
    /// The answer to a call of an executor. Of SUBSCRIBE it comes before the events.
    ExecutorAnswer {
        request: RequestId,
        result: Result<ExecutorAnswer, ExecutorRefusal>,
        after: Position,
    },
    ExecutorEvent {
        stream: ExecutorStreamId,
        event: Box<ExecutorEvent>,
        after: Position,
    },
    /// The core is done with the stream: it ends once what was sent before has left.
    CloseExecutor {
        stream: ExecutorStreamId,
        reason: String,
        after: Position,
    },
    /// Make the directories of new volumes. Answered by `VolumesMade`.
    MakeVolumes {
        operation: Uuid16,
        volumes: Resources,
        after: Position,
    },
    /// Move the directories of destroyed volumes away, at once, and delete them when there is time. Those
    /// that are not there were moved away before.
    RemoveVolumes {
        volumes: Resources,
        after: Position,
    },
    View(ViewChange),
    /// The agent left the cluster (or was barred from it, and why): the process may end.
    Left {
        reason: Option<String>,
        after: Position,
    },
}

/// Records that change together.
#[derive(Clone, Debug, Default)]
pub struct Persist {
    pub changes: Vec<Change>,
    /// The records outlive a boot: they must reach the disk, not only the kernel.
    pub synced: bool,
}

#[derive(Clone, Debug)]
pub enum Change {
    PutIdentity(Box<AgentIdentity>),
    /// The agent is no member of a cluster any more.
    DeleteIdentity,
    PutLastLaunch(LaunchPosition),
    PutTask(FrameworkId, TaskId, Box<TaskRecord>),
    DeleteTask(FrameworkId, TaskId),
    /// `sandbox`, `cgroup` and `exit_file` are the shell's to fill in: it chooses them.
    PutContainer(Box<ContainerRecord>),
    DeleteContainer(ContainerId),
    PutExecutor(FrameworkId, ExecutorId, Box<ExecutorRecord>),
    DeleteExecutor(FrameworkId, ExecutorId),
    PutResources(Box<ResourcesRecord>),
    PutOperation(Uuid16, Box<OperationRecord>),
    DeleteOperation(Uuid16),
    /// The agent is drained, or is not any more.
    PutDrain(Option<DrainRecord>),
}

/// A call of an executor that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorAnswer {
    /// The stream is open (HTTP 200).
    Subscribed,
    /// Taken (HTTP 202).
    Accepted,
}

/// What an executor is told. Its tasks go as the framework sent them: what this release does not know of them
/// must reach the executor.
#[derive(Clone, Debug)]
pub enum ExecutorEvent {
    Launch(TaskForExecutor),
    LaunchGroup(Vec<TaskForExecutor>),
    /// Any other event.
    Other(v1::executor::Event),
}

/// A task as received, and as understood.
#[derive(Clone, Debug)]
pub struct TaskForExecutor {
    pub raw: Bytes,
    pub info: Arc<v1::TaskInfo>,
}

/// Everything needed to start a container.
#[derive(Clone, Debug)]
pub struct Launch {
    pub container: ContainerId,
    pub agent_id: AgentId,
    pub framework_id: FrameworkId,
    pub framework: Arc<v1::FrameworkInfo>,
    /// The task's id: a command task is its own executor.
    pub executor_id: ExecutorId,
    pub workload: Workload,
    /// Name of the user to run as.
    pub user: String,
    pub resources: Resources,
}

/// What a container is for.
#[derive(Clone, Debug)]
pub enum Workload {
    /// A command task.
    Task(Arc<v1::TaskInfo>),
    /// An executor, which runs tasks in its container.
    Executor(Arc<v1::ExecutorInfo>),
}

/// A change of what readers see.
#[derive(Clone, Debug)]
pub enum ViewChange {
    Agent(Box<v1::AgentInfo>),
    /// The term of the master that the agent is registered with.
    Registered(Option<u64>),
    /// The agent is drained, by which order and since when; or is not any more.
    Drain(Option<(v1::DrainConfig, i64)>),
    Framework(FrameworkId, Arc<v1::FrameworkInfo>),
    FrameworkGone(FrameworkId),
    Task(Box<TaskView>),
    /// Ended and acknowledged (or forsaken): history.
    TaskGone(FrameworkId, TaskId),
    Executor(Box<ExecutorView>),
    /// Ended: history.
    ExecutorGone(FrameworkId, ExecutorId),
    /// What the agent has, as operations left it.
    Total(Box<Resources>),
    /// An operation that was carried out, or was not.
    Operation(Box<v1::Operation>),
    /// Its ending was acknowledged.
    OperationGone(Uuid16),
}

/// An executor as readers see it. Command tasks have none.
#[derive(Clone, Debug)]
pub struct ExecutorView {
    pub framework_id: FrameworkId,
    pub executor_id: ExecutorId,
    pub info: Arc<v1::ExecutorInfo>,
    pub container: ContainerId,
    /// Of the container's first process, once it was started.
    pub pid: Option<i32>,
    pub phase: ExecutorPhase,
    /// What the container may use: the executor's resources and those of its tasks.
    pub resources: Resources,
}

/// A task as readers see it.
#[derive(Clone, Debug)]
pub struct TaskView {
    pub framework_id: FrameworkId,
    pub task_id: TaskId,
    /// `None` for a command task, which is its own executor.
    pub executor_id: Option<ExecutorId>,
    pub info: Arc<v1::TaskInfo>,
    pub container: Option<ContainerId>,
    /// Of the container's first process, once it was started.
    pub pid: Option<i32>,
    pub stage: TaskStage,
    /// It was not handed to its executor yet; never of a command task.
    pub waiting: bool,
    /// The newest status.
    pub status: Option<Box<v1::TaskStatus>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStage {
    Launching,
    Running,
    /// Its ending waits for the acknowledgement.
    Ended,
}
