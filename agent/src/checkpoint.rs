//! Records in the store: what survives the agent.
//!
//! | family | key | value |
//! |---|---|---|
//! | `agent` | `identity` | `AgentIdentity` |
//! | `agent` | `last_launch` | `LastLaunch` |
//! | `tasks` | framework id, a zero byte, task id | `TaskRecord` |
//! | `containers` | container id | `ContainerRecord` |
//! | `agent` | `resources` | `ResourcesRecord` |
//! | `operations` | the operation's uuid, 16 bytes | `OperationRecord` |
//! | `executors` | framework id, a zero byte, executor id | `ExecutorRecord` |
//!
//! Values are messages of `mezzo.storage.v1`. Ids hold no zero byte: the master lets none with a control
//! character pass.

use std::path::{Path, PathBuf};

use mezzo_agent_core::{Change, Checkpoint};
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, ExecutorRecord, LastLaunch, OperationRecord, ResourcesRecord,
    TaskRecord,
};
use mezzo_store::{Batch, Layout, OpenError, Progress, ReadError, Shortage, Store, WriteError};
use mezzo_types::{ExecutorId, FrameworkId, TaskId};
use prost::Message;

pub(crate) const AGENT: &str = "agent";
pub(crate) const TASKS: &str = "tasks";
pub(crate) const CONTAINERS: &str = "containers";
pub(crate) const OPERATIONS: &str = "operations";
pub(crate) const EXECUTORS: &str = "executors";

pub(crate) const IDENTITY: &[u8] = b"identity";
pub(crate) const LAST_LAUNCH: &[u8] = b"last_launch";
pub(crate) const RESOURCES: &[u8] = b"resources";

/// Raise it when an older agent could no longer read what this one writes.
const FORMAT: u32 = 1;

/// Why records cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("could not open the agent's records in {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
    #[error("{0} is the work directory of a master; name the agent's own with --work-dir")]
    OfAMaster(PathBuf),
    /// To start anew here would end the tasks that may still run.
    #[error(
        "there are sandboxes in {work_dir}, but {path} with the agent's records is gone: bring it back from a copy, \
         or name an empty directory with --work-dir to join as a new agent"
    )]
    Missing { path: PathBuf, work_dir: PathBuf },
    #[error(
        "could not read the agent's records; `mezzo agent repair` shows what can be saved and saves it"
    )]
    Read(#[from] ReadError),
    /// It says which volumes there are, and is not guessed.
    #[error(
        "the record of the agent's reservations and volumes cannot be read; `mezzo agent repair` shows what can be \
         saved and saves it"
    )]
    Resources(#[source] prost::DecodeError),
}

/// Where the records are.
pub(crate) fn store_path(work_dir: &Path) -> PathBuf {
    work_dir.join("meta")
}

pub(crate) fn layout() -> Layout {
    Layout::new("agent", FORMAT, [AGENT, TASKS, CONTAINERS, OPERATIONS, EXECUTORS])
}

/// Whether an agent ran tasks here before. Sandboxes may have a disk of their own, whose root holds a directory of `mkfs`.
fn holds_sandboxes(work_dir: &Path) -> bool {
    let entries = work_dir.join("slaves").read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name != "lost+found")
}

/// The store of an agent's records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    store: Store,
}

impl Records {
    /// Opens `<work_dir>/meta`. Blocks for as long as replaying its log takes.
    pub(crate) fn open(work_dir: &Path) -> Result<Self, CheckpointError> {
        let path = store_path(work_dir);
        if work_dir.join("store/CURRENT").exists() {
            return Err(CheckpointError::OfAMaster(work_dir.to_owned()));
        }
        if !path.exists() && holds_sandboxes(work_dir) {
            return Err(CheckpointError::Missing { path, work_dir: work_dir.to_owned() });
        }
        let store = Store::open(&path, &layout())
            .map_err(|source| CheckpointError::Open { path, source })?;
        Ok(Records { store })
    }

