//! Status updates: written down, then sent, until the framework's acknowledgement has come back.

use bytes::Bytes;
use mezzo_proto::internal::v1::{Acknowledge, StatusUpdate, agent_to_master};
use mezzo_proto::v1;
use mezzo_status_updates::{Acknowledged, Effect, Update};
use mezzo_types::{FrameworkId, Now, Position, TaskId, Uuid16, is_terminal};

use crate::core::Core;
use crate::effect::{Change, TaskStage};
use crate::record::text;
use crate::task::TaskKey;

/// An update as it waits for its turn.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) status: Box<v1::TaskStatus>,
    /// Where it was written down.
    pub(crate) after: Position,
}

impl Core {
    /// Makes `status` the task's newest: written down together with `changes`, then sent. A terminal
    /// one ends the task.
    pub(crate) fn report(
        &mut self,
        now: Now,
        key: &TaskKey,
        status: v1::TaskStatus,
        changes: Vec<Change>,
    ) {
        let uuid = self.ids.next_uuid();
        self.report_as(now, key, uuid, status, changes);
    }

    /// The same for an update that somebody else made, who knows it by `uuid`.
    pub(crate) fn report_as(
        &mut self,
        now: Now,
        key: &TaskKey,
        uuid: Uuid16,
        mut status: v1::TaskStatus,
        mut changes: Vec<Change>,
    ) {
        status.uuid = Some(Bytes::copy_from_slice(uuid.as_bytes()));
        let terminal = is_terminal(status.state());
        let Some(mut task) = self.tasks.remove(key) else { return };
        task.latest = Some(Box::new(status.clone()));
        if terminal {
            *self.statistics.tasks_ended.entry(status.state()).or_default() += 1;
            // A command task is its own executor.
            self.statistics.executors_ended += u64::from(task.part.is_none());
            self.cancel_timers(key, &task);
            task.stage = TaskStage::Ended;
            task.kill = None;
            task.completion_due_ns = None;
            task.checks = None;
        }
        let left = task.executor().filter(|_| terminal).cloned();
        self.tasks.insert(key.clone(), task);
        let after = self.position.next();
        let body = Outgoing { status: Box::new(status), after };
        let pushed = self.updates.push(now, key.clone(), Update { uuid, terminal, body });
        debug_assert!(pushed.is_ok(), "an ended task makes no updates");
        changes.extend(self.task_record(key));
        self.persist(changes, false);
        self.view_task(key);
        self.leave_executor(key, left.as_ref());
    }

    /// Reports the ending of a task, or just forgets the task if nobody waits for it.
    pub(crate) fn end(&mut self, now: Now, key: &TaskKey, status: v1::TaskStatus) {
        if self.tasks.get(key).is_some_and(|task| task.forsaken) {
            self.forget_task(key);
        } else {
            self.report(now, key, status, Vec::new());
        }
    }

    pub(crate) fn acknowledge(&mut self, now: Now, message: &Acknowledge) {
        let key = (
            FrameworkId::from(message.framework_id.as_str()),
            TaskId::from(message.task_id.as_str()),
        );
        let acknowledged = Uuid16::from_slice(&message.uuid)
            .and_then(|uuid| self.updates.acknowledge(now, &key, uuid).ok());
        match acknowledged {
            None => {
                self.statistics.acknowledgements_invalid += 1;
                return;
            }
            Some(Acknowledged::Duplicate) => {}
            Some(Acknowledged::Advanced) => {
                let record = self.task_record(&key);
                self.persist(record.into_iter().collect(), false);
                self.tell_owed(now, &key);
            }
            Some(Acknowledged::Closed) => self.forget_task(&key),
        }
        self.statistics.acknowledgements_valid += 1;
    }

    /// Hands on what is due, over the link that the master confirmed.
    pub(crate) fn forward_updates(&mut self) {
        while let Some(Effect::Send { stream, update }) = self.updates.poll_effect() {
            let Some(link) = self.link.as_ref().filter(|link| link.registered.is_some()) else {
                continue;
            };
            let latest = self.tasks.get(&stream).and_then(|task| task.latest.as_ref());
            let latest_state = latest.map_or(update.body.status.state, |latest| latest.state);
            let message = StatusUpdate {
                framework_id: text(&stream.0),
                status: Some(*update.body.status),
                latest_state,
            };
            let id = link.id;
            self.send(
                id,
                agent_to_master::Message::StatusUpdate(Box::new(message)),
                update.body.after,
            );
        }
    }
}
