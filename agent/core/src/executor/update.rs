//! Status updates of executors: written down, then acknowledged to the executor and handed on.

use std::collections::BTreeMap;

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor::{call, event};
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_types::{Now, TaskId, Uuid16, is_terminal};

use super::ExecutorKey;
use crate::core::Core;
use crate::effect::TaskStage;
use crate::task::{Cause, TaskKey};

impl Core {
    /// Takes an update. One that was taken before, or comes after the task's ending, or is of a task that
    /// nobody asks for any more, is acknowledged: the executor need not send it again.
    pub(super) fn executor_update(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        mut status: v1::TaskStatus,
    ) {
        let task_key: TaskKey = (key.0.clone(), TaskId::from(&status.task_id));
        let Some(uuid) = status.uuid.as_deref().and_then(Uuid16::from_slice) else {
            self.statistics.updates_invalid += 1;
            return;
        };
        let task = self.tasks.get(&task_key).filter(|task| task.executor() == Some(&key.1));
        let Some(task) = task else {
            self.statistics.updates_invalid += 1;
            return self.acknowledge_to_executor(key, &task_key.1, uuid);
        };
        self.statistics.updates_valid += 1;
        let forsaken = task.forsaken;
        let terminal = is_terminal(status.state());
        if task.ended() || self.updates.knows(&task_key, uuid) || (forsaken && !terminal) {
            return self.acknowledge_to_executor(key, &task_key.1, uuid);
        }
        self.complete_status(now, key, &task_key, &mut status);
        let state = status.state();
        if forsaken {
            self.forget_task(&task_key);
        } else {
            if let Some(task) = self.tasks.get_mut(&task_key)
                && matches!(state, TaskState::TaskRunning | TaskState::TaskKilling)
            {
                task.stage = TaskStage::Running;
            }
            self.report_as(now, &task_key, uuid, status, Vec::new());
        }
        self.acknowledge_to_executor(key, &task_key.1, uuid);
    }

    /// What the agent knows better than the executor, and what it left out.
    fn complete_status(
        &self,
        now: Now,
        key: &ExecutorKey,
        task_key: &TaskKey,
        status: &mut v1::TaskStatus,
    ) {
        let own = self.status(now, task_key, status.state(), Source::Executor);
        status.source = own.source;
        status.agent_id = own.agent_id;
        status.executor_id = Some((&key.1).into());
        status.timestamp = status.timestamp.or(own.timestamp);
        let container = own.container_status.unwrap_or_default();
        let told = status.container_status.get_or_insert_default();
        told.container_id = told.container_id.take().or(container.container_id);
        told.executor_pid = told.executor_pid.or(container.executor_pid);
        if told.network_infos.is_empty() {
            told.network_infos = container.network_infos;
        }
        let drained = self.tasks.get(task_key).and_then(|task| task.kill);
        if drained.is_some_and(|kill| kill.cause == Cause::Draining)
            && matches!(status.state(), TaskState::TaskKilling | TaskState::TaskKilled)
        {
            status.reason = Some(Reason::AgentDraining as i32);
        }
    }

    /// Updates that the executor still holds when it subscribes. Those up to the newest that is known of a task
    /// were taken before; the framework may have acknowledged them since, which the agent forgets.
    pub(super) fn take_unacknowledged(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        updates: Vec<call::Update>,
    ) {
        let mut known: BTreeMap<TaskId, usize> = BTreeMap::new();
        for (at, update) in updates.iter().enumerate() {
            let id = TaskId::from(&update.status.task_id);
            let task = self.tasks.get(&(key.0.clone(), id.clone()));
            let newest = task.and_then(|task| task.latest.as_ref());
            if newest.is_some_and(|newest| newest.uuid == update.status.uuid) {
                known.insert(id, at);
            }
        }
        for (at, update) in updates.into_iter().enumerate() {
            let id = TaskId::from(&update.status.task_id);
            let uuid = update.status.uuid.as_deref().and_then(Uuid16::from_slice);
            match (known.get(&id), uuid) {
                (Some(last), Some(uuid)) if at <= *last => {
                    self.acknowledge_to_executor(key, &id, uuid);
                }
                // Mesos passes over what a call of its own would be refused for.
                _ if super::validation::update(&update.status, &key.1).is_err() => {
                    self.statistics.updates_invalid += 1;
                }
                _ => self.executor_update(now, key, update.status),
            }
        }
    }

    fn acknowledge_to_executor(&mut self, key: &ExecutorKey, task: &TaskId, uuid: Uuid16) {
        self.tell_executor(key, event::Type::Acknowledged, |event| {
            event.acknowledged = Some(event::Acknowledged {
                task_id: task.into(),
                uuid: bytes::Bytes::copy_from_slice(uuid.as_bytes()),
            });
        });
    }
}
