//! The replicated state on this master's disk, key by key, beside the log that it came from.
//!
//! What is here is everything up to the applied index; it is written unsynced, as the log is synced
//! and replays what a power loss takes.

use std::path::{Path, PathBuf};

use mezzo_master_core::{Registry, is_default_weight, is_no_quota};
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::storage::v1::{
    AgentRecord, CommandBatch, FrameworkRecord, OperationPlacement, Placement, framework_record,
};
use mezzo_proto::v1::WeightInfo;
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_store::{Batch, Layout, OpenError, ReadError, Store, WriteError};
use mezzo_types::{AgentId, FrameworkId, TaskId};
use prost::Message;

/// Key: agent id. Value: `AgentRecord`.
pub(crate) const AGENTS: &str = "agents";
/// Key: framework id. Value: `FrameworkRecord`.
pub(crate) const FRAMEWORKS: &str = "frameworks";
/// Key: framework id, a zero byte, task id. Value: `Placement`. Ids have no control characters, so
/// that a framework's placements are exactly the keys that start with its id and the zero byte.
pub(crate) const PLACEMENTS: &str = "placements";
/// Key: the 16 bytes of the operation's uuid. Value: `OperationPlacement`.
pub(crate) const OPERATIONS: &str = "operations";
/// Key: role. Value: `WeightInfo`.
pub(crate) const WEIGHTS: &str = "weights";
/// Key: role. Value: `QuotaConfig`.
pub(crate) const QUOTAS: &str = "quotas";
/// The keys below.
pub(crate) const META: &str = "registry";

/// Value: `Counters`.
pub(crate) const COUNTERS_KEY: &[u8] = b"counters";
/// Value: index of the last applied entry of the log, 8 bytes big-endian.
pub(crate) const APPLIED_KEY: &[u8] = b"applied";
/// Value: `PutMaintenance`.
pub(crate) const MAINTENANCE_KEY: &[u8] = b"maintenance";

/// Raised when an older master could not read the records.
const FORMAT: u32 = 1;

/// Why the registry could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{0} is the work directory of an agent; name the master's own with --work-dir")]
    OfAnAgent(PathBuf),
    #[error("could not open the store")]
    Open(#[source] OpenError),
    #[error("could not read the store; `mezzo master repair` shows what can be saved and saves it")]
    Read(#[source] ReadError),
    #[error("could not write the store")]
    Write(#[source] WriteError),
    #[error(
        "the record of {what} is damaged; `mezzo master repair` shows what can be saved and saves it"
    )]
    Damaged {
        what: String,
        #[source]
        source: prost::DecodeError,
    },
    #[error("the applied index has {0} bytes, not 8; `mezzo master repair` mends that")]
    DamagedIndex(usize),
}

/// Where the store is; the log lives in it, too.
pub(crate) fn store_path(work_dir: &Path) -> PathBuf {
    work_dir.join("store")
}

pub(crate) fn layout() -> Layout {
    let families = [AGENTS, FRAMEWORKS, PLACEMENTS, OPERATIONS, WEIGHTS, QUOTAS, META];
    Layout::new("master", FORMAT, families.into_iter().chain(mezzo_replicated_log::FAMILIES))
}

/// The registry's part of the master's store.
#[derive(Debug, Clone)]
pub(crate) struct RegistryStore {
    store: Store,
}

impl RegistryStore {
    /// Opens the master's store under the work directory; the log lives in it, too.
    pub(crate) fn open(work_dir: &Path) -> Result<Self, RegistryError> {
        if work_dir.join("meta/CURRENT").exists() {
            return Err(RegistryError::OfAnAgent(work_dir.to_owned()));
        }
        let store = Store::open(store_path(work_dir), &layout()).map_err(RegistryError::Open)?;
        Ok(Self { store })
    }

