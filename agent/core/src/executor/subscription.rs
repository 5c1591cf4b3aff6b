//! SUBSCRIBE, and what an executor is handed then.

use std::collections::BTreeSet;

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor::{Event, call, event};
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{Now, TaskId};

use super::{ExecutorKey, ExecutorPhase};
use crate::core::Core;
use crate::effect::{Effect, ExecutorEvent, TaskForExecutor};
use crate::input::ExecutorStreamId;
use crate::task::TaskKey;

impl Core {
    /// The stream is the executor's from now on.
    pub(super) fn subscribe_executor(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        stream: ExecutorStreamId,
        subscribe: call::Subscribe,
    ) {
        let leaving = self.leaving.is_some();
        let Some(executor) = self.executors.get_mut(key) else { return };
        let old = executor.stream.replace(stream);
        let ends = leaving || executor.phase == ExecutorPhase::Terminating;
        let changed = !ends && executor.phase != ExecutorPhase::Subscribed;
        if changed {
            executor.phase = ExecutorPhase::Subscribed;
        }
        if let Some(old) = old {
            self.close_executor_stream(old, "the executor subscribed anew");
        }
        if ends {
            // Its time to end goes on.
            return self.tell_executor(key, event::Type::Shutdown, |_| {});
        }
        self.set_executor_due(key, None);
        if changed {
            let record = self.executor_record(key);
            self.persist(record.into_iter().collect(), false);
        }
        self.take_unacknowledged(now, key, subscribe.unacknowledged_updates);
        let named = subscribe.unacknowledged_tasks.iter().map(|task| TaskId::from(&task.task_id));
        self.drop_unknown(now, key, &named.collect());
        if self.executors.get(key).is_some_and(super::Executor::is_pointless) {
            // As in Mesos: executors that got no task may wait for one for ever.
            return self.shut_executor_down(now, key);
        }
        self.welcome(key);
        self.deliver(key);
        self.repeat_kills(key);
    }

    fn welcome(&mut self, key: &ExecutorKey) {
        let (Some(executor), Some(framework), Some(agent)) =
            (self.executors.get(key), self.frameworks.get(&key.0), self.info())
        else {
            return;
        };
        let subscribed = event::Subscribed {
            executor_info: (*executor.info).clone(),
            framework_info: (*framework.info).clone(),
            agent_info: agent.clone(),
            container_id: Some(executor.container.to_proto()),
        };
        self.tell_executor(key, event::Type::Subscribed, |event| {
            event.subscribed = Some(subscribed);
        });
        self.view_executor(key);
    }

    /// What was handed over, was never heard of, and is not known to the executor, did not reach it.
    fn drop_unknown(&mut self, now: Now, key: &ExecutorKey, named: &BTreeSet<TaskId>) {
        let Some(executor) = self.executors.get(key) else { return };
        let lost = |id: &&TaskId| {
            let task = self.tasks.get(&(key.0.clone(), (*id).clone()));
            let delivered =
                |task: &crate::task::Task| task.part.as_ref().is_some_and(|part| part.delivered);
            !named.contains(*id)
                && task.is_some_and(|task| task.latest.is_none() && delivered(task))
        };
        let lost: Vec<TaskId> = executor.tasks.iter().filter(lost).cloned().collect();
        for id in lost {
            let task: TaskKey = (key.0.clone(), id);
            let killed = self.tasks.get(&task).is_some_and(|task| task.kill.is_some());
            let status = if killed {
                self.killed_during_launch(now, &task)
            } else {
                let state = self.lost_or(&key.0, TaskState::TaskDropped);
                let message =
                    "The task did not reach its executor before the connection to it broke";
                self.agent_status(now, &task, state, Reason::AgentRestarted, message)
            };
            self.end(now, &task, status);
        }
    }