    /// Everything that was written down.
    pub(crate) fn load(&self) -> Result<Checkpoint, CheckpointError> {
        let mut checkpoint = Checkpoint::default();
        if let Some(value) = self.store.get(AGENT, IDENTITY)? {
            match AgentIdentity::decode(value.as_slice()) {
                Ok(identity) => checkpoint.identity = Some(identity),
                Err(error) => unreadable(&mut checkpoint, "agent/identity", &error),
            }
        }
        if let Some(value) = self.store.get(AGENT, LAST_LAUNCH)? {
            match LastLaunch::decode(value.as_slice()) {
                Ok(last) => checkpoint.last_launch = last.position.unwrap_or_default(),
                Err(error) => unreadable(&mut checkpoint, "agent/last_launch", &error),
            }
        }
        if let Some(value) = self.store.get(AGENT, RESOURCES)? {
            let record = ResourcesRecord::decode(value.as_slice());
            checkpoint.resources = Some(record.map_err(CheckpointError::Resources)?);
        }
        for entry in self.store.scan(OPERATIONS, []) {
            let (key, value) = entry?;
            match OperationRecord::decode(&*value) {
                Ok(record) => checkpoint.operations.push(record),
                Err(error) => unreadable(&mut checkpoint, &name(OPERATIONS, &key), &error),
            }
        }
        for entry in self.store.scan(TASKS, []) {
            let (key, value) = entry?;
            match TaskRecord::decode(&*value) {
                Ok(record) => checkpoint.tasks.push(record),
                Err(error) => unreadable(&mut checkpoint, &name(TASKS, &key), &error),
            }
        }
        for entry in self.store.scan(CONTAINERS, []) {
            let (key, value) = entry?;
            match ContainerRecord::decode(&*value) {
                Ok(record) => checkpoint.containers.push(record),
                Err(error) => unreadable(&mut checkpoint, &name(CONTAINERS, &key), &error),
            }
        }
        for entry in self.store.scan(EXECUTORS, []) {
            let (key, value) = entry?;
            match ExecutorRecord::decode(&*value) {
                Ok(record) => checkpoint.executors.push(record),
                Err(error) => unreadable(&mut checkpoint, &name(EXECUTORS, &key), &error),
            }
        }
        Ok(checkpoint)
    }

    /// Puts `batch` where it survives the death of this process; `held` is called later if that has to wait.
    pub(crate) fn write(
        &self,
        batch: Batch,
        held: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) -> Result<Progress, WriteError> {
        self.store.write_or_hold(batch, held)
    }

    /// Puts `batch` where it survives a loss of power; `done` is called then, on another thread.
    pub(crate) fn write_synced(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) -> Result<(), WriteError> {
        self.store.write_synced_then(batch, done)
    }

    /// Why nothing new may be promised, if the disk has no room for it.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.store.check_room().err()
    }

    /// The store itself, for its metrics.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

pub(crate) fn name(family: &str, key: &[u8]) -> String {
    format!("{family}/{}", String::from_utf8_lossy(key).replace('\0', "/"))
}

fn unreadable(checkpoint: &mut Checkpoint, record: &str, error: &prost::DecodeError) {
    tracing::error!(record, %error, "a record cannot be read; what it told of is lost");
    checkpoint.unreadable += 1;
}

/// Adds a change of the core to a batch.
pub(crate) fn add(batch: &mut Batch, change: Change) {
    match change {
        Change::PutIdentity(identity) => batch.add_put(AGENT, IDENTITY, identity.encode_to_vec()),
        Change::DeleteIdentity => batch.add_delete(AGENT, IDENTITY),
        Change::PutLastLaunch(position) => {
            let record = LastLaunch { position: Some(position) };
            batch.add_put(AGENT, LAST_LAUNCH, record.encode_to_vec());
        }
        Change::PutTask(framework, task, record) => {
            batch.add_put(TASKS, task_key(&framework, &task), record.encode_to_vec());
        }
        Change::DeleteTask(framework, task) => {
            batch.add_delete(TASKS, task_key(&framework, &task));
        }
        Change::PutContainer(record) => {
            let key = record.container_id.clone().into_bytes();
            batch.add_put(CONTAINERS, key, record.encode_to_vec());
        }
        Change::DeleteContainer(id) => batch.add_delete(CONTAINERS, id.as_str().as_bytes()),
        Change::PutExecutor(framework, executor, record) => {
            batch.add_put(EXECUTORS, executor_key(&framework, &executor), record.encode_to_vec());
        }
        Change::DeleteExecutor(framework, executor) => {
            batch.add_delete(EXECUTORS, executor_key(&framework, &executor));
        }
        Change::PutResources(record) => batch.add_put(AGENT, RESOURCES, record.encode_to_vec()),
        Change::PutOperation(uuid, record) => {
            batch.add_put(OPERATIONS, uuid.as_bytes().to_vec(), record.encode_to_vec());
        }
        Change::DeleteOperation(uuid) => batch.add_delete(OPERATIONS, uuid.as_bytes()),
    }
}

