//! An executor's container: started, changed, ended.

use mezzo_proto::internal::v1::{ExecutorExited, agent_to_master};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ContainerId, ExecutorId, Now, TaskId};

use super::{ExecutorKey, ExecutorPhase, Verdict};
use crate::core::Core;
use crate::effect::{Change, Effect};
use crate::ending::exit_sentence;
use crate::input::{Ending, Limitation};
use crate::record::text;
use crate::task::{Cause, TaskKey};

impl Core {
    /// Has the container use what the executor and its tasks were given by now. What waits for it is handed
    /// over when that is confirmed.
    pub(crate) fn grant(&mut self, key: &ExecutorKey) {
        let resources = self.executor_resources(key);
        let Some(executor) = self.executors.get_mut(key) else { return };
        if executor.phase == ExecutorPhase::Terminating {
            return;
        }
        executor.grants += 1;
        let (container, grant) = (executor.container.clone(), executor.grants);
        let record = self.container_record(&container);
        self.persist(record.into_iter().collect(), false);
        let after = self.position;
        let of = key.clone();
        self.effects.push_back(Effect::Update { container, of, resources, grant, after });
        self.view_executor(key);
    }

    pub(crate) fn updated(&mut self, id: &ContainerId, grant: u64, result: Result<(), String>) {
        let Some(key) = self.executor_in(id) else { return };
        let Some(executor) = self.executors.get_mut(&key) else { return };
        match result {
            Ok(()) => {
                executor.granted = executor.granted.max(grant);
                self.deliver(&key);
            }
            Err(message) => {
                let state = self.lost_or(&key.0, TaskState::TaskGone);
                let message = format!("Failed to update resources for container: {message}");
                let reason = Reason::ContainerUpdateFailed;
                self.end_executor(&key, Verdict { state, reason, message });
            }
        }
    }

    /// The executor whose container it is, unless it has ended.
    fn executor_in(&self, id: &ContainerId) -> Option<ExecutorKey> {
        match &self.containers.get(id)?.owner {
            crate::task::Owner::Executor(key) => Some(key.clone()),
            crate::task::Owner::Task(_) => None,
        }
        .filter(|key| self.executors.get(key).is_some_and(|executor| executor.container == *id))
    }

    pub(crate) fn executor_started(&mut self, key: &ExecutorKey, id: &ContainerId, pid: i32) {
        let changes = self.container_record(id).into_iter().collect();
        self.persist(changes, false);
        let Some(executor) = self.executors.get_mut(key) else { return };
        if executor.container != *id {
            return;
        }
        executor.pid = Some(pid);
        let tasks = executor.tasks.clone();
        for task in tasks {
            if let Some(task) = self.tasks.get_mut(&(key.0.clone(), task)) {
                task.pid = Some(pid);
            }
        }
        self.view_executor(key);
    }

    pub(crate) fn executor_unlaunched(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        id: &ContainerId,
        message: &str,
    ) {
        let verdict = Verdict {
            state: TaskState::TaskFailed,
            reason: Reason::ContainerLaunchFailed,
            message: format!("Failed to launch container: {message}"),
        };
        if let Some(executor) = self.executors.get_mut(key).filter(|known| known.container == *id) {
            executor.verdict.get_or_insert(verdict);
        }
        self.executor_ended(now, key, id, Ending::Unknown);
        self.destroy(Some(id.clone()));
    }

    pub(crate) fn executor_limited(
        &mut self,
        key: &ExecutorKey,
        id: &ContainerId,
        limitation: Limitation,
    ) {
        if let Some(executor) = self.executors.get_mut(key).filter(|known| known.container == *id) {
            executor.limitation.get_or_insert(limitation);
        }
        self.destroy(Some(id.clone()));
    }

    pub(crate) fn executor_exited(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        id: &ContainerId,
        ending: Ending,
    ) {
        self.executor_ended(now, key, id, ending);
        // What it left behind, and the container's cgroups.
        self.destroy(Some(id.clone()));
    }

