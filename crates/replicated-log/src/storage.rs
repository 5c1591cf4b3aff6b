//! Raft's view of the store, and the only place where the log's records change.
//!
//! Three rules keep every crash harmless. (1) What raft wants to remember after one step (entries, hard state)
//! goes into one batch, and so does everything that a compaction changes. (2) Batches keep their order. (3) The
//! commit index and the consumer's applied index may be ahead of or behind each other by a crash; both are only
//! ever too small, and [`LogStorage::open`] raises the commit index to what is proven committed.

use std::collections::VecDeque;

use mezzo_store::{Batch, Store, WriteError};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::error::StartError;
use crate::records::{self, RecordError};

pub(crate) struct LogStorage {
    store: Store,
    hard_state: HardState,
    conf_state: ConfState,
    /// What lies below the first entry; see [`records`].
    base: SnapshotMetadata,
    /// Size in the store of each entry from `base.index + 1` on: its length tells the last index.
    sizes: VecDeque<u32>,
    /// Sum of `sizes`.
    bytes: u64,
    /// Runs of equal terms: (first index, term), both growing. Empty if and only if there are no entries.
    terms: VecDeque<(u64, u64)>,
}

impl LogStorage {
    /// Opens the log of `node_id`, creating it as a group of that one node if there is none. `applied` is the last
    /// entry whose effects the state machine has in the same store.
    pub fn open(store: Store, node_id: u64, applied: u64) -> Result<Self, StartError> {
        if node_id == 0 {
            return Err(StartError::NodeIdZero);
        }
        let state = match records::load_state(&store)? {
            Some(state) => state,
            None => create(&store, node_id, applied)?,
        };
        if state.conf_state.voters != [node_id] || !state.conf_state.learners.is_empty() {
            return Err(StartError::OtherGroup { voters: state.conf_state.voters, node_id });
        }
        let mut storage = Self {
            hard_state: state.hard_state,
            conf_state: state.conf_state,
            base: state.base,
            sizes: VecDeque::new(),
            bytes: 0,
            terms: VecDeque::new(),
            store: store.clone(),
        };
        let first = storage.first();
        for item in records::entries(&store, first, u64::MAX) {
            let (entry, bytes) = item?;
            let expected = storage.last() + 1;
            if entry.index != expected {
                return Err(damaged(format!(
                    "entry {} follows where {expected} should",
                    entry.index
                )));
            }
            if entry.term < storage.term_of_last() {
                return Err(damaged(format!(
                    "entry {} has a lower term than the one before it",
                    entry.index
                )));
            }
            storage.note(&entry, bytes);
        }
        let last = storage.last();
        if applied < storage.base.index {
            return Err(StartError::StateBehindLog { applied, first });
        }
        if applied > last {
            return Err(StartError::StateAheadOfLog { applied, last });
        }
        if storage.hard_state.commit > last {
            let commit = storage.hard_state.commit;
            return Err(damaged(format!("entry {commit} is committed but the last one is {last}")));
        }
        if storage.hard_state.term < storage.term_of_last() {
            return Err(damaged(
                "the last entry has a higher term than the node has seen".to_owned(),
            ));
        }
        // Only committed entries are ever applied or compacted away.
        storage.hard_state.commit = storage.hard_state.commit.max(applied);
        Ok(storage)
    }

    pub fn first(&self) -> u64 {
        self.base.index + 1
    }

    pub fn last(&self) -> u64 {
        self.base.index + self.sizes.len() as u64
    }

