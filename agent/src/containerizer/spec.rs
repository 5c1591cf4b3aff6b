//! What goes into the containerizer and what comes out.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mezzo_agent_core::{CheckKind, CheckOutcome, Probe, Workload};
use mezzo_proto::v1;
use mezzo_types::{AgentId, ContainerId, ExecutorId, FrameworkId, Resources};

use crate::isolators::Limitation;

/// A command task, or an executor, to run in a container of its own.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// New, never used before.
    pub container_id: ContainerId,
    pub agent_id: AgentId,
    pub framework_id: FrameworkId,
    pub executor_id: ExecutorId,
    pub framework: Arc<v1::FrameworkInfo>,
    pub workload: Workload,
    /// Name of the user to run as.
    pub user: String,
    pub resources: Resources,
}

/// An order to look at a container once.
#[derive(Clone, Debug)]
pub struct Check {
    pub kind: CheckKind,
    pub probe: Probe,
    pub timeout: Option<Duration>,
}

impl LaunchSpec {
    pub(super) fn task(&self) -> Option<&v1::TaskInfo> {
        match &self.workload {
            Workload::Task(task) => Some(task),
            Workload::Executor(_) => None,
        }
    }

    pub(super) fn executor(&self) -> Option<&v1::ExecutorInfo> {
        match &self.workload {
            Workload::Task(_) => None,
            Workload::Executor(executor) => Some(executor),
        }
    }

    pub(super) fn command(&self) -> Option<&v1::CommandInfo> {
        match &self.workload {
            Workload::Task(task) => task.command.as_ref(),
            Workload::Executor(executor) => executor.command.as_ref(),
        }
    }

    pub(super) fn container(&self) -> Option<&v1::ContainerInfo> {
        match &self.workload {
            Workload::Task(task) => task.container.as_ref(),
            Workload::Executor(executor) => executor.container.as_ref(),
        }
    }

    pub(super) fn uris(&self) -> &[v1::command_info::Uri] {
        self.command().map(|command| command.uris.as_slice()).unwrap_or_default()
    }
}

/// Where the parts of a container are: what its record keeps. They follow from its ids alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Absolute.
    pub sandbox: PathBuf,
    /// Below each hierarchy's mount point, with a leading '/'.
    pub cgroup: String,
    /// Name of the exit file, in the agent's runtime directory.
    pub exit_file: String,
}

/// How far a launch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchStage {
    /// Reading the task: its command, environment, user, limits.
    Task,
    Sandbox,
    /// Fetching its URIs.
    Fetch,
    /// Control groups and limits.
    Isolate,
    /// The launcher and what it does up to the execution of the command.
    Launch,
}

impl fmt::Display for LaunchStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LaunchStage::Task => "task",
            LaunchStage::Sandbox => "sandbox",
            LaunchStage::Fetch => "fetch",
            LaunchStage::Isolate => "isolate",
            LaunchStage::Launch => "launch",
        })
    }
}

/// How a container's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The wait status as `wait(2)` gives it.
    Status(i32),
    /// Nobody saw it.
    Unknown,
}

/// What happens to containers. For each one that is launched, in this order: `Prepared`?, then `Started` or `LaunchFailed`, then
/// `Limited`?, then `Exited` if it started. `Updated` answers each `update` while the container lives. `Destroyed` answers each `destroy` and is the last one; nothing is destroyed without that order.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerEvent {
    /// Everything is in place, no process yet. The places are those that [`Containerizer::places`](super::Containerizer::places)
    /// told already, so a record may be written before the launch is ordered.
    Prepared { container: ContainerId, places: Places },
    /// The command was executed. `pid` is the container's first process, its init.
    Started { container: ContainerId, pid: i32, start_time_ticks: u64 },
    /// The container may use what it was given with this number; or why not.
    Updated { container: ContainerId, grant: u64, result: Result<(), String> },
    /// The command was never executed. `message` is a sentence for the framework.
    LaunchFailed { container: ContainerId, stage: LaunchStage, message: String },
    /// The container breached a limit: destroy it.
    Limited { container: ContainerId, limitation: Limitation },
    /// What came of a look at the container; answers a `check` unless the container ended meanwhile. Between `Started` and `Exited`.
    Checked { container: ContainerId, kind: CheckKind, outcome: CheckOutcome },
    /// The command ended. Processes that it left may still run.
    Exited { container: ContainerId, ending: Ending },
    /// No process and no control group is left; sandbox and exit file stay.
    Destroyed { container: ContainerId },
}

/// What is left of a container after a restart of the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// No command ever ran in it.
    NotStarted,
    /// The launcher is at it: [`ContainerEvent::Started`] or [`ContainerEvent::LaunchFailed`] will tell.
    Launching,
    /// As [`ContainerEvent::LaunchFailed`] would have told. Also when the launcher was or was about to be asked,
    /// none knows anything, and nothing is left.
    Failed {
        message: String,
    },
    Running {
        pid: i32,
        start_time_ticks: u64,
        limitation: Option<Limitation>,
    },
    Ended {
        ending: Ending,
        limitation: Option<Limitation>,
    },
}