    /// The store itself, for the log.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Everything applied so far, and the index up to which it is.
    pub(crate) fn load(&self) -> Result<(Registry, u64), RegistryError> {
        let mut registry = Registry::default();
        for (key, record) in self.records::<AgentRecord>(AGENTS)? {
            registry.agents.insert(AgentId::from(key), record);
        }
        for (key, record) in self.records::<FrameworkRecord>(FRAMEWORKS)? {
            registry.frameworks.insert(FrameworkId::from(key), record);
        }
        for (_, record) in self.records::<Placement>(PLACEMENTS)? {
            let key = (
                FrameworkId::from(record.framework_id.as_str()),
                TaskId::from(record.task_id.as_str()),
            );
            registry.placements.insert(key, record);
        }
        for (_, record) in self.records::<OperationPlacement>(OPERATIONS)? {
            registry.operations.insert(record.operation_uuid.clone(), record);
        }
        for (role, record) in self.records::<WeightInfo>(WEIGHTS)? {
            registry.weights.insert(role, record.weight);
        }
        for (role, record) in self.records::<QuotaConfig>(QUOTAS)? {
            registry.quotas.insert(role, record);
        }
        registry.maintenance = self.single(MAINTENANCE_KEY, "the maintenance schedule")?;
        registry.counters = self.single(COUNTERS_KEY, "the counters")?;
        let applied = match self.store.get(META, APPLIED_KEY).map_err(RegistryError::Read)? {
            Some(value) => u64::from_be_bytes(
                value
                    .as_slice()
                    .try_into()
                    .map_err(|_| RegistryError::DamagedIndex(value.len()))?,
            ),
            None => 0,
        };
        Ok((registry, applied))
    }

