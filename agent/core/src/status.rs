//! Statuses that the agent makes.

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::network_info::IpAddress;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_types::{ContainerId, FrameworkId, Now};

use crate::checks::empty_status;
use crate::core::Core;
use crate::task::TaskKey;

impl Core {
    /// A status of the task in `state`, with everything in it that does not depend on the occasion.
    /// It gets its uuid when it is reported.
    pub(crate) fn status(
        &self,
        now: Now,
        key: &TaskKey,
        state: TaskState,
        source: Source,
    ) -> v1::TaskStatus {
        let task = self.tasks.get(key);
        let container = task.and_then(|task| task.container.as_ref());
        let pid = task.and_then(|task| task.pid);
        v1::TaskStatus {
            task_id: (&key.1).into(),
            state: state as i32,
            source: Some(source as i32),
            agent_id: self.agent_id().cloned(),
            executor_id: Some(self.executor_of(key)),
            timestamp: Some(now.unix_secs_f64()),
            container_status: container.map(|id| self.container_status(id, pid)),
            // What is said of a command task with a check always has it, be it that nothing is known.
            check_status: task
                .filter(|task| source == Source::Executor && task.part.is_none())
                .and_then(|task| task.info.check.as_ref())
                .and_then(empty_status),
            ..v1::TaskStatus::default()
        }
    }

    /// A status that only the agent itself can know the reason of.
    pub(crate) fn agent_status(
        &self,
        now: Now,
        key: &TaskKey,
        state: TaskState,
        reason: Reason,
        message: impl Into<String>,
    ) -> v1::TaskStatus {
        v1::TaskStatus {
            reason: Some(reason as i32),
            message: Some(message.into()),
            ..self.status(now, key, state, Source::Agent)
        }
    }

    /// A command task is its own executor.
    fn executor_of(&self, key: &TaskKey) -> v1::ExecutorId {
        match self.tasks.get(key).and_then(|task| task.executor()) {
            Some(executor) => executor.into(),
            None => v1::ExecutorId { value: crate::record::text(&key.1) },
        }
    }

    pub(crate) fn container_status(
        &self,
        id: &ContainerId,
        pid: Option<i32>,
    ) -> v1::ContainerStatus {
        let address =
            IpAddress { ip_address: Some(self.config.ip.clone()), ..IpAddress::default() };
        let network = v1::NetworkInfo { ip_addresses: vec![address], ..v1::NetworkInfo::default() };
        v1::ContainerStatus {
            container_id: Some(id.to_proto()),
            network_infos: vec![network],
            executor_pid: pid.and_then(|pid| u32::try_from(pid).ok()),
            ..v1::ContainerStatus::default()
        }
    }

    /// The state that tells a framework of a loss: `precise` if it can tell losses apart, else
    /// TASK_LOST. That of a framework nobody knows here may be an older one.
    pub(crate) fn lost_or(&self, framework: &FrameworkId, precise: TaskState) -> TaskState {
        let aware = self
            .frameworks
            .get(framework)
            .is_some_and(|framework| framework.can(capability::Type::PartitionAware));
        if aware { precise } else { TaskState::TaskLost }
    }
}