    pub(crate) fn executor_destroyed(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        id: &ContainerId,
        started: bool,
    ) {
        // Its ending should have come before; no task may wait for what cannot come any more.
        if started {
            self.executor_ended(now, key, id, Ending::Unknown);
        } else {
            let message = "the launch was given up";
            self.executor_unlaunched(now, key, id, message);
        }
        self.containers.remove(id);
        self.persist(vec![Change::DeleteContainer(id.clone())], false);
        self.go_if_ended();
    }

    /// Ends every task that the executor had, forgets it, and tells the master.
    fn executor_ended(&mut self, now: Now, key: &ExecutorKey, id: &ContainerId, ending: Ending) {
        if self.executors.get(key).is_none_or(|executor| executor.container != *id) {
            return;
        }
        let Some(executor) = self.drop_executor(key) else { return };
        self.statistics.executors_ended += 1;
        if let Some(stream) = executor.stream {
            self.close_executor_stream(stream, "the executor ended");
        }
        for task in &executor.tasks {
            let task: TaskKey = (key.0.clone(), task.clone());
            let status = self.ending_with(now, &task, &executor, ending);
            self.end(now, &task, status);
        }
        let gone = Change::DeleteExecutor(key.0.clone(), key.1.clone());
        self.persist(vec![gone], false);
        self.tell_executor_exit(key, ending);
        self.drop_framework_if_idle(&key.0);
    }

    /// How a task ends with its executor.
    fn ending_with(
        &self,
        now: Now,
        key: &TaskKey,
        executor: &super::Executor,
        ending: Ending,
    ) -> v1::TaskStatus {
        let task = self.tasks.get(key);
        let kill = task.and_then(|task| task.kill);
        let delivered = task.and_then(|task| task.part.as_ref()).is_some_and(|part| part.delivered);
        if let Some(limitation) = &executor.limitation {
            let limited = v1::TaskResourceLimitation { resources: limitation.resources.clone() };
            let (reason, message) = (limitation.reason, &limitation.message);
            let state = TaskState::TaskFailed;
            let mut status = self.agent_status(now, key, state, reason, message);
            status.limitation = Some(limited);
            return status;
        }
        if let Some(verdict) = &executor.verdict {
            let (state, reason) = (verdict.state, verdict.reason);
            return self.agent_status(now, key, state, reason, &verdict.message);
        }
        if kill.is_some_and(|kill| kill.cause == Cause::Ordered) && !delivered {
            return self.killed_during_launch(now, key);
        }
        let message = match ending {
            Ending::Status(status) => format!("Executor terminated: {}", exit_sentence(status)),
            Ending::Unknown => "Executor terminated".to_owned(),
        };
        let reason = Reason::ExecutorTerminated;
        self.agent_status(now, key, TaskState::TaskFailed, reason, message)
    }

    /// Best effort, as in Mesos: a registration lists those that are left.
    pub(crate) fn tell_executor_exit(&mut self, key: &ExecutorKey, ending: Ending) {
        let Some(link) = self.link.as_ref().filter(|link| link.registered.is_some()) else {
            return;
        };
        let exited = ExecutorExited {
            framework_id: text(&key.0),
            executor_id: text(&key.1),
            wait_status: match ending {
                Ending::Status(status) => status,
                Ending::Unknown => -1,
            },
        };
        let link = link.id;
        self.send(link, agent_to_master::Message::ExecutorExited(exited), self.position);
    }

    /// A task ended or is forgotten: its executor's container gives back what it had for it.
    pub(crate) fn leave_executor(&mut self, key: &TaskKey, executor: Option<&ExecutorId>) {
        let Some(executor) = executor else { return };
        let of = (key.0.clone(), executor.clone());
        let Some(executor) = self.executors.get_mut(&of) else { return };
        if !executor.tasks.remove(&key.1) {
            return;
        }
        for parcel in &mut executor.queue {
            parcel.tasks.retain(|task: &TaskId| *task != key.1);
        }
        executor.queue.retain(|parcel| !parcel.tasks.is_empty());
        self.grant(&of);
    }
}