    /// Bytes of all keys and records. Reads all of them.
    pub(crate) fn size(&self) -> Result<u64, RegistryError> {
        let mut bytes = 0;
        for family in [AGENTS, FRAMEWORKS, PLACEMENTS, OPERATIONS, WEIGHTS, QUOTAS, META] {
            for item in self.store.scan(family, b"") {
                let (key, value) = item.map_err(RegistryError::Read)?;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok(bytes)
    }

    fn records<M: Message + Default>(
        &self,
        family: &str,
    ) -> Result<Vec<(String, M)>, RegistryError> {
        let mut records = Vec::new();
        for item in self.store.scan(family, b"") {
            let (key, value) = item.map_err(RegistryError::Read)?;
            let key = String::from_utf8_lossy(&key).into_owned();
            let record = M::decode(&*value).map_err(|source| {
                let what = format!("'{}' in {family}", key.escape_debug());
                RegistryError::Damaged { what, source }
            })?;
            records.push((key, record));
        }
        Ok(records)
    }

    /// A record of which there is one; the default if it was never written.
    fn single<M: Message + Default>(&self, key: &[u8], what: &str) -> Result<M, RegistryError> {
        let Some(value) = self.store.get(META, key).map_err(RegistryError::Read)? else {
            return Ok(M::default());
        };
        M::decode(value.as_slice())
            .map_err(|source| RegistryError::Damaged { what: what.to_owned(), source })
    }

    /// Writes what a committed entry changes, together with its index. The same rules as
    /// [`Registry::apply`]; applying an entry twice does no harm.
    pub(crate) fn apply(&self, index: u64, entry: &CommandBatch) -> Result<(), RegistryError> {
        let mut batch = Batch::new();
        for kind in entry.commands.iter().filter_map(|command| command.command.as_ref()) {
            add(&mut batch, kind);
        }
        batch.add_put(META, APPLIED_KEY, index.to_be_bytes());
        self.store.write_derived(batch).map_err(RegistryError::Write)
    }
}

fn add(batch: &mut Batch, kind: &Kind) {
    match kind {
        Kind::PutAgent(put) => {
            let Some(agent) = &put.agent else { return };
            let Some(id) = agent.info.as_ref().and_then(|info| info.id.as_ref()) else { return };
            batch.add_put(AGENTS, id.value.as_str(), agent.encode_to_vec());
        }
        Kind::RemoveAgent(remove) => batch.add_delete(AGENTS, remove.agent_id.as_str()),
        Kind::PutFramework(put) => {
            let Some(framework) = &put.framework else { return };
            let Some(id) = framework.info.as_ref().and_then(|info| info.id.as_ref()) else {
                return;
            };
            if framework.state() == framework_record::State::Completed {
                batch.add_delete_prefix(PLACEMENTS, placement_key(&id.value, ""));
            }
            batch.add_put(FRAMEWORKS, id.value.as_str(), framework.encode_to_vec());
        }
        Kind::RemoveFramework(remove) => {
            batch.add_delete_prefix(PLACEMENTS, placement_key(&remove.framework_id, ""));
            batch.add_delete(FRAMEWORKS, remove.framework_id.as_str());
        }
        Kind::PlaceTasks(place) => {
            for placement in &place.placements {
                let key = placement_key(&placement.framework_id, &placement.task_id);
                batch.add_put(PLACEMENTS, key, placement.encode_to_vec());
            }
        }
        Kind::ForgetTasks(forget) => {
            for task in &forget.tasks {
                batch.add_delete(PLACEMENTS, placement_key(&task.framework_id, &task.task_id));
            }
        }
        Kind::PutOperations(put) => {
            for operation in &put.operations {
                let key = operation.operation_uuid.clone();
                batch.add_put(OPERATIONS, key, operation.encode_to_vec());
            }
        }
        Kind::ForgetOperations(forget) => {
            for uuid in &forget.operation_uuids {
                batch.add_delete(OPERATIONS, uuid.clone());
            }
        }
        Kind::PutWeights(put) => {
            for weight in &put.weights {
                let role = weight.role.clone().unwrap_or_default();
                if is_default_weight(weight) {
                    batch.add_delete(WEIGHTS, role);
                } else {
                    batch.add_put(WEIGHTS, role, weight.encode_to_vec());
                }
            }
        }
        Kind::PutQuotas(put) => {
            for quota in &put.quotas {
                if is_no_quota(quota) {
                    batch.add_delete(QUOTAS, quota.role.as_str());
                } else {
                    batch.add_put(QUOTAS, quota.role.as_str(), quota.encode_to_vec());
                }
            }
        }
        Kind::PutMaintenance(put) => batch.add_put(META, MAINTENANCE_KEY, put.encode_to_vec()),
        Kind::PutCounters(put) => {
            if let Some(counters) = &put.counters {
                batch.add_put(META, COUNTERS_KEY, counters.encode_to_vec());
            }
        }
    }
}

pub(crate) fn placement_key(framework: &str, task: &str) -> Vec<u8> {
    [framework.as_bytes(), b"\0", task.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use mezzo_proto::storage::v1::{
        Command, Counters, ForgetOperations, ForgetTasks, PlaceTasks, PutAgent, PutCounters,
        PutFramework, PutMaintenance, PutOperations, PutQuotas, PutWeights, TaskKey,
    };
    use mezzo_proto::v1;

    use super::*;

    fn entry(kinds: Vec<Kind>) -> CommandBatch {
        let commands = kinds.into_iter().map(|kind| Command { command: Some(kind) }).collect();
        CommandBatch { commands }
    }

    fn framework(id: &str, state: framework_record::State) -> Kind {
        let info = v1::FrameworkInfo {
            id: Some(v1::FrameworkId { value: id.to_owned() }),
            ..v1::FrameworkInfo::default()
        };
        Kind::PutFramework(PutFramework {
            framework: Some(FrameworkRecord {
                info: Some(info),
                state: state as i32,
                ..FrameworkRecord::default()
            }),
        })
    }

    fn place(framework: &str, task: &str) -> Kind {
        Kind::PlaceTasks(PlaceTasks {
            placements: vec![Placement {
                framework_id: framework.to_owned(),
                task_id: task.to_owned(),
                ..Placement::default()
            }],
        })
    }

    fn operation(uuid: u8) -> OperationPlacement {
        OperationPlacement {
            operation_uuid: vec![uuid; 16].into(),
            agent_id: "a".to_owned(),
            ..OperationPlacement::default()
        }
    }

    fn weights(weights: &[(&str, f64)]) -> Kind {
        let info = |&(role, weight): &(&str, f64)| WeightInfo { role: Some(role.into()), weight };
        Kind::PutWeights(PutWeights { weights: weights.iter().map(info).collect() })
    }

    fn quotas(quotas: &[(&str, Option<f64>)]) -> Kind {
        let config = |&(role, cpus): &(&str, Option<f64>)| QuotaConfig {
            role: role.to_owned(),
            limits: cpus
                .map(|value| ("cpus".to_owned(), v1::value::Scalar { value }))
                .into_iter()
                .collect(),
            ..QuotaConfig::default()
        };
        Kind::PutQuotas(PutQuotas { quotas: quotas.iter().map(config).collect() })
    }

    /// The store and the core's registry must make the same of every entry, also after a reopening,
    /// and also when an entry is applied twice.
    #[test]
    fn the_store_holds_what_the_core_holds() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let agent = AgentRecord {
            info: Some(v1::AgentInfo {
                id: Some(v1::AgentId { value: "a".to_owned() }),
                hostname: "h".to_owned(),
                ..v1::AgentInfo::default()
            }),
            ..AgentRecord::default()
        };
        use framework_record::State::{Active, Completed};
        let entries = [
            entry(vec![Kind::PutCounters(PutCounters {
                counters: Some(Counters {
                    cluster_id: "c".to_owned(),
                    next_agent: 3,
                    ..Counters::default()
                }),
            })]),
            entry(vec![Kind::PutAgent(PutAgent { agent: Some(agent) })]),
            entry(vec![framework("f", Active), framework("f2", Active)]),
            entry(vec![place("f", "1"), place("f", "2"), place("f2", "1")]),
            entry(vec![Kind::ForgetTasks(ForgetTasks {
                tasks: vec![TaskKey { framework_id: "f2".into(), task_id: "1".into() }],
            })]),
            entry(vec![place("f2", "9"), framework("f", Completed)]),
            entry(vec![Kind::PutOperations(PutOperations {
                operations: vec![operation(0), operation(1)],
            })]),
            entry(vec![Kind::ForgetOperations(ForgetOperations {
                operation_uuids: vec![operation(0).operation_uuid],
            })]),
            entry(vec![weights(&[("eng", 2.0), ("ops", 0.5)]), weights(&[("eng", 1.0)])]),
            entry(vec![
                quotas(&[("eng", Some(4.0)), ("ops", Some(1.0))]),
                quotas(&[("ops", None)]),
            ]),
            entry(vec![Kind::PutMaintenance(PutMaintenance {
                machines: vec![v1::MachineInfo {
                    id: v1::MachineId { hostname: Some("h".to_owned()), ip: None },
                    ..v1::MachineInfo::default()
                }],
                ..PutMaintenance::default()
            })]),
        ];
        let mut expected = Registry::default();
        {
            let store = RegistryStore::open(dir.path()).expect("opens");
            for (index, entry) in (1..).zip(&entries) {
                entry.commands.iter().for_each(|command| expected.apply(command));
                store.apply(index, entry).expect("writes");
                store.apply(index, entry).expect("writes again");
                assert_eq!(store.load().expect("reads"), (expected.clone(), index));
            }
        }
        let store = RegistryStore::open(dir.path()).expect("opens again");
        assert_eq!(store.load().expect("reads"), (expected.clone(), entries.len() as u64));
        assert_eq!(expected.placements.len(), 1, "f took its placements along");
        let left = (expected.operations.len(), expected.weights.len(), expected.quotas.len());
        assert_eq!(left, (1, 1, 1), "{expected:?}");
    }
}
