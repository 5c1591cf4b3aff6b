//! What the log keeps in the store, and under which keys.

use mezzo_store::{Batch, ReadError, Store};
use prost_raft::Message;
use raft::eraftpb::{ConfState, Entry, HardState, SnapshotMetadata};

/// Raft's few words about itself. Keys are the constants below; values are raft's messages.
const STATE: &str = "log_state";

/// The entries. Key: the index, 8 bytes big-endian, so that order of keys is order of entries. Value: raft's `Entry`.
const ENTRIES: &str = "log_entries";

/// The families that a store needs to hold a log, for its [`Layout`](mezzo_store::Layout).
pub const FAMILIES: [&str; 2] = [STATE, ENTRIES];

/// Term, vote and commit index. The commit index may lag: it is written along with whatever is written next.
pub(crate) const HARD_STATE: &[u8] = b"hard_state";

/// The members of the group.
pub(crate) const CONF_STATE: &[u8] = b"conf_state";

/// Index and term of the entry just below the first one kept (zeros at the beginning), and the members as of then:
/// the metadata of the snapshot that the state machine's own records amount to.
pub(crate) const BASE: &[u8] = b"base";

pub(crate) fn entry_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The three records of `log_state` as found. All are written in one batch at creation: all or none are there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateRecords {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    pub base: SnapshotMetadata,
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

pub(crate) fn load_state(store: &Store) -> Result<Option<StateRecords>, RecordError> {
    let hard_state = load::<HardState>(store, HARD_STATE)?;
    let conf_state = load::<ConfState>(store, CONF_STATE)?;
    let base = load::<SnapshotMetadata>(store, BASE)?;
    match (hard_state, conf_state, base) {
        (None, None, None) => Ok(None),
        (Some(hard_state), Some(conf_state), Some(base)) => {
            Ok(Some(StateRecords { hard_state, conf_state, base }))
        }
        (hard_state, conf_state, base) => Err(RecordError::Damaged(format!(
            "of hard state, members and base only some are there ({}, {}, {})",
            hard_state.is_some(),
            conf_state.is_some(),
            base.is_some()
        ))),
    }
}

fn load<M: Message + Default>(store: &Store, key: &[u8]) -> Result<Option<M>, RecordError> {
    let Some(value) = store.get(STATE, key)? else { return Ok(None) };
    match M::decode(value.as_slice()) {
        Ok(message) => Ok(Some(message)),
        Err(error) => Err(RecordError::Damaged(format!(
            "{} cannot be decoded: {error}",
            String::from_utf8_lossy(key)
        ))),
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
