//! The handle that the rest of the daemon holds.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::DEFAULT_COLUMN_FAMILY_NAME;

use crate::batch::Batch;
use crate::error::{OpenError, ReadError, WriteError};
use crate::group::{Counts, Group};
use crate::held::Notice;
use crate::layout::{Layout, OWNER_KEY};
use crate::open;
use crate::pace::Slowness;
use crate::room::Shortage;
use crate::ticket::{self, Ticket};
use crate::view::{self, Scan, Snapshot};

/// An open store. Clones share it; the last one to go syncs what is unsynced and closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What became of a plain write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It survives the death of this process.
    Logged,
    /// It waits in memory; the callback tells.
    Held,
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
        self.group().dir()
    }

    /// Whom the store was claimed for, if anybody.
    pub fn owner(&self) -> Result<Option<String>, ReadError> {
        let value =
            self.group().db.get(OWNER_KEY).map_err(|error| view::read_error(self.dir(), error))?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
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
            None => Ok(self.write_and_sync(Batch::new().put(
                DEFAULT_COLUMN_FAMILY_NAME,
                OWNER_KEY,
                owner,
            ))?),
        }
    }

    /// Writes `batch` without waiting for the disk. When this returns, the batch is visible to readers and
    /// survives the death of this process; a power loss within [`FLUSH_INTERVAL`](crate::FLUSH_INTERVAL) may take it,
    /// together with everything written later.
    ///
    /// While the disk is full or too slow, the batch is held in memory instead and written, in its turn, as soon
    /// as that is possible: for writers to whom it does not matter when. Others use [`Store::write_or_hold`].
    pub fn write(&self, batch: Batch) -> Result<(), WriteError> {
        if self.group().log(batch, Notice::Nobody)?.is_some() {
            self.group().joined_without_waiting();
        }
        Ok(())
    }

    /// As [`Store::write`], for what can be made again from what is synced: it causes no sync of its own, and the
    /// next one covers it.
    pub fn write_derived(&self, batch: Batch) -> Result<(), WriteError> {
        self.group().log(batch, Notice::Nobody)?;
        Ok(())
    }

    /// As [`Store::write`], and tells which of the two it was. `callback` is called if the batch was held, as soon
    /// as it survives the death of this process. It must neither block nor panic.
    pub fn write_or_hold(
        &self,
        batch: Batch,
        callback: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) -> Result<Progress, WriteError> {
        if self.group().log(batch, Notice::Logged(Box::new(callback)))?.is_none() {
            return Ok(Progress::Held);
        }
        self.group().joined_without_waiting();
        Ok(Progress::Logged)
    }

    /// Writes `batch`; the ticket tells when it is on the disk. The batch is visible to readers at once, or when the
    /// disk has room for it. An error here means that the batch was not written.
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
        let logged = self.group().log(batch, Notice::Synced(Box::new(callback)))?;
        if let Some(callback) = logged.and_then(Notice::into_callback) {
            self.group().joined(callback);
        }
        Ok(())
    }

    /// Writes `batch` and syncs it on the calling thread, along with everybody who waits for a sync. Spares two
    /// thread switches: right for a thread that can do nothing else until the disk has answered. While the disk is
    /// full, this waits until it has room.
    pub fn write_and_sync(&self, batch: Batch) -> Result<(), WriteError> {
        let (ticket, fill) = ticket::ticket();
        let logged = self.group().log(batch, Notice::Synced(Box::new(fill)))?;
        if let Some(callback) = logged.and_then(Notice::into_callback) {
            self.group().joined_as_syncer(callback);
        }
        ticket.wait()
    }

    /// Whether something new may be promised: there is room for it, and for what it will lead to. Costs one system
    /// call. What was promised before is written regardless.
    pub fn check_room(&self) -> Result<(), Shortage> {
        self.group().check_room()
    }

    /// Whether the disk is slow now: a sync has taken a second or more, and none was quicker since. Nothing is refused
    /// for it, as everything is still written.
    pub fn slowness(&self) -> Option<Slowness> {
        self.group().slowness()
    }

    /// The failure after which the store takes no more writes, if there was one.
    pub fn failure(&self) -> Option<WriteError> {
        self.group().failure()
    }

    /// Has the duration of every sync told to `observer`, which must neither block nor panic. Only the first one
    /// that is given counts.
    pub fn observe_syncs(&self, observer: impl Fn(Duration) + Send + Sync + 'static) {
        self.group().observe(Box::new(observer));
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

    /// The last key of a family, if it has any.
    pub fn last_key(&self, family: &str) -> Result<Option<Box<[u8]>>, ReadError> {
        view::last_key(&self.group().db, self.dir(), family)
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