pub(crate) fn task_key(framework: &FrameworkId, task: &TaskId) -> Vec<u8> {
    [framework.as_str().as_bytes(), b"\0", task.as_str().as_bytes()].concat()
}

pub(crate) fn executor_key(framework: &FrameworkId, executor: &ExecutorId) -> Vec<u8> {
    [framework.as_str().as_bytes(), b"\0", executor.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use mezzo_proto::internal::v1::LaunchPosition;

    use super::*;

    #[test]
    fn records_are_found_again() {
        let work = tempfile::tempdir().unwrap();
        let identity = AgentIdentity { boot_id: "b".into(), highest_term: 3, ..Default::default() };
        let position = LaunchPosition { term: 3, sequence: 9 };
        let task = TaskRecord { container_id: "c".into(), ..Default::default() };
        let container = ContainerRecord { container_id: "c".into(), pid: 7, ..Default::default() };
        let executor = ExecutorRecord { container_id: "c".into(), ..Default::default() };
        let total = mezzo_types::Resources::parse("disk(web):64", "*").unwrap().to_proto();
        let resources = ResourcesRecord { configured: total.clone(), total };
        let (uuid, other) = (mezzo_types::Uuid16([1; 16]), mezzo_types::Uuid16([2; 16]));
        {
            let records = Records::open(work.path()).unwrap();
            let mut batch = Batch::new();
            add(&mut batch, Change::PutIdentity(Box::new(identity.clone())));
            add(&mut batch, Change::PutLastLaunch(position));
            add(&mut batch, Change::PutTask("f".into(), "t".into(), Box::new(task.clone())));
            add(&mut batch, Change::PutTask("f".into(), "u".into(), Box::new(task.clone())));
            add(&mut batch, Change::PutContainer(Box::new(container.clone())));
            add(&mut batch, Change::DeleteTask("f".into(), "u".into()));
            add(
                &mut batch,
                Change::PutExecutor("f".into(), "e".into(), Box::new(executor.clone())),
            );
            add(
                &mut batch,
                Change::PutExecutor("f".into(), "g".into(), Box::new(executor.clone())),
            );
            add(&mut batch, Change::DeleteExecutor("f".into(), "g".into()));
            add(&mut batch, Change::PutResources(Box::new(resources.clone())));
            for uuid in [uuid, other] {
                let record = OperationRecord { framework_id: "f".into(), ..Default::default() };
                add(&mut batch, Change::PutOperation(uuid, Box::new(record)));
            }
            add(&mut batch, Change::DeleteOperation(other));
            records.write(batch, |_| {}).unwrap();
        }
        let found = Records::open(work.path()).unwrap().load().unwrap();
        assert_eq!(found.identity, Some(identity));
        assert_eq!(found.last_launch, position);
        assert_eq!(found.tasks, [task]);
        assert_eq!(found.containers, [container]);
        assert_eq!(found.executors, [executor]);
        assert_eq!(found.resources, Some(resources));
        assert_eq!(found.operations.len(), 1);
        assert_eq!(found.unreadable, 0);
    }

    #[test]
    fn sandboxes_without_records_are_an_earlier_agents() {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(work.path().join("slaves/lost+found")).unwrap();
        drop(Records::open(work.path()).unwrap());
        std::fs::remove_dir_all(store_path(work.path())).unwrap();
        std::fs::create_dir(work.path().join("slaves/S0")).unwrap();
        let error = Records::open(work.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Missing { .. }), "{error}");
    }

    #[test]
    fn a_record_of_volumes_is_not_guessed() {
        let work = tempfile::tempdir().unwrap();
        let records = Records::open(work.path()).unwrap();
        let damaged = Batch::new().put(AGENT, RESOURCES, vec![0xff; 3]);
        records.write(damaged, |_| {}).unwrap();
        assert!(matches!(records.load(), Err(CheckpointError::Resources(_))));
    }

    #[test]
    fn damaged_records_are_counted() {
        let work = tempfile::tempdir().unwrap();
        let records = Records::open(work.path()).unwrap();
        let damaged = Batch::new().put(TASKS, b"f\0t".to_vec(), vec![0xff; 3]);
        records.write(damaged, |_| {}).unwrap();
        assert_eq!(records.load().unwrap().unreadable, 1);
    }
}
