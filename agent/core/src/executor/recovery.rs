//! Executors in the plan of a start; the table is in `crate::recovery`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mezzo_proto::storage::v1::{ExecutorRecord, executor_record};
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, Now};

use super::{Executor, ExecutorKey, ExecutorPhase, Parcel};
use crate::core::Core;
use crate::effect::Change;
use crate::input::Ending;
use crate::launch::order;
use crate::recovery::Observed;
use crate::task::{Container, Owner, TaskKey};

impl Core {
    /// Before its tasks.
    pub(crate) fn recover_executor(&mut self, record: ExecutorRecord, alive: bool) {
        let phase = match record.phase() {
            executor_record::Phase::Registering => ExecutorPhase::Registering,
            executor_record::Phase::Subscribed => ExecutorPhase::Recovering,
            executor_record::Phase::Terminating => ExecutorPhase::Terminating,
        };
        let owner = record.framework_info.unwrap_or_default();
        let (Some(framework), Some(info)) = (owner.id.clone(), record.executor_info) else {
            self.statistics.recovery_errors += 1;
            return;
        };
        let key: ExecutorKey = (FrameworkId::from(framework), ExecutorId::from(&info.executor_id));
        if !alive {
            return self.persist(vec![Change::DeleteExecutor(key.0, key.1)], false);
        }
        let id = ContainerId::from(record.container_id.as_str());
        let taken = self
            .containers
            .get(&id)
            .is_some_and(|known| matches!(&known.owner, Owner::Executor(other) if *other != key));
        if record.container_id.is_empty() || taken || self.executors.contains_key(&key) {
            self.statistics.recovery_errors += 1;
            return;
        }
        // A container whose record was lost is found by its executor.
        let lost =
            || Container { owner: Owner::Executor(key.clone()), started: None, destroying: false };
        let container = self.containers.entry(id.clone()).or_insert_with(lost);
        container.owner = Owner::Executor(key.clone());
        let pid = container.started.map(|(pid, _)| pid);
        let executor = Executor {
            info: Arc::new(info),
            container: id,
            phase,
            stream: None,
            pid,
            due_ns: None,
            tasks: BTreeSet::new(),
            queue: VecDeque::new(),
            served: phase != ExecutorPhase::Registering,
            grants: 0,
            granted: 0,
            verdict: None,
            limitation: None,
        };
        self.insert_executor(key, executor, Arc::new(owner));
    }

    /// After its tasks: picks up what the executor was at when the agent stopped.
    pub(crate) fn resume_executors(
        &mut self,
        now: Now,
        observed: &BTreeMap<ContainerId, Observed>,
    ) {
        let keys: Vec<ExecutorKey> = self.executors.keys().cloned().collect();
        for key in keys {
            self.queue_undelivered(&key);
            self.view_executor(&key);
            let Some(id) = self.executors.get(&key).map(|executor| executor.container.clone())
            else {
                continue;
            };
            self.resume_executor(now, &key, &id, observed.get(&id).cloned());
        }
    }

    /// What was not handed over waits again, in its order.
    fn queue_undelivered(&mut self, key: &ExecutorKey) {
        let Some(executor) = self.executors.get(key) else { return };
        let mut waiting: BTreeMap<(u64, u64), Parcel> = BTreeMap::new();
        for id in &executor.tasks {
            let task_key: TaskKey = (key.0.clone(), id.clone());
            let Some(part) = self.tasks.get(&task_key).and_then(|task| task.part.as_ref()) else {
                continue;
            };
            if part.delivered {
                continue;
            }
            let group = part.group;
            let parcel = waiting.entry(order(&part.position)).or_insert_with(|| Parcel {
                tasks: Vec::new(),
                group,
                grant: 0,
            });
            parcel.tasks.push(id.clone());
        }
        if let Some(executor) = self.executors.get_mut(key) {
            executor.queue = waiting.into_values().collect();
        }
    }

    fn resume_executor(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        id: &ContainerId,
        found: Option<Observed>,
    ) {
        let was_started = self.containers.get(id).is_some_and(|known| known.started.is_some());
        let nothing = if was_started {
            Observed::Ended { ending: Ending::Unknown, limitation: None }
        } else {
            Observed::NotStarted
        };
        match found.unwrap_or(nothing) {
            Observed::NotStarted | Observed::Failed { .. } if was_started => {
                self.executor_exited(now, key, id, Ending::Unknown);
            }
            Observed::NotStarted => {
                self.drop_waiting(now, key);
                self.executor_exited(now, key, id, Ending::Unknown);
            }
            Observed::Launching => self.await_executor(now, key),
            Observed::Failed { message } => self.launch_failed(now, id, &message),
            Observed::Running { pid, start_time_ticks, limitation } => {
                if !was_started {
                    self.started(now, id, pid, start_time_ticks);
                }
                self.await_executor(now, key);
                if let Some(limitation) = limitation {
                    self.limited(id, limitation);
                }
            }
            Observed::Ended { ending, limitation } => {
                if let Some(limitation) = limitation {
                    self.limited(id, limitation);
                }
                self.executor_exited(now, key, id, ending);
            }
        }
    }

    /// The executor never ran: neither did its tasks.
    fn drop_waiting(&mut self, now: Now, key: &ExecutorKey) {
        let tasks = self.executors.get(key).map(|executor| executor.tasks.clone());
        for id in tasks.unwrap_or_default() {
            let task: TaskKey = (key.0.clone(), id);
            let state = self.lost_or(&key.0, TaskState::TaskDropped);
            let message = "The agent was restarted before it started the executor";
            let reason = Reason::AgentRestarted;
            let status = self.agent_status(now, &task, state, reason, message);
            self.end(now, &task, status);
        }
    }

    /// Gives the executor its time anew: to subscribe, or to end.
    fn await_executor(&mut self, now: Now, key: &ExecutorKey) {
        let Some(executor) = self.executors.get(key) else { return };
        let time = match executor.phase {
            ExecutorPhase::Registering if executor.is_pointless() => {
                return self.shut_executor_down(now, key);
            }
            ExecutorPhase::Registering => self.config.executor_registration_timeout,
            ExecutorPhase::Recovering | ExecutorPhase::Subscribed => {
                self.config.executor_reregistration_timeout
            }
            ExecutorPhase::Terminating => self.shutdown_grace(key),
        };
        self.set_executor_due(key, Some(now.plus(time)));
        // What the container may use is made sure of; tasks that wait, wait for that.
        let grant = executor_grant(self, key);
        self.grant(key);
        if let Some(executor) = self.executors.get_mut(key) {
            executor.queue.iter_mut().for_each(|parcel| parcel.grant = grant);
        }
    }
}

/// The number of the next change of an executor's container.
fn executor_grant(core: &Core, key: &ExecutorKey) -> u64 {
    core.executors.get(key).map_or(0, |executor| executor.grants + 1)
}
