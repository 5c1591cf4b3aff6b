//! LAUNCH of tasks that name an executor, and LAUNCH_GROUP.

use bytes::Bytes;
use mezzo_proto::internal::v1::{LaunchPosition, RunTask, RunTaskGroup, master_to_agent};
use mezzo_proto::storage::v1::Placement;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ExecutorId, Now, TaskId};
use prost::Message;

use super::walk::Walk;
use crate::effect::ViewChange;
use crate::executor::{Executor, ExecutorKey};
use crate::master::Master;
use crate::task::Task;
use crate::validation::{self, Context, ExecutorContext, Wanted};

/// Tag of `TaskInfo.executor`, a message.
const TASK_INFO_EXECUTOR: u8 = 5 << 3 | 2;

/// A task, and the bytes that it was received as.
pub(super) type Received = (v1::TaskInfo, Option<Bytes>);

/// Tasks for one executor, checked.
struct Checked {
    tasks: Vec<Received>,
    executor: v1::ExecutorInfo,
    wanted: Wanted,
}

impl Master {
    /// Validates a task that names an executor, and takes out of what is left what both need.
    pub(super) fn launch_in_executor(
        &mut self,
        now: Now,
        walk: &mut Walk,
        task: v1::TaskInfo,
        executor: v1::ExecutorInfo,
        bytes: Option<Bytes>,
    ) {
        let checked = self.check_executor(walk, &executor, |context, of, taken| {
            let context = Context { id_taken: taken(&task.task_id.value), ..context };
            validation::executor_task(&task, &executor, &context, &of)
        });
        match checked {
            Ok(wanted) => {
                let checked = Checked { tasks: vec![(task, bytes)], executor, wanted };
                self.launch_checked(walk, checked, false);
            }
            Err(message) => {
                let (framework, agent) = (&walk.framework, &walk.agent);
                let reason = Reason::TaskInvalid;
                self.task_error(now, framework, &task.task_id, agent, reason, &message);
            }
        }
    }

    /// Validates a task group: all of its tasks are launched, or none.
    pub(super) fn launch_group(
        &mut self,
        now: Now,
        walk: &mut Walk,
        group: v1::offer::operation::LaunchGroup,
        bytes: Vec<Bytes>,
    ) {
        let executor = group.executor;
        let tasks = group.task_group.tasks;
        let checked = self.check_executor(walk, &executor, |context, of, taken| {
            validation::task_group(&tasks, &executor, &context, &of, taken)
        });
        match checked {
            Ok(wanted) => {
                let mut bytes = bytes.into_iter();
                // The executor gets to know of itself with every task, as in Mesos.
                let tasks = tasks.into_iter().map(|mut task| {
                    let mut bytes = bytes.next();
                    if task.executor.is_none() {
                        bytes = bytes.map(|bytes| with_executor(&bytes, &executor));
                        task.executor = Some(executor.clone());
                    }
                    (task, bytes)
                });
                let tasks = tasks.collect();
                self.launch_checked(walk, Checked { tasks, executor, wanted }, true);
            }
            Err(message) => {
                let message = format!("Task group is invalid: {message}");
                for task in tasks {
                    let (framework, agent) = (&walk.framework, &walk.agent);
                    let reason = Reason::TaskGroupInvalid;
                    self.task_error(now, framework, &task.task_id, agent, reason, &message);
                }
            }
        }
    }

    /// Gives a check what it is to check against.
    fn check_executor(
        &self,
        walk: &Walk,
        executor: &v1::ExecutorInfo,
        check: impl FnOnce(
            Context<'_>,
            ExecutorContext<'_>,
            &dyn Fn(&str) -> bool,
        ) -> Result<Wanted, String>,
    ) -> Result<Wanted, String> {
        let Some(framework) = self.frameworks.get(&walk.framework) else {
            return Err("the framework is gone".to_owned());
        };
        let available = walk.available();
        let context = Context {
            agent: &walk.agent,
            role: &walk.role,
            remaining: &available,
            framework_user: &framework.info.user,
            root_submissions: self.config.root_submissions,
            id_taken: false,
        };
        let key: ExecutorKey = (walk.framework.clone(), (&executor.executor_id).into());
        let known = self.agents.get(&walk.agent).and_then(|agent| agent.executors.get(&key));
        let of = ExecutorContext {
            framework: &walk.framework,
            known: known.map(|known| (&known.info, known.role.as_str())),
        };
        let taken = |id: &str| framework.tasks.contains_key(id);
        check(context, of, &taken)
    }

