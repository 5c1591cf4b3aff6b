//! Executors: processes of frameworks that run tasks.
//!
//! ```text
//!  first task ─► Registering ──SUBSCRIBE──► Subscribed ──SHUTDOWN──► Terminating ─► ended
//!                    │                        ▲    │                     ▲
//!                    │                        │    └─agent restarted─► Recovering
//!                    │                        └───────SUBSCRIBE──────────┤
//!                    └─registration timeout──────────────────────────────┘ re-registration timeout
//! ```
//!
//! One container holds an executor and its tasks; what it may use grows and shrinks with them. A task waits until its
//! executor has subscribed and the container may use the task's resources. An executor's end ends its tasks.
//! Command tasks have no executor.
//!
//! | module | what lives there |
//! |---|---|
//! | `order` | orders to run tasks in an executor |
//! | `container` | its container: started, changed, ended |
//! | `subscription` | SUBSCRIBE, and handing over what waits |
//! | `call` | its calls and their answers |
//! | `update` | its status updates |
//! | `shutdown` | kills, SHUTDOWN, and the times that it has |
//! | `recovery` | its part in the plan of a start |
//! | `validation` | what a call must have |

mod call;
mod container;
mod order;
mod recovery;
mod shutdown;
mod subscription;
mod update;
mod validation;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use mezzo_proto::internal::v1::AgentExecutor;
use mezzo_proto::storage::v1::{ExecutorRecord, executor_record};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, Resources, TaskId};

pub use call::ExecutorRefusal;
pub(crate) use order::ExecutorOrder;
pub use validation::validate_call;

use crate::core::Core;
use crate::effect::{Change, ExecutorView, ViewChange};
use crate::input::{ExecutorStreamId, Limitation};
use crate::record::text;
use crate::timers::Timer;

pub(crate) type ExecutorKey = (FrameworkId, ExecutorId);

/// An executor that has not ended.
#[derive(Debug)]
pub(crate) struct Executor {
    /// With `framework_id`.
    pub(crate) info: Arc<v1::ExecutorInfo>,
    pub(crate) container: ContainerId,
    pub(crate) phase: ExecutorPhase,
    pub(crate) stream: Option<ExecutorStreamId>,
    /// Of the container's first process, once it was started.
    pub(crate) pid: Option<i32>,
    /// Monotonic end of the time it has, to subscribe or to end.
    pub(crate) due_ns: Option<u64>,
    /// Its tasks that have not ended.
    pub(crate) tasks: BTreeSet<TaskId>,
    /// Those that were not handed over yet, in the order of their arrival.
    pub(crate) queue: VecDeque<Parcel>,
    /// A task was handed over once.
    pub(crate) served: bool,
    /// How often the resources of its container were changed, and the newest change that was confirmed.
    pub(crate) grants: u64,
    pub(crate) granted: u64,
    /// Why the agent ends it, which becomes the ending of its tasks.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) limitation: Option<Limitation>,
}

/// Where an executor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorPhase {
    /// Not subscribed yet; its tasks wait.
    Registering,
    /// It had subscribed when the agent was restarted, and is expected to do so again.
    Recovering,
    Subscribed,
    /// Asked to end, or being ended.
    Terminating,
}

/// Tasks that are handed over together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) group: bool,
    /// The change of the container's resources that makes room for them.
    pub(crate) grant: u64,
}

/// How tasks end with their executor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Executor {
    /// Neither of its tasks reached it nor can any: it would wait for ever.
    fn is_pointless(&self) -> bool {
        !self.served && self.queue.is_empty() && self.tasks.is_empty()
    }
}

impl Core {
    /// What the container of an executor may use: the executor's own resources and those of its tasks.
    pub(crate) fn executor_resources(&self, key: &ExecutorKey) -> Resources {
        let Some(executor) = self.executors.get(key) else { return Resources::default() };
        // They were read once before the order was taken.
        let read =
            |resources: &[v1::Resource]| Resources::from_proto(resources).unwrap_or_default();
        let mut total = read(&executor.info.resources);
        for id in &executor.tasks {
            if let Some(task) = self.tasks.get(&(key.0.clone(), id.clone())) {
                total += &read(&task.info.resources);
            }
        }
        total
    }

    pub(crate) fn executor_record(&self, key: &ExecutorKey) -> Option<Change> {
        let executor = self.executors.get(key)?;
        let framework = self.frameworks.get(&key.0)?;
        let mut record = ExecutorRecord {
            framework_info: Some((*framework.info).clone()),
            executor_info: Some((*executor.info).clone()),
            container_id: text(&executor.container),
            ..ExecutorRecord::default()
        };
        record.set_phase(match executor.phase {
            ExecutorPhase::Registering => executor_record::Phase::Registering,
            ExecutorPhase::Recovering | ExecutorPhase::Subscribed => {
                executor_record::Phase::Subscribed
            }
            ExecutorPhase::Terminating => executor_record::Phase::Terminating,
        });
        Some(Change::PutExecutor(key.0.clone(), key.1.clone(), Box::new(record)))
    }

    /// What a registration tells of executors.
    pub(crate) fn registered_executors(&self) -> Vec<AgentExecutor> {
        let told = |(key, executor): (&ExecutorKey, &Executor)| AgentExecutor {
            framework_id: text(&key.0),
            executor_info: Some((*executor.info).clone()),
        };
        self.executors.iter().map(told).collect()
    }

    pub(crate) fn insert_executor(
        &mut self,
        key: ExecutorKey,
        executor: Executor,
        owner: Arc<v1::FrameworkInfo>,
    ) {
        self.know_framework(&key.0, owner).executors += 1;
        self.executors.insert(key, executor);
    }

    /// Takes an executor that ended out of memory.
    pub(crate) fn drop_executor(&mut self, key: &ExecutorKey) -> Option<Executor> {
        let executor = self.executors.remove(key)?;
        if let Some(due) = executor.due_ns {
            self.timers.cancel(due, Timer::Executor(key.clone()));
        }
        if let Some(framework) = self.frameworks.get_mut(&key.0) {
            framework.executors -= 1;
        }
        self.view(ViewChange::ExecutorGone(key.0.clone(), key.1.clone()));
        Some(executor)
    }

    /// Sets the end of the time that an executor has; `None` for as long as it likes.
    pub(crate) fn set_executor_due(&mut self, key: &ExecutorKey, due_ns: Option<u64>) {
        let Some(executor) = self.executors.get_mut(key) else { return };
        let was = std::mem::replace(&mut executor.due_ns, due_ns);
        if let Some(was) = was {
            self.timers.cancel(was, Timer::Executor(key.clone()));
        }
        if let Some(due) = due_ns {
            self.timers.set(due, Timer::Executor(key.clone()));
        }
    }

    pub(crate) fn view_executor(&mut self, key: &ExecutorKey) {
        let Some(executor) = self.executors.get(key) else { return };
        let view = ExecutorView {
            framework_id: key.0.clone(),
            executor_id: key.1.clone(),
            info: executor.info.clone(),
            container: executor.container.clone(),
            pid: executor.pid,
            phase: executor.phase,
            resources: self.executor_resources(key),
        };
        self.view(ViewChange::Executor(Box::new(view)));
    }
}
