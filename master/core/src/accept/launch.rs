//! LAUNCH: tasks are checked, taken out of the offers and placed.

use bytes::Bytes;
use mezzo_proto::internal::v1::{LaunchPosition, RunTask, master_to_agent};
use mezzo_proto::storage::v1::Placement;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, FrameworkId, Now, Position, TaskId};
use prost::Message;

use super::walk::Walk;
use crate::effect::ViewChange;
use crate::master::Master;
use crate::status::from_master;
use crate::task::Task;
use crate::validation;

impl Master {
    /// Validates one task and takes its resources out of what is left.
    pub(super) fn launch(
        &mut self,
        now: Now,
        walk: &mut Walk,
        task: v1::TaskInfo,
        bytes: Option<Bytes>,
    ) {
        if let (Some(executor), None) = (&task.executor, &task.command) {
            let executor = executor.clone();
            return self.launch_in_executor(now, walk, task, executor, bytes);
        }
        let Some(framework) = self.frameworks.get(&walk.framework) else { return };
        let id = TaskId::from(&task.task_id);
        let context = validation::Context {
            agent: &walk.agent,
            role: &walk.role,
            remaining: &walk.available(),
            framework_user: &framework.info.user,
            root_submissions: self.config.root_submissions,
            id_taken: framework.tasks.contains_key(&id),
        };
        let wanted = match validation::task_info(&task, &context) {
            Ok(wanted) => wanted,
            Err(message) => {
                let reason = Reason::TaskInvalid;
                let (framework, agent) = (&walk.framework, &walk.agent);
                self.task_error(now, framework, &task.task_id, agent, reason, &message);
                return;
            }
        };
        let framework_info = framework.info.clone();
        self.take(walk, &wanted);
        let Some(launch) = self.next_order(&walk.agent) else { return };
        if let Some(agent) = self.agents.get_mut(&walk.agent) {
            agent.tasks.insert((walk.framework.clone(), id.clone()));
        }
        walk.placements.push(Placement {
            framework_id: walk.framework.to_string(),
            task_id: id.to_string(),
            agent_id: walk.agent.to_string(),
            role: walk.role.clone(),
            resources: wanted.to_proto(),
            launch_term: launch.term,
            launch_sequence: launch.sequence,
        });
        let task_info = bytes.unwrap_or_else(|| task.encode_to_vec().into());
        walk.orders.push(master_to_agent::Message::RunTask(Box::new(RunTask {
            position: Some(LaunchPosition { term: launch.term, sequence: launch.sequence }),
            framework_info: Some(framework_info),
            task_info,
            launch_executor: false,
        })));
        let mut placed = Task {
            framework: walk.framework.clone(),
            id: id.clone(),
            agent: walk.agent.clone(),
            role: walk.role.clone(),
            resources: wanted,
            launch,
            executor: None,
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
        placed.count(&mut self.statistics);
        self.statistics.operation_of(&walk.framework, OperationType::Launch);
        self.view(ViewChange::Task(placed.to_view(Some(&task))));
        if let Some(framework) = self.frameworks.get_mut(&walk.framework) {
            framework.tasks.insert(id, placed);
        }
    }

    /// Tasks have updates of their own: their operations have none.
    pub(super) fn refuse_launch_id(
        &mut self,
        now: Now,
        walk: &Walk,
        operation: &v1::offer::Operation,
    ) {
        let name = operation.r#type().as_str_name();
        let message = format!(
            "the operation has an 'id', which {name} cannot have: tasks are told of by task statuses"
        );
        let launch = operation.launch.iter().flat_map(|l| &l.task_infos);
        let group = operation.launch_group.iter().flat_map(|l| &l.task_group.tasks);
        for (task, reason) in launch
            .map(|task| (task, Reason::TaskInvalid))
            .chain(group.map(|task| (task, Reason::TaskGroupInvalid)))
        {
            let (framework, agent) = (&walk.framework, &walk.agent);
            self.task_error(now, framework, &task.task_id, agent, reason, &message);
        }
    }

    /// TASK_ERROR: the task was never launched.
    pub(super) fn task_error(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        task: &v1::TaskId,
        agent: &AgentId,
        reason: Reason,
        message: &str,
    ) {
        let state = TaskState::TaskError;
        let status =
            from_master(now, &TaskId::from(task), Some(agent), state, Some(reason), message);
        self.statistics.task_moved(None, Some(state as i32));
        self.statistics.task_moved(Some(state as i32), None);
        self.statistics.task_ended(framework, &status);
        self.send_status(framework, status, Position(0));
    }
}
