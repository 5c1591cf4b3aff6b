//! The agent is drained: every task is ended, for that reason, and no new one is taken.
//!
//! It lasts until the master says that it ended, or confirms a registration without ordering it again.
//! It is written down, so that an agent that is restarted while no master leads goes on.

use std::time::Duration;

use mezzo_proto::internal::v1::Drain;
use mezzo_proto::storage::v1::DrainRecord;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::capability;
use mezzo_types::{FrameworkId, Now};

use crate::core::Core;
use crate::effect::{Change, ViewChange};
use crate::task::{Cause, TaskKey, duration};

/// An order to drain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draining {
    pub(crate) config: v1::DrainConfig,
    /// When it arrived, or was found at the start.
    since_unix_ns: i64,
}

impl Core {
    /// Begins to drain, or ends it. Ordered again, only what is new in it counts.
    pub(crate) fn drain(&mut self, now: Now, order: Drain) {
        let Some(config) = order.config.filter(|_| !order.ended) else {
            return self.end_drain();
        };
        let since_unix_ns = self.draining.map_or(now.unix_ns, |draining| draining.since_unix_ns);
        self.draining = Some(Draining { config, since_unix_ns });
        let record = DrainRecord { config: Some(config) };
        self.persist(vec![Change::PutDrain(Some(record))], true);
        self.view(ViewChange::Drain(Some((config, since_unix_ns))));
        self.drain_tasks(now);
    }

    /// The agent is in service again. Kills that were ordered stay ordered.
    pub(crate) fn end_drain(&mut self) {
        if self.draining.take().is_some() {
            self.persist(vec![Change::PutDrain(None)], true);
            self.view(ViewChange::Drain(None));
        }
    }

    /// An agent that is started again goes on where it stopped.
    pub(crate) fn recover_drain(&mut self, now: Now, record: Option<DrainRecord>, member: bool) {
        let Some(record) = record else { return };
        if !member {
            // Of a cluster that the agent left.
            return self.persist(vec![Change::PutDrain(None)], true);
        }
        let config = record.config.unwrap_or_default();
        self.draining = Some(Draining { config, since_unix_ns: now.unix_ns });
        self.view(ViewChange::Drain(Some((config, now.unix_ns))));
        self.drain_tasks(now);
    }

    /// Each task has its own grace period, or as much of it as the order leaves.
    fn drain_tasks(&mut self, now: Now) {
        let Some(draining) = self.draining else { return };
        let longest = draining.config.max_grace_period.as_ref().map(duration);
        let keys: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.ended())
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            let policy = task.info.kill_policy.as_ref();
            let own = policy.and_then(|policy| policy.grace_period.as_ref()).map(duration);
            let own: Duration = own.unwrap_or(self.config.kill_grace);
            // What the framework ordered before is now part of the drain (Mesos, too, says so).
            if let Some(kill) = task.kill.as_mut().filter(|kill| kill.cause == Cause::Ordered) {
                kill.cause = Cause::Draining;
                self.persist_task(&key);
            }
            let grace = longest.map_or(own, |longest| longest.min(own));
            self.order_kill(now, &key, Some(grace), Cause::Draining);
        }
    }

    /// In which state a task ends that was killed by the drain: where the agent is to be gone after
    /// it, frameworks that tell losses apart hear that.
    pub(crate) fn drained_state(&self, framework: &FrameworkId) -> TaskState {
        let going = self.draining.is_some_and(|draining| draining.config.mark_gone());
        let aware = self
            .frameworks
            .get(framework)
            .is_some_and(|framework| framework.can(capability::Type::PartitionAware));
        if going && aware { TaskState::TaskGoneByOperator } else { TaskState::TaskKilled }
    }
}