    /// Hands over what may go: to an executor that listens, tasks whose resources its container has.
    pub(crate) fn deliver(&mut self, key: &ExecutorKey) {
        loop {
            let Some(executor) = self.executors.get_mut(key) else { return };
            if executor.phase != ExecutorPhase::Subscribed {
                return;
            }
            let Some(stream) = executor.stream else { return };
            let granted = executor.granted;
            if executor.queue.front().is_none_or(|parcel| parcel.grant > granted) {
                return;
            }
            let Some(parcel) = executor.queue.pop_front() else { return };
            executor.served = true;
            let mut changes = Vec::new();
            let mut tasks = Vec::new();
            let mut handed_over = Vec::new();
            for id in parcel.tasks {
                let task_key: TaskKey = (key.0.clone(), id);
                let Some(task) = self.tasks.get_mut(&task_key) else { continue };
                if let Some(part) = &mut task.part {
                    part.delivered = true;
                }
                tasks.push(TaskForExecutor { raw: task.raw.clone(), info: task.info.clone() });
                changes.extend(self.task_record(&task_key));
                handed_over.push(task_key);
            }
            // Before it is sent: what the executor may have must be asked for after a restart.
            self.persist(changes, false);
            for task_key in handed_over {
                self.view_task(&task_key);
            }
            let event = match (parcel.group, tasks.pop()) {
                (true, Some(last)) => {
                    tasks.push(last);
                    ExecutorEvent::LaunchGroup(tasks)
                }
                (false, Some(task)) => ExecutorEvent::Launch(task),
                (_, None) => continue,
            };
            let after = self.position;
            let event = Box::new(event);
            self.effects.push_back(Effect::ExecutorEvent { stream, event, after });
        }
    }

    /// Kills whose event may not have reached the executor.
    fn repeat_kills(&mut self, key: &ExecutorKey) {
        let Some(executor) = self.executors.get(key) else { return };
        let killed = |id: &&TaskId| {
            let task = self.tasks.get(&(key.0.clone(), (*id).clone()));
            task.is_some_and(|task| task.kill.is_some())
        };
        let killed: Vec<TaskId> = executor.tasks.iter().filter(killed).cloned().collect();
        for id in killed {
            self.send_kill(key, &id);
        }
    }

    pub(crate) fn executor_gone(&mut self, stream: ExecutorStreamId) {
        let of = |executor: &&mut super::Executor| executor.stream == Some(stream);
        if let Some(executor) = self.executors.values_mut().find(of) {
            executor.stream = None;
        }
    }

    pub(crate) fn close_executor_stream(&mut self, stream: ExecutorStreamId, reason: &str) {
        let (reason, after) = (reason.to_owned(), self.position);
        self.effects.push_back(Effect::CloseExecutor { stream, reason, after });
    }

    /// Sends an event, if the executor listens. Returns nothing: whoever must know that it arrived waits for an
    /// update.
    pub(crate) fn tell_executor(
        &mut self,
        key: &ExecutorKey,
        kind: event::Type,
        fill: impl FnOnce(&mut Event),
    ) {
        let Some(stream) = self.executors.get(key).and_then(|executor| executor.stream) else {
            return;
        };
        let mut event = Event { r#type: Some(kind as i32), ..Event::default() };
        fill(&mut event);
        let event = Box::new(ExecutorEvent::Other(event));
        self.effects.push_back(Effect::ExecutorEvent { stream, event, after: self.position });
    }

    /// A message of the framework.
    pub(crate) fn message_for_executor(
        &mut self,
        message: mezzo_proto::internal::v1::ExecutorMessage,
    ) {
        let key: ExecutorKey = (message.framework_id.into(), message.executor_id.into());
        let listens = |executor: &super::Executor| {
            executor.phase == ExecutorPhase::Subscribed && executor.stream.is_some()
        };
        if !self.executors.get(&key).is_some_and(listens) {
            self.statistics.messages_invalid += 1;
            return;
        }
        self.statistics.messages_valid += 1;
        self.tell_executor(&key, event::Type::Message, |event| {
            event.message = Some(event::Message { data: message.data });
        });
    }
}

/// An event that tells a task's id.
pub(super) fn kill_event(event: &mut Event, task: &TaskId, policy: Option<v1::KillPolicy>) {
    event.kill = Some(event::Kill { task_id: task.into(), kill_policy: policy });
}
