//! RECONCILE: what the master knows of tasks, told again.
//!
//! The table is Mesos' (`src/master/master.cpp`, `docs/reconciliation.md`).

use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::call;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, FrameworkId, Now, Position, TaskId};

use crate::master::Master;
use crate::status::{from_master, lost_or, time_info};
use crate::task::Task;

impl Master {
    /// Explicit (tasks named) or implicit (none named: one update for every known task).
    pub(crate) fn reconcile(&mut self, now: Now, id: &FrameworkId, call: &call::Reconcile) {
        if !call.tasks.is_empty() {
            for asked in &call.tasks {
                self.reconcile_one(now, id, asked);
            }
            return;
        }
        let known: Vec<TaskId> = match self.frameworks.get(id) {
            Some(framework) => framework.tasks.keys().cloned().collect(),
            None => return,
        };
        for task in known {
            self.send_known(now, id, &task);
        }
    }

    /// Answers for one task, or stays silent while an agent that may know it is still expected.
    pub(crate) fn reconcile_one(
        &mut self,
        now: Now,
        id: &FrameworkId,
        asked: &call::reconcile::Task,
    ) {
        let task = TaskId::from(&asked.task_id);
        if self.send_known(now, id, &task) {
            return;
        }
        let Some(framework) = self.frameworks.get(id) else { return };
        let aware = framework.partition_aware();
        let agent = asked.agent_id.as_ref().map(AgentId::from);
        let (state, since, message) = match &agent {
            None if !self.recovered.is_empty() => return,
            None => (TaskState::TaskUnknown, None, "the task is unknown".to_owned()),
            Some(agent) if self.recovered.contains(agent) => return,
            Some(agent) => match self.agents.get(agent) {
                Some(known) => match known.unreachable_since_unix_ns {
                    Some(since) => (
                        TaskState::TaskUnreachable,
                        Some(since),
                        format!("the task is unknown and agent '{agent}' is unreachable"),
                    ),
                    None => (
                        TaskState::TaskGone,
                        None,
                        format!("agent '{agent}' is registered and does not know the task"),
                    ),
                },
                None if self.gone.contains_key(agent) => (
                    TaskState::TaskGoneByOperator,
                    None,
                    format!("an operator marked agent '{agent}' as gone"),
                ),
                None => (
                    TaskState::TaskUnknown,
                    None,
                    format!("the task and agent '{agent}' are unknown"),
                ),
            },
        };
        let state = lost_or(aware, state);
        let reason = Some(Reason::Reconciliation);
        let message = format!("Reconciliation: {message}");
        let mut status = from_master(now, &task, agent.as_ref(), state, reason, message);
        if let Some(since) = since
            && aware
        {
            status.unreachable_time = Some(time_info(since));
        }
        self.send_status(id, status, Position(0));
    }

    /// The latest state of a known task; `false` if it is not known. A new master that has not heard the
    /// task's agent yet knows the task but no state, and an older one would contradict what was told: the
    /// agent's word is waited for.
    fn send_known(&mut self, now: Now, id: &FrameworkId, task: &TaskId) -> bool {
        let Some(framework) = self.frameworks.get(id) else { return false };
        let Some(task) = framework.tasks.get(task) else { return false };
        let unheard = !task.described && task.unreachable_since_unix_ns.is_none();
        if unheard && self.agents.get(&task.agent).is_some_and(|agent| agent.link.is_none()) {
            return true;
        }
        let status = latest(now, task, framework.partition_aware());
        self.send_status(id, status, Position(0));
        true
    }
}

fn latest(now: Now, task: &Task, aware: bool) -> mezzo_proto::v1::TaskStatus {
    let reason = Some(Reason::Reconciliation);
    let message = "Reconciliation: Latest task state";
    match task.unreachable_since_unix_ns {
        Some(since) => {
            let state = lost_or(aware, TaskState::TaskUnreachable);
            let mut status = from_master(now, &task.id, Some(&task.agent), state, reason, message);
            status.unreachable_time = aware.then(|| time_info(since));
            status
        }
        None => {
            let mut status =
                from_master(now, &task.id, Some(&task.agent), task.state, reason, message);
            status.executor_id = task.executor.as_ref().map(Into::into);
            if let Some(last) = &task.last_status {
                status.container_status = last.container_status.clone();
                status.healthy = last.healthy;
                status.check_status = last.check_status;
            }
            status
        }
    }
}