    /// Bytes that the kept entries take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn term_of_last(&self) -> u64 {
        self.terms.back().map_or(self.base.term, |(_, term)| *term)
    }

    /// Takes an entry that is in the store (or in the batch being written) into the index.
    fn note(&mut self, entry: &Entry, bytes: u32) {
        if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
            self.terms.push_back((entry.index, entry.term));
        }
        self.sizes.push_back(bytes);
        self.bytes += u64::from(bytes);
    }

    /// Remembers the commit index with whatever is written next.
    pub fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = commit;
    }

    /// What one step of raft must remember, in one batch. With `sync` it is on the disk when this returns.
    pub fn persist(
        &mut self,
        entries: &[Entry],
        hard_state: Option<&HardState>,
        sync: bool,
    ) -> Result<(), WriteError> {
        let mut batch = Batch::new();
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(first) = entries.first() {
            self.forget_from(&mut batch, first.index);
            for entry in entries {
                let bytes = records::put_entry(&mut batch, entry);
                self.note(entry, bytes);
            }
        }
        records::put_hard_state(&mut batch, &self.hard_state);
        // Without `sync` it is only how far is committed, which raft finds out again.
        if sync { self.store.write_and_sync(batch) } else { self.store.write_derived(batch) }
    }

    /// Drops the entries from `index` on: those that a new leader replaces.
    fn forget_from(&mut self, batch: &mut Batch, index: u64) {
        let last = self.last();
        assert!(
            index > self.base.index && index <= last + 1,
            "entry {index} leaves a hole after {last}"
        );
        if index > last {
            return;
        }
        records::delete_entries(batch, index, last);
        let kept = (index - self.first()) as usize;
        self.bytes -= self.sizes.drain(kept..).map(u64::from).sum::<u64>();
        while self.terms.back().is_some_and(|(first, _)| *first >= index) {
            self.terms.pop_back();
        }
    }

    /// Drops the entries up to and including `index`, whose effects the state machine has in the store. Not synced:
    /// if a power loss takes the batch, the entries are there again and are dropped later.
    pub fn compact(&mut self, index: u64) -> Result<(), WriteError> {
        assert!(
            index <= self.last() && index <= self.hard_state.commit,
            "entry {index} is not committed"
        );
        if index <= self.base.index {
            return Ok(());
        }
        let term = self.term_at(index).unwrap_or(self.base.term);
        let first = self.first();
        let dropped = (index - self.base.index) as usize;
        self.bytes -= self.sizes.drain(..dropped).map(u64::from).sum::<u64>();
        // The run that holds the first kept entry begins there now.
        while self.terms.get(1).is_some_and(|(start, _)| *start <= index + 1) {
            self.terms.pop_front();
        }
        if self.sizes.is_empty() {
            self.terms.clear();
        } else if let Some(run) = self.terms.front_mut() {
            run.0 = index + 1;
        }
        self.base = SnapshotMetadata { index, term, conf_state: Some(self.conf_state.clone()) };
        let mut batch = Batch::new();
        records::delete_entries(&mut batch, first, index);
        records::put_base(&mut batch, &self.base);
        records::put_conf_state(&mut batch, &self.conf_state);
        records::put_hard_state(&mut batch, &self.hard_state);
        self.store.write_derived(batch)
    }

    /// Term of an entry that is kept.
    fn term_at(&self, index: u64) -> Option<u64> {
        if index < self.first() || index > self.last() {
            return None;
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms[after.checked_sub(1)?].1)
    }

    /// What must hold of the index at any time.
    #[cfg(test)]
    pub fn check_invariants(&self) {
        assert!(self.hard_state.commit >= self.base.index && self.hard_state.commit <= self.last());
        assert!(self.hard_state.term >= self.term_of_last());
        assert_eq!(self.bytes, self.sizes.iter().copied().map(u64::from).sum::<u64>());
        assert_eq!(self.terms.is_empty(), self.sizes.is_empty());
        if let Some((first, _)) = self.terms.front() {
            assert_eq!(*first, self.first());
        }
        let runs = self.terms.iter().zip(self.terms.iter().skip(1));
        runs.for_each(|(one, next)| assert!(one.0 < next.0 && one.1 < next.1, "{:?}", self.terms));
        let found: Vec<_> = records::entries(&self.store, 0, u64::MAX)
            .map(|item| item.expect("readable"))
            .collect();
        assert_eq!(
            found.len(),
            self.sizes.len(),
            "no entry outside of {}..={}",
            self.first(),
            self.last()
        );
        for (entry, bytes) in found {
            assert_eq!(self.term_at(entry.index), Some(entry.term), "entry {}", entry.index);
            assert_eq!(self.sizes[(entry.index - self.first()) as usize], bytes);
        }
    }
}

/// Writes the records of a new group of one.
fn create(store: &Store, node_id: u64, applied: u64) -> Result<records::StateRecords, StartError> {
    if applied > 0 {
        return Err(StartError::StateAheadOfLog { applied, last: 0 });
    }
    let conf_state = ConfState { voters: vec![node_id], ..ConfState::default() };
    let base =
        SnapshotMetadata { conf_state: Some(conf_state.clone()), ..SnapshotMetadata::default() };
    let state = records::StateRecords { hard_state: HardState::default(), conf_state, base };
    let mut batch = Batch::new();
    records::put_hard_state(&mut batch, &state.hard_state);
    records::put_conf_state(&mut batch, &state.conf_state);
    records::put_base(&mut batch, &state.base);
    store.write_and_sync(batch).map_err(StartError::Write)?;
    Ok(state)
}

fn damaged(what: String) -> StartError {
    StartError::Damaged { what }
}

impl From<RecordError> for StartError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Read(error) => Self::Read(error),
            RecordError::Damaged(what) => Self::Damaged { what },
        }
    }
}

impl From<RecordError> for raft::Error {
    fn from(error: RecordError) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = match error {
            RecordError::Read(error) => Box::new(error),
            RecordError::Damaged(what) => what.into(),
        };
        raft::Error::Store(StorageError::Other(source))
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut taken = 0_u64;
        let mut entries = Vec::new();
        for item in records::entries(&self.store, low, high) {
            let (entry, bytes) = item?;
            taken += u64::from(bytes);
            // Raft wants at least one entry, however large.
            if taken > limit && !entries.is_empty() {
                break;
            }
            if entry.index != low + entries.len() as u64 {
                return Err(RecordError::Damaged(format!(
                    "entry {} is missing",
                    low + entries.len() as u64
                ))
                .into());
            }
            entries.push(entry);
        }
        if entries.is_empty() && low < high {
            return Err(RecordError::Damaged(format!("entry {low} is missing")).into());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.index {
            return Ok(self.base.term);
        }
        if index < self.base.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.term_at(index).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Asked for when a peer is behind the first entry. A group of one has no peer.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
