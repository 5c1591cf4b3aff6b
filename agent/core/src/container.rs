//! What containers report.

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_types::{ContainerId, Now};

use crate::core::Core;
use crate::effect::{Change, TaskStage};
use crate::input::{Ending, Limitation};
use crate::task::{Cause, Owner, TaskKey, duration};
use crate::timers::Timer;

impl Core {
    pub(crate) fn started(&mut self, now: Now, id: &ContainerId, pid: i32, ticks: u64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.started = Some((pid, ticks));
        let key = match container.owner.clone() {
            Owner::Task(key) => key,
            Owner::Executor(key) => return self.executor_started(&key, id, pid),
        };
        let mut changes: Vec<Change> = self.container_record(id).into_iter().collect();
        let task = self.tasks.get_mut(&key).filter(|task| task.container.as_ref() == Some(id));
        let Some(task) = task.filter(|task| task.stage == TaskStage::Launching) else {
            return self.persist(changes, false);
        };
        task.stage = TaskStage::Running;
        task.pid = Some(pid);
        task.started_unix_ns = Some(now.unix_ns);
        if task.kill.is_some() {
            // The kill overtook the launch and its end is under way: nobody needs to hear of a start.
            changes.extend(self.task_record(&key));
            self.persist(changes, false);
            return self.view_task(&key);
        }
        let status = self.status(now, &key, TaskState::TaskRunning, Source::Executor);
        self.report(now, &key, status, changes);
        self.watch_completion_time(now, &key, now.unix_ns);
        self.begin_checks(now, &key, now.unix_ns, 0);
    }

    /// Sets the timer of `max_completion_time`, counted from the start of the command.
    pub(crate) fn watch_completion_time(&mut self, now: Now, key: &TaskKey, started_unix_ns: i64) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        // None, and none at all, are no limit, as in Mesos.
        let limit = task.info.max_completion_time.as_ref().map(duration);
        let Some(limit) = limit.filter(|limit| !limit.is_zero()) else { return };
        let passed = u64::try_from(now.unix_ns.saturating_sub(started_unix_ns)).unwrap_or(0);
        let due = now.plus(limit.saturating_sub(std::time::Duration::from_nanos(passed)));
        task.completion_due_ns = Some(due);
        self.timers.set(due, Timer::Completion(key.clone()));
    }

    pub(crate) fn launch_failed(&mut self, now: Now, id: &ContainerId, message: &str) {
        let Some(owner) = self.containers.get(id).map(|container| container.owner.clone()) else {
            return;
        };
        self.statistics.container_launch_errors += 1;
        let key = match owner {
            Owner::Task(key) => key,
            Owner::Executor(key) => return self.executor_unlaunched(now, &key, id, message),
        };
        self.end_unstarted(now, &key, id, &format!("Failed to launch container: {message}"));
        self.destroy(Some(id.clone()));
    }

    pub(crate) fn limited(&mut self, id: &ContainerId, limitation: Limitation) {
        let Some(owner) = self.containers.get(id).map(|container| container.owner.clone()) else {
            return;
        };
        let key = match owner {
            Owner::Task(key) => key,
            Owner::Executor(key) => return self.executor_limited(&key, id, limitation),
        };
        if let Some(task) = self.tasks.get_mut(&key).filter(|task| !task.ended()) {
            task.limitation.get_or_insert(limitation);
        }
        self.destroy(Some(id.clone()));
    }

    pub(crate) fn exited(&mut self, now: Now, id: &ContainerId, ending: Ending) {
        let Some(owner) = self.containers.get(id).map(|container| container.owner.clone()) else {
            return;
        };
        let key = match owner {
            Owner::Task(key) => key,
            Owner::Executor(key) => return self.executor_exited(now, &key, id, ending),
        };
        if self
            .tasks
            .get(&key)
            .is_some_and(|task| task.container.as_ref() == Some(id) && !task.ended())
        {
            let status = self.ending_status(now, &key, ending);
            self.end(now, &key, status);
        }
        // What the command left behind, and the container's cgroups.
        self.destroy(Some(id.clone()));
    }

    pub(crate) fn destroyed(&mut self, now: Now, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else {
            // Nobody's, found at the start: only now may the shell forget it.
            self.persist(vec![Change::DeleteContainer(id.clone())], false);
            return self.stranger_gone(id);
        };
        let started = container.started.is_some();
        let key = match container.owner.clone() {
            Owner::Task(key) => key,
            Owner::Executor(key) => return self.executor_destroyed(now, &key, id, started),
        };
        // Its ending should have come before; no task may wait for what cannot come any more.
        let waits = |task: &crate::task::Task| task.container.as_ref() == Some(id) && !task.ended();
        if self.tasks.get(&key).is_some_and(waits) {
            if started {
                let status = self.ending_status(now, &key, Ending::Unknown);
                self.end(now, &key, status);
            } else {
                let message = "Failed to launch container: the launch was given up";
                self.end_unstarted(now, &key, id, message);
            }
        }
        self.containers.remove(id);
        self.persist(vec![Change::DeleteContainer(id.clone())], false);
        self.go_if_ended();
    }

    /// Ends a task whose command never ran.
    pub(crate) fn end_unstarted(
        &mut self,
        now: Now,
        key: &TaskKey,
        id: &ContainerId,
        message: &str,
    ) {
        let Some(task) = self.tasks.get(key) else { return };
        if task.ended() || task.container.as_ref() != Some(id) {
            return;
        }
        let status = match task.kill.map(|kill| kill.cause) {
            Some(Cause::Ordered | Cause::Draining) => self.killed_during_launch(now, key),
            Some(Cause::CompletionTime | Cause::Unhealthy) | None => {
                let reason = Reason::ContainerLaunchFailed;
                self.agent_status(now, key, TaskState::TaskFailed, reason, message)
            }
        };
        self.end(now, key, status);
    }

    pub(crate) fn killed_during_launch(&self, now: Now, key: &TaskKey) -> v1::TaskStatus {
        let cause = self.tasks.get(key).and_then(|task| task.kill).map(|kill| kill.cause);
        let (state, reason) = match cause {
            Some(Cause::Draining) => (self.drained_state(&key.0), Reason::AgentDraining),
            _ => (TaskState::TaskKilled, Reason::TaskKilledDuringLaunch),
        };
        let message = "Killed before its command was started";
        self.agent_status(now, key, state, reason, message)
    }
}
