//! Kills: SIGTERM, a grace period, then the end of the container.

use std::time::Duration;

use bytes::Bytes;
use mezzo_proto::internal::v1::{KillTask, StatusUpdate, agent_to_master};
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_types::{ContainerId, FrameworkId, Now, Position, TaskId};

use crate::core::Core;
use crate::effect::{Effect, TaskStage};
use crate::record::text;
use crate::task::{Cause, Kill, TaskKey, duration};
use crate::timers::Timer;

pub(crate) const SIGTERM: i32 = 15;

impl Core {
    pub(crate) fn kill_task(&mut self, now: Now, order: KillTask) {
        let key =
            (FrameworkId::from(order.framework_id.as_str()), TaskId::from(order.task_id.as_str()));
        if !self.tasks.contains_key(&key) {
            return self.answer_unknown_kill(now, &key);
        }
        let grace = order.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
        let grace = grace.map(duration);
        self.order_kill(now, &key, grace, Cause::Ordered);
    }

    /// The master thinks that the task is here; it is not. Told once, without retries: whoever still
    /// wants to know asks for the kill again.
    fn answer_unknown_kill(&mut self, now: Now, key: &TaskKey) {
        let Some(link) = self.link.as_ref().map(|link| link.id) else { return };
        let state = self.lost_or(&key.0, TaskState::TaskDropped);
        let message = format!(
            "task '{}' cannot be killed: the agent does not know it; its ending was acknowledged before, \
             or its launch never arrived",
            key.1
        );
        let mut status = self.agent_status(now, key, state, Reason::ExecutorTerminated, message);
        status.uuid = Some(Bytes::copy_from_slice(self.ids.next_uuid().as_bytes()));
        let update = StatusUpdate {
            framework_id: text(&key.0),
            status: Some(status),
            latest_state: state as i32,
        };
        self.send(link, agent_to_master::Message::StatusUpdate(Box::new(update)), Position::NONE);
    }

    /// Begins a kill, or makes one that is under way more urgent. `grace` overrules the task's own
    /// policy. Repeating a kill changes nothing; it can only shorten the grace period, which counts
    /// from the first order.
    pub(crate) fn order_kill(
        &mut self,
        now: Now,
        key: &TaskKey,
        grace: Option<Duration>,
        cause: Cause,
    ) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| !task.ended()) else { return };
        if task.part.is_some() {
            return self.kill_in_executor(now, key, grace, cause);
        }
        if let Some(kill) = &mut task.kill {
            let (Some(due), Some(grace)) = (kill.due_ns, grace) else { return };
            let sooner = Now { mono_ns: kill.ordered_ns, ..now }.plus(grace);
            if sooner < due {
                kill.grace = grace;
                kill.due_ns = Some(sooner);
                self.timers.cancel(due, Timer::Kill(key.clone()));
                self.timers.set(sooner, Timer::Kill(key.clone()));
                self.persist_task(key);
            }
            return;
        }
        let policy = task.info.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
        let grace = grace.or(policy.map(duration)).unwrap_or(self.config.kill_grace);
        let started = task.stage == TaskStage::Running;
        let completion_due = task.completion_due_ns.take();
        let due = now.plus(grace);
        task.kill = Some(Kill {
            ordered_unix_ns: now.unix_ns,
            ordered_ns: now.mono_ns,
            grace,
            due_ns: started.then_some(due),
            cause,
        });
        let container = task.container.clone();
        let forsaken = task.forsaken;
        if let Some(due) = completion_due {
            self.timers.cancel(due, Timer::Completion(key.clone()));
        }
        self.stop_checks(key);
        if !started {
            // Nothing runs that could end by itself: stop the launch.
            self.persist_task(key);
            self.view_task(key);
            return self.destroy(container);
        }
        self.timers.set(due, Timer::Kill(key.clone()));
        let tells = self
            .frameworks
            .get(&key.0)
            .is_some_and(|framework| framework.can(capability::Type::TaskKillingState));
        // Mesos' executor does not tell of a kill that it gives no time.
        if tells && !forsaken && cause != Cause::CompletionTime {
            let mut status = self.status(now, key, TaskState::TaskKilling, Source::Executor);
            status.reason = (cause == Cause::Draining).then_some(Reason::AgentDraining as i32);
            self.report(now, key, status, Vec::new());
        } else {
            self.persist_task(key);
        }
        self.signal(container, SIGTERM);
    }

    pub(crate) fn persist_task(&mut self, key: &TaskKey) {
        let record = self.task_record(key);
        self.persist(record.into_iter().collect(), false);
    }

    pub(crate) fn signal(&mut self, container: Option<ContainerId>, signal: i32) {
        let Some(container) = container else { return };
        self.effects.push_back(Effect::Signal { container, signal, after: self.position });
    }

    /// Ends whatever there is of the container; ordered once.
    pub(crate) fn destroy(&mut self, container: Option<ContainerId>) {
        let Some(id) = container else { return };
        let Some(container) = self.containers.get_mut(&id) else { return };
        if std::mem::replace(&mut container.destroying, true) {
            return;
        }
        self.effects.push_back(Effect::Destroy { container: id, after: self.position });
    }

    pub(crate) fn grace_over(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if let Some(kill) = &mut task.kill {
            kill.due_ns = None;
        }
        let container = task.container.clone();
        self.destroy(container);
    }

    pub(crate) fn completion_time_over(&mut self, now: Now, key: &TaskKey) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.completion_due_ns = None;
        }
        // It has had its time.
        self.order_kill(now, key, Some(Duration::ZERO), Cause::CompletionTime);
    }

    /// Ends every task of a framework that is gone; nobody waits for their updates.
    pub(crate) fn shutdown_framework(&mut self, now: Now, id: &FrameworkId) {
        // Their tasks end with them.
        self.shut_executors_down(now, Some(id));
        let keys: Vec<TaskKey> = self.tasks.keys().filter(|key| key.0 == *id).cloned().collect();
        for key in keys {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            if task.ended() {
                self.forget_task(&key);
                continue;
            }
            task.forsaken = true;
            self.updates.forget(&key);
            self.persist_task(&key);
            self.order_kill(now, &key, None, Cause::Ordered);
        }
    }
}
