//! The handle that the rest of the daemon holds.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rocksdb::{WriteBatch, WriteOptions};

use crate::batch::{Batch, Change};
use crate::error::{OpenError, ReadError, WriteError};
use crate::group::{Counts, Group};
use crate::layout::{Layout, OWNER_KEY};
use crate::open;
use crate::ticket::{self, Ticket};
use crate::view::{self, Scan, Snapshot};

/// An open store. Clones share it; the last one to go syncs what is unsynced and closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    group: Arc<Group>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store in `dir`, creating directory, families and marker as needed. Blocks for as long as
    /// replaying the write-ahead log takes (bounded by its size, tens of MiB).
    pub fn open(dir: impl AsRef<Path>, layout: &Layout) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let db = open::open(dir, layout)?;
        let group = Arc::new(Group::new(db, dir.to_owned()));
        let syncer = std::thread::Builder::new()
            .name("store-sync".to_owned())
            .spawn({
                let group = Arc::clone(&group);
                move || group.run()
            })
            .map_err(|source| OpenError::Thread { dir: dir.to_owned(), source })?;
        Ok(Self { inner: Arc::new(Inner { group, syncer: Mutex::new(Some(syncer)) }) })
    }

    fn group(&self) -> &Group {
        &self.inner.group
    }

    /// The directory that the store was opened in.
    pub fn dir(&self) -> &Path {
        &self.group().dir
    }

    /// Writes `owner` (a cluster id, an agent id) into the store, synced, or compares it with the one that is
    /// there already: an error if they differ.
    pub fn claim(&self, owner: &str) -> Result<(), ClaimError> {
        match self.owner()? {
            Some(found) if found == owner => Ok(()),
            Some(found) => Err(ClaimError::Owned(OpenError::OtherOwner {
                dir: self.dir().to_owned(),
                found,
                expected: owner.to_owned(),
            })),
            None => {
                let mut batch = WriteBatch::default();
                batch.put(OWNER_KEY, owner);
                self.log(batch)?;
                Ok(self.group().joined_as_syncer()?)
            }
        }
    }

    /// Whom the store was claimed for, if anybody.
    pub fn owner(&self) -> Result<Option<String>, ReadError> {
        let value =
            self.group().db.get(OWNER_KEY).map_err(|error| view::read_error(self.dir(), error))?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Writes `batch` without waiting for the disk. When this returns, the batch is visible to readers and
    /// survives the death of this process; a power loss within [`FLUSH_INTERVAL`](crate::FLUSH_INTERVAL) may take it,
    /// together with everything written later.
    pub fn write(&self, batch: Batch) -> Result<(), WriteError> {
        let batch = self.compile(batch);
        self.log(batch)?;
        self.group().joined_without_waiting();
        Ok(())
    }

    /// Writes `batch`; the ticket tells when it is on the disk. The batch is visible to readers at once.
    /// An error here means that the batch was not written.
    pub fn write_synced(&self, batch: Batch) -> Result<Ticket, WriteError> {
        let (ticket, fill) = ticket::ticket();
        self.write_synced_then(batch, fill)?;
        Ok(ticket)
    }

    /// As [`Store::write_synced`], with a callback instead of a ticket. It runs on the sync thread (or on that of a
    /// [`Store::write_and_sync`]) and must neither block nor panic. Callbacks run in the order of their writes when
    /// those were made by one thread.
    pub fn write_synced_then(
        &self,
        batch: Batch,
        callback: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) -> Result<(), WriteError> {
        let batch = self.compile(batch);
        self.log(batch)?;
        self.group().joined(Box::new(callback));
        Ok(())
    }

    /// Writes `batch` and syncs it on the calling thread, along with everybody who waits for a sync. Spares two
    /// thread switches: right for a thread that can do nothing else until the disk has answered.
    pub fn write_and_sync(&self, batch: Batch) -> Result<(), WriteError> {
        let batch = self.compile(batch);
        self.log(batch)?;
        self.group().joined_as_syncer()
    }

    fn compile(&self, batch: Batch) -> WriteBatch {
        let db = &self.group().db;
        let mut compiled = WriteBatch::default();
        for change in batch.changes {
            match change {
                Change::Put { family, key, value } => {
                    compiled.put_cf(view::handle(db, family), key, value)
                }
                Change::Delete { family, key } => compiled.delete_cf(view::handle(db, family), key),
                Change::DeleteRange { family, from, to } => {
                    compiled.delete_range_cf(view::handle(db, family), from, to);
                }
            }
        }
        compiled
    }

    /// Puts a batch into the write-ahead log and the memtables: in the page cache when this returns.
    fn log(&self, batch: WriteBatch) -> Result<(), WriteError> {
        let group = self.group();
        group.admit()?;
        let written = group.db.write_opt(batch, &WriteOptions::default());
        mezzo_fault_points::hit!("store.logged");
        written.map_err(|error| group.fail(error))
    }

    /// The value of `key`.
    pub fn get(&self, family: &str, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, ReadError> {
        let db = &self.group().db;
        db.get_cf(view::handle(db, family), key)
            .map_err(|error| view::read_error(self.dir(), error))
    }

    /// All keys that start with `prefix` (all keys of the family for an empty one), in order.
    pub fn scan(&self, family: &str, prefix: impl AsRef<[u8]>) -> Scan<'_> {
        view::scan(&self.group().db, self.dir(), family, view::bounds_of_prefix(prefix.as_ref()))
    }

    /// All keys in `from..to` (`to` excluded), in order.
    pub fn range(&self, family: &str, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Scan<'_> {
        view::scan(
            &self.group().db,
            self.dir(),
            family,
            view::bounds_of_range(from.as_ref(), to.as_ref()),
        )
    }

    /// A frozen view of all families.
    pub fn snapshot(&self) -> Snapshot<'_> {
        let db = &self.group().db;
        Snapshot { inner: db.snapshot(), db, dir: self.dir() }
    }

    /// What the store has done since it was opened, for metrics and tests.
    pub fn counts(&self) -> Counts {
        self.group().counts()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.group.stop();
        let syncer = self.syncer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A callback may own the last handle; the sync thread cannot wait for itself, and ends right after.
        if let Some(syncer) =
            syncer.filter(|syncer| syncer.thread().id() != std::thread::current().id())
            && syncer.join().is_err()
        {
            tracing::error!(store = %self.group.dir.display(), "the sync thread panicked");
        }
    }
}

/// Why a store could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It belongs to somebody else.
    #[error(transparent)]
    Owned(OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}
