//! What the log keeps in the store, and under which keys.

use mezzo_store::{Batch, ReadError, Snapshot, Store};
use prost_raft::Message;
use raft::eraftpb::{ConfState, Entry, HardState, SnapshotMetadata};

use crate::config::GroupId;

/// Raft's few words about itself. Keys are the constants below; values are raft's messages.
const STATE: &str = "log_state";

/// The entries. Key: the index, 8 bytes big-endian, so that order of keys is order of entries. Value: raft's `Entry`.
const ENTRIES: &str = "log_entries";

/// The families that a store needs to hold a log, for its [`Layout`](mezzo_store::Layout).
pub const FAMILIES: [&str; 2] = [STATE, ENTRIES];

/// Term, vote and commit index. The commit index may lag: it is written along with whatever is written next.
pub(crate) const HARD_STATE: &[u8] = b"hard_state";

/// The members of the group; none at a node that waits to be contacted.
pub(crate) const CONF_STATE: &[u8] = b"conf_state";

/// Index of the last entry whose change of the members is in `conf_state`, 8 bytes big-endian. Missing: none is.
pub(crate) const CONF_INDEX: &[u8] = b"conf_index";

/// Index and term of the entry just below the first one kept (zeros at the beginning), and members as of then or later:
/// the metadata of the snapshot that the state machine's own records amount to.
pub(crate) const BASE: &[u8] = b"base";

/// The number of the node, 8 bytes big-endian. Missing in a log that was made before groups had more nodes.
pub(crate) const NODE: &[u8] = b"node";

/// The id of the group, 16 bytes. Missing until the node has learnt it.
pub(crate) const GROUP: &[u8] = b"group";

/// Who founded the group, if they were several: their numbers in order, 8 bytes big-endian each.
pub(crate) const FOUNDERS: &[u8] = b"founders";

/// Where a group of several founders begins: nobody proposes anything at this index. Its nodes start above it, so that an
/// empty log is seen to lack something, and a node that joins is given the state, which tells the members.
pub(crate) const FOUNDING: (u64, u64) = (1, 1);

/// The id of the group as a committed entry of no payload carries it, in the entry's context.
pub(crate) fn group_of(entry: &Entry) -> Option<GroupId> {
    entry.context.as_slice().try_into().ok().map(GroupId)
}

pub(crate) fn entry_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The records of `log_state` as found. The first three are written in one batch at creation: all or none are there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateRecords {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    pub base: SnapshotMetadata,
    pub conf_index: u64,
    pub node: Option<u64>,
    pub group: Option<GroupId>,
    /// Empty where one node founded the group, or this one joined it.
    pub founders: Vec<u64>,
}

/// Why a record could not be used.
#[derive(Debug)]
pub(crate) enum RecordError {
    Read(ReadError),
    Damaged(String),
}

impl From<ReadError> for RecordError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Where records are read from: the store as it is, or a frozen view of it.
pub(crate) trait Source {
    fn value(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;
}

impl Source for Store {
    fn value(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.get(family, key)
    }
}

impl Source for Snapshot<'_> {
    fn value(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.get(family, key)
    }
}

pub(crate) fn load_state(source: &impl Source) -> Result<Option<StateRecords>, RecordError> {
    let hard_state = load::<HardState>(source, HARD_STATE)?;
    let conf_state = load::<ConfState>(source, CONF_STATE)?;
    let base = load::<SnapshotMetadata>(source, BASE)?;
    match (hard_state, conf_state, base) {
        (None, None, None) => Ok(None),
        (Some(hard_state), Some(conf_state), Some(base)) => Ok(Some(StateRecords {
            hard_state,
            conf_state,
            base,
            conf_index: number(source, STATE, CONF_INDEX)?.unwrap_or(0),
            node: number(source, STATE, NODE)?,
            group: fixed(source, STATE, GROUP)?.map(GroupId),
            founders: numbers(source, FOUNDERS)?,
        })),
        (hard_state, conf_state, base) => Err(RecordError::Damaged(format!(
            "of hard state, members and base only some are there ({}, {}, {})",
            hard_state.is_some(),
            conf_state.is_some(),
            base.is_some()
        ))),
    }
}

fn load<M: Message + Default>(source: &impl Source, key: &[u8]) -> Result<Option<M>, RecordError> {
    let Some(value) = source.value(STATE, key)? else { return Ok(None) };
    match M::decode(value.as_slice()) {
        Ok(message) => Ok(Some(message)),
        Err(error) => Err(RecordError::Damaged(format!(
            "{} cannot be decoded: {error}",
            String::from_utf8_lossy(key)
        ))),
    }
}

