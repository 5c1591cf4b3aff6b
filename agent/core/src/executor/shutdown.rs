//! How executors and their tasks are ended: KILL, SHUTDOWN, and the times that an executor has.

use std::time::Duration;

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor::event;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{FrameworkId, Now, TaskId, format_duration};

use super::subscription::kill_event;
use super::{ExecutorKey, ExecutorPhase, Verdict};
use crate::core::Core;
use crate::task::{Cause, Kill, TaskKey, duration};

impl Core {
    /// Kills a task that waits for its executor, with its group; else asks the executor to.
    pub(crate) fn kill_in_executor(
        &mut self,
        now: Now,
        key: &TaskKey,
        grace: Option<Duration>,
        cause: Cause,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let Some(part) = &mut task.part else { return };
        let executor: ExecutorKey = (key.0.clone(), part.executor.clone());
        let ends = self.executors.get(&executor).map(|e| e.phase == ExecutorPhase::Terminating);
        if ends != Some(false) {
            // It ends with its executor.
            return;
        }
        if !part.delivered {
            return self.kill_parcel(now, &executor, &key.1, cause);
        }
        if let Some(grace) = grace {
            let nanoseconds = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
            let grace_period = Some(v1::DurationInfo { nanoseconds });
            part.kill_policy = Some(v1::KillPolicy { grace_period });
        }
        // The executor keeps the time.
        task.kill.get_or_insert(Kill {
            ordered_unix_ns: now.unix_ns,
            ordered_ns: now.mono_ns,
            grace: grace.unwrap_or_default(),
            due_ns: None,
            cause,
        });
        self.persist_task(key);
        self.view_task(key);
        self.send_kill(&executor, &key.1);
    }

    /// None of a parcel is handed over if one of it is killed.
    fn kill_parcel(&mut self, now: Now, key: &ExecutorKey, task: &TaskId, cause: Cause) {
        let Some(executor) = self.executors.get_mut(key) else { return };
        let at = executor.queue.iter().position(|parcel| parcel.tasks.contains(task));
        let parcel = at.and_then(|at| executor.queue.remove(at));
        let tasks = parcel.map_or_else(|| vec![task.clone()], |parcel| parcel.tasks);
        for id in tasks {
            let task: TaskKey = (key.0.clone(), id);
            let mut status = self.killed_during_launch(now, &task);
            if cause == Cause::Draining {
                status.reason = Some(Reason::AgentDraining as i32);
            }
            status.message = Some("Killed before it was handed to its executor".to_owned());
            self.end(now, &task, status);
        }
        if self.executors.get(key).is_some_and(super::Executor::is_pointless) {
            self.shut_executor_down(now, key);
        }
    }

    pub(super) fn send_kill(&mut self, key: &ExecutorKey, task: &TaskId) {
        let part = self.tasks.get(&(key.0.clone(), task.clone())).and_then(|t| t.part.as_ref());
        let policy = part.and_then(|part| part.kill_policy);
        self.tell_executor(key, event::Type::Kill, |event| kill_event(event, task, policy));
    }

    /// Executors of one framework, or all.
    pub(crate) fn shut_executors_down(&mut self, now: Now, of: Option<&FrameworkId>) {
        let wanted = |key: &&ExecutorKey| of.is_none_or(|framework| key.0 == *framework);
        let keys: Vec<ExecutorKey> = self.executors.keys().filter(wanted).cloned().collect();
        for key in keys {
            self.shut_executor_down(now, &key);
        }
    }

    /// Asks an executor to end, and ends it when its time for that is over.
    pub(crate) fn shut_executor_down(&mut self, now: Now, key: &ExecutorKey) {
        let Some(executor) = self.executors.get_mut(key) else { return };
        if executor.phase == ExecutorPhase::Terminating {
            return;
        }
        let listens = executor.stream.is_some();
        let never_did = executor.phase == ExecutorPhase::Registering && !listens;
        executor.phase = ExecutorPhase::Terminating;
        executor.queue.clear();
        let container = executor.container.clone();
        let record = self.executor_record(key);
        self.persist(record.into_iter().collect(), false);
        self.view_executor(key);
        if never_did {
            // Nobody is there to be asked.
            self.set_executor_due(key, None);
            return self.destroy(Some(container));
        }
        let due = now.plus(self.shutdown_grace(key));
        self.set_executor_due(key, Some(due));
        self.tell_executor(key, event::Type::Shutdown, |_| {});
    }

    pub(super) fn shutdown_grace(&self, key: &ExecutorKey) -> Duration {
        let info = self.executors.get(key).map(|executor| &executor.info);
        let own = info.and_then(|info| info.shutdown_grace_period.as_ref()).map(duration);
        own.unwrap_or(self.config.executor_shutdown_grace)
    }

    /// Ends an executor now, for a reason that its tasks' frameworks are told.
    pub(crate) fn end_executor(&mut self, key: &ExecutorKey, verdict: Verdict) {
        let Some(executor) = self.executors.get_mut(key) else { return };
        executor.verdict.get_or_insert(verdict);
        executor.phase = ExecutorPhase::Terminating;
        executor.queue.clear();
        let container = executor.container.clone();
        self.set_executor_due(key, None);
        let record = self.executor_record(key);
        self.persist(record.into_iter().collect(), false);
        self.view_executor(key);
        self.destroy(Some(container));
    }

    pub(crate) fn executor_time_over(&mut self, key: &ExecutorKey) {
        let Some(executor) = self.executors.get_mut(key) else { return };
        executor.due_ns = None;
        let (phase, container) = (executor.phase, executor.container.clone());
        match phase {
            ExecutorPhase::Registering => {
                let time = format_duration(self.config.executor_registration_timeout);
                let verdict = Verdict {
                    state: TaskState::TaskFailed,
                    reason: Reason::ExecutorRegistrationTimeout,
                    message: format!("Executor did not register within {time}"),
                };
                self.end_executor(key, verdict);
            }
            ExecutorPhase::Recovering => {
                let time = format_duration(self.config.executor_reregistration_timeout);
                let verdict = Verdict {
                    state: self.lost_or(&key.0, TaskState::TaskGone),
                    reason: Reason::ExecutorReregistrationTimeout,
                    message: format!("Executor did not reregister within {time}"),
                };
                self.end_executor(key, verdict);
            }
            ExecutorPhase::Subscribed => {}
            ExecutorPhase::Terminating => self.destroy(Some(container)),
        }
    }
}
