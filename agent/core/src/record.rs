//! What is written down of a task and of a container.

use mezzo_proto::storage::v1::{ContainerRecord, TaskRecord, task_record};
use mezzo_types::ContainerId;

use crate::core::Core;
use crate::effect::{Change, TaskStage};
use crate::task::{Cause, Owner, TaskKey};

/// An id as messages between agent and master have it.
pub(crate) fn text(id: &impl AsRef<str>) -> String {
    id.as_ref().to_owned()
}

impl Core {
    /// The task as it stands, with every update that waits.
    pub(crate) fn task_record(&self, key: &TaskKey) -> Option<Change> {
        let task = self.tasks.get(key)?;
        let framework = self.frameworks.get(&key.0)?;
        let phase = match (task.stage, task.kill) {
            (TaskStage::Ended, _) => task_record::Phase::Ended,
            (_, Some(_)) => task_record::Phase::Killing,
            (TaskStage::Launching, None) => task_record::Phase::Launching,
            (TaskStage::Running, None) => task_record::Phase::Running,
        };
        let health_failures =
            task.checks.as_ref().map_or(task.health_failures, |checks| checks.failures());
        let mut record = TaskRecord {
            framework_info: Some((*framework.info).clone()),
            task_info: task.raw.clone(),
            container_id: task.container.as_ref().map(text).unwrap_or_default(),
            phase: phase as i32,
            updates: self.updates.pending(key).map(|u| (*u.body.status).clone()).collect(),
            latest: task.latest.as_deref().cloned(),
            started_unix_ns: task.started_unix_ns.unwrap_or_default(),
            health_check_failures: health_failures,
            ..TaskRecord::default()
        };
        if let Some(part) = &task.part {
            record.executor_id = text(&part.executor);
            record.position = Some(part.position);
            record.group = part.group;
            record.delivered = part.delivered;
        }
        if let Some(kill) = task.kill {
            record.kill_ordered_unix_ns = kill.ordered_unix_ns;
            record.kill_grace_ns = match &task.part {
                // The executor's own time, unless somebody said so.
                Some(part) if part.kill_policy.is_none() => -1,
                _ => i64::try_from(kill.grace.as_nanos()).unwrap_or(i64::MAX),
            };
            record.set_kill_cause(match kill.cause {
                Cause::Ordered => task_record::KillCause::Ordered,
                Cause::CompletionTime => task_record::KillCause::CompletionTime,
                Cause::Unhealthy => task_record::KillCause::Unhealthy,
                Cause::Draining => task_record::KillCause::Draining,
            });
        }
        Some(Change::PutTask(key.0.clone(), key.1.clone(), Box::new(record)))
    }

    pub(crate) fn container_record(&self, id: &ContainerId) -> Option<Change> {
        let container = self.containers.get(id)?;
        let (pid, start_time_ticks) = container.started.unwrap_or_default();
        let (framework, executor_id, resources) = match &container.owner {
            Owner::Task(key) => {
                let resources = self.tasks.get(key).map(|task| task.info.resources.clone());
                (&key.0, text(&key.1), resources)
            }
            Owner::Executor(key) => {
                (&key.0, text(&key.1), Some(self.executor_resources(key).to_proto()))
            }
        };
        Some(Change::PutContainer(Box::new(ContainerRecord {
            container_id: text(id),
            framework_id: text(framework),
            executor_id,
            boot_id: self.config.boot_id.clone(),
            pid,
            start_time_ticks,
            resources: resources.unwrap_or_default(),
            ..ContainerRecord::default()
        })))
    }
}