/// A value of exactly `N` bytes.
fn fixed<const N: usize>(
    source: &impl Source,
    family: &str,
    key: &[u8],
) -> Result<Option<[u8; N]>, RecordError> {
    let Some(value) = source.value(family, key)? else { return Ok(None) };
    value.as_slice().try_into().map(Some).map_err(|_| {
        let name = String::from_utf8_lossy(key);
        RecordError::Damaged(format!("{name} has {} bytes, not {N}", value.len()))
    })
}

/// A number of 8 bytes, big-endian.
pub(crate) fn number(
    source: &impl Source,
    family: &str,
    key: &[u8],
) -> Result<Option<u64>, RecordError> {
    Ok(fixed(source, family, key)?.map(u64::from_be_bytes))
}

/// Numbers of 8 bytes, big-endian; none if there is no record.
fn numbers(source: &impl Source, key: &[u8]) -> Result<Vec<u64>, RecordError> {
    let value = source.value(STATE, key)?.unwrap_or_default();
    let (numbers, rest) = value.as_chunks();
    if !rest.is_empty() {
        let name = String::from_utf8_lossy(key);
        return Err(RecordError::Damaged(format!("{name} has {} bytes", value.len())));
    }
    Ok(numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
}

/// One entry.
pub(crate) fn entry(source: &impl Source, index: u64) -> Result<Option<Entry>, RecordError> {
    let Some(value) = source.value(ENTRIES, &entry_key(index))? else { return Ok(None) };
    match Entry::decode(value.as_slice()) {
        Ok(entry) if entry.index == index => Ok(Some(entry)),
        Ok(entry) => {
            Err(RecordError::Damaged(format!("entry {} is filed under {index}", entry.index)))
        }
        Err(error) => {
            Err(RecordError::Damaged(format!("entry {index} cannot be decoded: {error}")))
        }
    }
}

pub(crate) fn put_hard_state(batch: &mut Batch, hard_state: &HardState) {
    batch.add_put(STATE, HARD_STATE, hard_state.encode_to_vec());
}

pub(crate) fn put_conf_state(batch: &mut Batch, conf_state: &ConfState) {
    batch.add_put(STATE, CONF_STATE, conf_state.encode_to_vec());
}

pub(crate) fn put_base(batch: &mut Batch, base: &SnapshotMetadata) {
    batch.add_put(STATE, BASE, base.encode_to_vec());
}

pub(crate) fn put_conf_index(batch: &mut Batch, index: u64) {
    batch.add_put(STATE, CONF_INDEX, index.to_be_bytes());
}

pub(crate) fn put_node(batch: &mut Batch, node_id: u64) {
    batch.add_put(STATE, NODE, node_id.to_be_bytes());
}

pub(crate) fn put_founders(batch: &mut Batch, founders: &[u64]) {
    let bytes: Vec<u8> = founders.iter().flat_map(|founder| founder.to_be_bytes()).collect();
    batch.add_put(STATE, FOUNDERS, bytes);
}

pub(crate) fn put_group(batch: &mut Batch, group: GroupId) {
    batch.add_put(STATE, GROUP, group.0);
}

/// Returns the number of bytes that the entry takes in the store.
pub(crate) fn put_entry(batch: &mut Batch, entry: &Entry) -> u32 {
    let value = entry.encode_to_vec();
    let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
    batch.add_put(ENTRIES, entry_key(entry.index), value);
    bytes
}

/// Deletes the entries `first..=last`.
pub(crate) fn delete_entries(batch: &mut Batch, first: u64, last: u64) {
    batch.add_delete_range(ENTRIES, entry_key(first), entry_key(last.saturating_add(1)));
}

/// The entries `first..end` that are there, in order, each with its size in the store.
pub(crate) fn entries(
    store: &Store,
    first: u64,
    end: u64,
) -> impl Iterator<Item = Result<(Entry, u32), RecordError>> + '_ {
    store.range(ENTRIES, entry_key(first), entry_key(end)).map(|item| {
        let (key, value) = item?;
        let entry = Entry::decode(&*value).map_err(|error| {
            RecordError::Damaged(format!("entry {key:02x?} cannot be decoded: {error}"))
        })?;
        if *key != entry_key(entry.index) {
            return Err(RecordError::Damaged(format!(
                "entry {} is filed under {key:02x?}",
                entry.index
            )));
        }
        Ok((entry, u32::try_from(value.len()).unwrap_or(u32::MAX)))
    })
}
