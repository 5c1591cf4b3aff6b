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

use crate::config::{Config, GroupId, StateFamilies};
use crate::error::StartError;
use crate::records::{self, FOUNDING, RecordError};

pub(crate) struct LogStorage {
    store: Store,
    hard_state: HardState,
    conf_state: ConfState,
    /// Index of the last entry whose change of the members is in `conf_state`.
    conf_index: u64,
    group: Option<GroupId>,
    /// What lies below the first entry; see [`records`].
    base: SnapshotMetadata,
    /// Size in the store of each entry from `base.index + 1` on: its length tells the last index.
    sizes: VecDeque<u32>,
    /// Sum of `sizes`.
    bytes: u64,
    /// Runs of equal terms: (first index, term), both growing. Empty if and only if there are no entries.
    terms: VecDeque<(u64, u64)>,
    /// Where the consumer keeps its state, if it can be given to other nodes.
    state: Option<StateFamilies>,
}

impl LogStorage {
    /// Opens the log of a node, creating it if there is none. `applied` is the last entry whose effects the state
    /// machine has in the same store.
    pub fn open(store: Store, config: &Config, applied: u64) -> Result<Self, StartError> {
        config.check()?;
        let state = match records::load_state(&store)? {
            Some(state) => state,
            None => create(&store, config, applied)?,
        };
        check_node(&state, config)?;
        let mut storage = Self {
            hard_state: state.hard_state,
            conf_state: state.conf_state,
            conf_index: state.conf_index,
            group: state.group,
            base: state.base,
            sizes: VecDeque::new(),
            bytes: 0,
            terms: VecDeque::new(),
            state: config.state.clone(),
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
        if storage.lacking(applied) < storage.base.index {
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
        storage.hard_state.commit = storage.hard_state.commit.max(applied).max(storage.base.index);
        // A log from before groups had more nodes learns who it is.
        if state.node.is_none() {
            let group = config.group_if_founded;
            let mut batch = Batch::new();
            records::put_node(&mut batch, config.node_id);
            records::put_group(&mut batch, group);
            store.write_and_sync(batch).map_err(StartError::Write)?;
            storage.group = Some(group);
        }
        Ok(storage)
    }

    /// The last entry whose effects are certainly in a state with this applied index: nobody proposes anything at the
    /// first index.
    pub fn lacking(&self, applied: u64) -> u64 {
        applied.max(FOUNDING.0.min(self.last()))
    }

    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    pub fn members(&self) -> &ConfState {
        &self.conf_state
    }

    pub fn conf_index(&self) -> u64 {
        self.conf_index
    }

    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub fn store(&self) -> &Store {
        &self.store
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

    /// The members are these since entry `index`, which is committed and on the disk. Synced when this returns, together
    /// with the commit index that it rests on: a node must never act for a group that it may forget.
    pub fn set_members(&mut self, members: ConfState, index: u64) -> Result<(), WriteError> {
        assert!(index > self.conf_index && index <= self.last(), "entry {index} is not there");
        self.hard_state.commit = self.hard_state.commit.max(index);
        self.conf_state = members;
        self.conf_index = index;
        let mut batch = Batch::new();
        records::put_conf_state(&mut batch, &self.conf_state);
        records::put_conf_index(&mut batch, index);
        records::put_hard_state(&mut batch, &self.hard_state);
        self.store.write_and_sync(batch)
    }

    /// The group's id, as a committed entry told it. Synced when this returns.
    pub fn set_group(&mut self, group: GroupId) -> Result<(), WriteError> {
        self.group = Some(group);
        let mut batch = Batch::new();
        records::put_group(&mut batch, group);
        self.store.write_and_sync(batch)
    }

    /// Puts another node's state and what the log knows of it in the place of everything: in one batch, synced. `state`
    /// replaces the consumer's families. Whatever raft 0.7 reads at the next start (hard state, members, first and last
    /// index) changes here together, or a crash would leave a node that never starts again.
    pub fn install(
        &mut self,
        base: SnapshotMetadata,
        conf_index: u64,
        group: GroupId,
        hard_state: Option<&HardState>,
        state: Batch,
    ) -> Result<(), WriteError> {
        let mut batch = state;
        records::delete_entries(&mut batch, 0, u64::MAX);
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
        }
        self.hard_state.commit = self.hard_state.commit.max(base.index);
        self.conf_state = base.conf_state.clone().unwrap_or_default();
        // The members may be newer than the state: the entry that made them comes later and is left out then.
        self.conf_index = conf_index;
        self.group = Some(group);
        self.base = base;
        self.sizes.clear();
        self.bytes = 0;
        self.terms.clear();
        records::put_base(&mut batch, &self.base);
        records::put_conf_state(&mut batch, &self.conf_state);
        records::put_conf_index(&mut batch, self.conf_index);
        records::put_group(&mut batch, group);
        records::put_hard_state(&mut batch, &self.hard_state);
        self.store.write_and_sync(batch)
    }

    /// The highest entry that can be dropped so that what is left takes at most `bytes`.
    pub fn droppable(&self, bytes: u64) -> u64 {
        let mut left = self.bytes;
        let mut index = self.base.index;
        for size in &self.sizes {
            if left <= bytes {
                break;
            }
            left -= u64::from(*size);
            index += 1;
        }
        index
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

/// Writes the records of a new log: that of a group of one, of a founder among others, or of a node that joins a group
/// and knows nobody yet.
fn create(
    store: &Store,
    config: &Config,
    applied: u64,
) -> Result<records::StateRecords, StartError> {
    if applied > 0 {
        return Err(StartError::StateAheadOfLog { applied, last: 0 });
    }
    let mut voters = config.founders.clone();
    voters.sort_unstable();
    let founders = if voters.len() > 1 { voters.clone() } else { Vec::new() };
    let conf_state = ConfState { voters, ..ConfState::default() };
    let (index, term) = if config.founders.len() > 1 { FOUNDING } else { (0, 0) };
    // Several founders learn the id from the first of them that leads.
    let group = (config.founders == [config.node_id]).then_some(config.group_if_founded);
    let state = records::StateRecords {
        hard_state: HardState { term, vote: raft::INVALID_ID, commit: index },
        base: SnapshotMetadata { index, term, conf_state: Some(conf_state.clone()) },
        conf_state,
        conf_index: 0,
        node: Some(config.node_id),
        group,
        founders,
    };
    let mut batch = Batch::new();
    records::put_hard_state(&mut batch, &state.hard_state);
    records::put_conf_state(&mut batch, &state.conf_state);
    records::put_base(&mut batch, &state.base);
    records::put_node(&mut batch, config.node_id);
    if let Some(group) = group {
        records::put_group(&mut batch, group);
    }
    if !state.founders.is_empty() {
        records::put_founders(&mut batch, &state.founders);
    }
    store.write_and_sync(batch).map_err(StartError::Write)?;
    Ok(state)
}

/// Whether the log is this node's.
fn check_node(state: &records::StateRecords, config: &Config) -> Result<(), StartError> {
    let node_id = config.node_id;
    let voters = &state.conf_state.voters;
    // A log that others know nothing of would answer their new group's leader for entries that it has of its own.
    let mut founders = config.founders.clone();
    founders.sort_unstable();
    if founders.len() > 1 && founders != state.founders {
        return Err(StartError::OtherFounders { node_id, founders });
    }
    match state.node {
        Some(found) if found == node_id => Ok(()),
        // Logs of groups of one did not say whose they are.
        None if *voters == [node_id] && state.conf_state.learners.is_empty() => Ok(()),
        Some(found) if config.founders != [node_id] => {
            Err(StartError::OtherNode { found, node_id })
        }
        _ => Err(StartError::OtherGroup { voters: voters.clone(), node_id }),
    }
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

    /// Asked for when a peer is behind the first entry. The answer is only a pointer: the state itself goes beside raft
    /// (see [`crate::source`]), from a view of the store that is taken later and so may have more in it.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let later = raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        let Some((family, key)) = self.state.as_ref().map(|state| state.applied) else {
            return Err(later);
        };
        let index = self.lacking(records::number(&self.store, family, key)?.unwrap_or(0));
        // What the consumer wrote last may be held back by the disk, and its entries dropped already.
        let is_there = (self.base.index..=self.hard_state.commit).contains(&index);
        if index < request_index || index == 0 || !is_there {
            return Err(later);
        }
        let conf_state = Some(self.conf_state.clone());
        let metadata = SnapshotMetadata { index, term: self.term(index)?, conf_state };
        Ok(Snapshot { metadata: Some(metadata), ..Snapshot::default() })
    }
}
