//! What `/state` tells, seen at one moment.

use std::sync::Arc;

use mezzo_agent_core::{ExecutorView, TaskStage};
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{GetFrameworks, GetTasks};
use mezzo_types::{ExecutorId, FrameworkId, Resources};

use super::{Entry, View};

/// Who the agent is, what it has, and what runs on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    pub(crate) agent: v1::AgentInfo,
    pub(crate) registered: bool,
    /// As [`View::drain`] tells it.
    pub(crate) drain: Option<(v1::DrainConfig, i64)>,
    /// What the agent has, as operations left it.
    pub(crate) total: Resources,
    /// What tasks that have not ended and executors have.
    pub(crate) used: Resources,
    pub(crate) tasks: GetTasks,
    /// What frameworks said of the queued ones among them.
    pub(crate) waiting: Vec<WaitingTask>,
    pub(crate) executors: Vec<Executor>,
    pub(crate) completed_executors: Vec<Executor>,
    pub(crate) frameworks: GetFrameworks,
}

/// A task that was not handed to its executor yet.
#[derive(Clone, Debug)]
pub(crate) struct WaitingTask {
    pub(crate) framework: FrameworkId,
    pub(crate) executor: ExecutorId,
    pub(crate) info: Arc<v1::TaskInfo>,
}

/// An executor, or what stands for that of a command task.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub(crate) info: v1::ExecutorInfo,
    /// What it has beside its tasks' resources: of a command task nothing, for that is its own executor.
    pub(crate) own: Resources,
}

impl Executor {
    pub(super) fn of(executor: &ExecutorView) -> Self {
        let own = Resources::from_proto(&executor.info.resources).unwrap_or_default();
        Executor { info: (*executor.info).clone(), own }
    }
}

impl View {
    /// All of it from the same moment.
    pub(crate) fn overview(&self) -> Overview {
        let state = self.read();
        let waits = |entry: &&Entry| entry.task.waiting && entry.task.stage != TaskStage::Ended;
        let waiting = |entry: &Entry| WaitingTask {
            framework: entry.task.framework_id.clone(),
            executor: entry.executor_id(),
            info: entry.task.info.clone(),
        };
        Overview {
            agent: state.agent.as_deref().cloned().unwrap_or_default(),
            registered: state.registered.is_some(),
            drain: state.drain,
            total: state.total.clone(),
            used: state.used(),
            tasks: state.tasks(),
            waiting: state.tasks.values().filter(waits).map(waiting).collect(),
            executors: state.executors().collect(),
            completed_executors: state.completed_executors().collect(),
            frameworks: state.frameworks(),
        }
    }
}