    fn launch_checked(&mut self, walk: &mut Walk, checked: Checked, group: bool) {
        let Checked { tasks, executor, wanted } = checked;
        let Some(framework) = self.frameworks.get(&walk.framework) else { return };
        let framework_info = Some(framework.info.clone());
        let Some(launch) = self.next_order(&walk.agent) else { return };
        let launch_executor = wanted.executor.is_some();
        let executor_id = ExecutorId::from(&executor.executor_id);
        if let Some(resources) = wanted.executor {
            self.take(walk, &resources);
            let mut info = executor.clone();
            info.framework_id = Some((&walk.framework).into());
            let key = (walk.framework.clone(), executor_id.clone());
            let executor = Executor { info, role: walk.role.clone(), resources };
            self.add_executor(&walk.agent, key, executor);
        }
        let kind = if group { OperationType::LaunchGroup } else { OperationType::Launch };
        self.statistics.operation_of(&walk.framework, kind);
        let mut task_infos = Vec::new();
        for ((task, bytes), resources) in tasks.into_iter().zip(wanted.tasks) {
            self.take(walk, &resources);
            task_infos.push(bytes.unwrap_or_else(|| task.encode_to_vec().into()));
            let id = TaskId::from(&task.task_id);
            walk.placements.push(Placement {
                framework_id: walk.framework.to_string(),
                task_id: id.to_string(),
                agent_id: walk.agent.to_string(),
                role: walk.role.clone(),
                resources: resources.to_proto(),
                launch_term: launch.term,
                launch_sequence: launch.sequence,
            });
            let placed = Task {
                framework: walk.framework.clone(),
                id: id.clone(),
                agent: walk.agent.clone(),
                role: walk.role.clone(),
                resources,
                launch,
                executor: Some(executor_id.clone()),
                described: true,
                state: TaskState::TaskStaging,
                last_status: None,
                unacknowledged: None,
                acknowledged: None,
                holds_resources: true,
                kill: None,
                unreachable_since_unix_ns: None,
                counted: None,
            };
            self.place_task(walk, placed, &task);
        }
        let position = Some(LaunchPosition { term: launch.term, sequence: launch.sequence });
        walk.orders.push(if group {
            master_to_agent::Message::RunTaskGroup(Box::new(RunTaskGroup {
                position,
                framework_info,
                executor_info: Some(executor),
                task_infos,
                launch_executor,
            }))
        } else {
            let task_info = task_infos.pop().unwrap_or_default();
            master_to_agent::Message::RunTask(Box::new(RunTask {
                position,
                framework_info,
                task_info,
                launch_executor,
            }))
        });
    }

    fn place_task(&mut self, walk: &Walk, mut task: Task, info: &v1::TaskInfo) {
        let id = task.id.clone();
        if let Some(agent) = self.agents.get_mut(&walk.agent) {
            agent.tasks.insert((walk.framework.clone(), id.clone()));
        }
        task.count(&mut self.statistics);
        self.view(ViewChange::Task(task.to_view(Some(info))));
        if let Some(framework) = self.frameworks.get_mut(&walk.framework) {
            framework.tasks.insert(id, task);
        }
    }
}

/// A TaskInfo with an executor that it did not have, and all else as it was received.
fn with_executor(task: &Bytes, executor: &v1::ExecutorInfo) -> Bytes {
    let mut bytes = Vec::with_capacity(task.len() + executor.encoded_len() + 8);
    bytes.extend_from_slice(task);
    bytes.push(TASK_INFO_EXECUTOR);
    bytes.extend(executor.encode_length_delimited_to_vec());
    bytes.into()
}
