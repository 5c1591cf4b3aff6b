//! An agent's store as a model: what was written survives the agent, what was flushed survives the
//! host. A loss of power takes any number of the youngest batches that were not flushed, never one
//! from the middle, as the real store's write-ahead log does.

use std::collections::{BTreeMap, VecDeque};

use mezzo_agent_core::{Change, Checkpoint};
use mezzo_proto::internal::v1::LaunchPosition;
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, ExecutorRecord, OperationRecord, ResourcesRecord, TaskRecord,
};
use mezzo_types::Uuid16;

/// What the records say.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub identity: Option<AgentIdentity>,
    pub last_launch: LaunchPosition,
    /// By framework and task.
    pub tasks: BTreeMap<(String, String), TaskRecord>,
    pub containers: BTreeMap<String, ContainerRecord>,
    /// By framework and executor.
    pub executors: BTreeMap<(String, String), ExecutorRecord>,
    pub resources: Option<ResourcesRecord>,
    pub operations: BTreeMap<Uuid16, OperationRecord>,
}

impl Records {
    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::PutIdentity(identity) => self.identity = Some(*identity),
            Change::DeleteIdentity => self.identity = None,
            Change::PutLastLaunch(position) => self.last_launch = position,
            Change::PutTask(framework, task, record) => {
                self.tasks.insert((framework.to_string(), task.to_string()), *record);
            }
            Change::DeleteTask(framework, task) => {
                self.tasks.remove(&(framework.to_string(), task.to_string()));
            }
            Change::PutContainer(record) => {
                self.containers.insert(record.container_id.clone(), *record);
            }
            Change::DeleteContainer(id) => {
                self.containers.remove(id.as_str());
            }
            Change::PutExecutor(framework, executor, record) => {
                self.executors.insert((framework.to_string(), executor.to_string()), *record);
            }
            Change::DeleteExecutor(framework, executor) => {
                self.executors.remove(&(framework.to_string(), executor.to_string()));
            }
            Change::PutResources(record) => self.resources = Some(*record),
            Change::PutOperation(uuid, record) => {
                self.operations.insert(uuid, *record);
            }
            Change::DeleteOperation(uuid) => {
                self.operations.remove(&uuid);
            }
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Store {
    flushed: Records,
    /// Written, not flushed; oldest first.
    pending: VecDeque<Vec<Change>>,
    /// With everything that is pending.
    pub(crate) written: Records,
    /// Batches ever written, and how many of them are flushed.
    count: u64,
}

impl Store {
    /// Returns the batch's number.
    pub(crate) fn write(&mut self, batch: Vec<Change>) -> u64 {
        batch.iter().for_each(|change| self.written.apply(change));
        self.pending.push_back(batch);
        self.count += 1;
        self.count
    }

    pub(crate) fn written_count(&self) -> u64 {
        self.count
    }

    /// Everything up to the batch of this number is on the disk.
    pub(crate) fn flush(&mut self, number: u64) {
        while self.count - (self.pending.len() as u64) < number {
            let Some(batch) = self.pending.pop_front() else { return };
            batch.iter().for_each(|change| self.flushed.apply(change));
        }
    }

    /// What a loss of power would leave for certain.
    pub(crate) fn flushed(&self) -> &Records {
        &self.flushed
    }

    pub(crate) fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// The power fails; `kept` of the batches that were not flushed are there all the same.
    pub(crate) fn lose_power(&mut self, kept: u64) {
        self.flush(self.count - self.pending() + kept);
        self.count -= self.pending();
        self.pending.clear();
        self.written = self.flushed.clone();
    }

    pub(crate) fn load(&self) -> Checkpoint {
        let records = self.written.clone();
        Checkpoint {
            identity: records.identity,
            last_launch: records.last_launch,
            tasks: records.tasks.into_values().collect(),
            containers: records.containers.into_values().collect(),
            executors: records.executors.into_values().collect(),
            resources: records.resources,
            operations: records.operations.into_values().collect(),
            unreadable: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_takes_the_youngest_batches_only() {
        let mut store = Store::default();
        let batch = |sequence| vec![Change::PutLastLaunch(LaunchPosition { term: 1, sequence })];
        for sequence in 1..=5 {
            assert_eq!(store.write(batch(sequence)), sequence);
        }
        store.flush(2);
        assert_eq!(store.flushed().last_launch.sequence, 2);
        assert_eq!(store.written.last_launch.sequence, 5);
        store.lose_power(1);
        assert_eq!(store.written.last_launch.sequence, 3);
        assert_eq!((store.pending(), store.written_count()), (0, 3));
        assert_eq!(store.write(batch(9)), 4);
        assert_eq!(store.load().last_launch.sequence, 9);
    }
}
