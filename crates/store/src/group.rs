//! The shared sync: one thread that syncs the write-ahead log for everybody who waits.
//!
//! A writer first puts its batch into the log (not synced) and then joins the group. A round takes
//! everybody who has joined so far, syncs once and answers all of them. While a round runs, the next
//! group gathers; under load the batch size therefore adapts itself to the speed of the disk, and an idle
//! store syncs a lone writer at once. Writes that nobody waits for make the log dirty; it is synced at
//! latest [`FLUSH_INTERVAL`] later. When the log is clean and nobody waits, the thread sleeps for good.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rocksdb::DB;

use crate::error::WriteError;

/// Longest time that a plain write stays unsynced: what a power loss may take.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

type Callback = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Batches put into the log, whether anybody waited for their sync or not.
    pub writes: u64,
    /// Of these, batches that somebody waited for.
    pub synced_writes: u64,
    /// Syncs of the log.
    pub syncs: u64,
}

pub(crate) struct Group {
    pub db: DB,
    pub dir: PathBuf,
    state: Mutex<State>,
    wake: Condvar,
    writes: AtomicU64,
    synced_writes: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Default)]
struct State {
    /// When the oldest write was made that no round has taken yet.
    dirty_since: Option<Instant>,
    waiting: Vec<Callback>,
    /// The failure that ended writing, if there was one.
    failure: Option<WriteError>,
    stopping: bool,
}

impl Group {
    pub fn new(db: DB, dir: PathBuf) -> Self {
        Self {
            db,
            dir,
            state: Mutex::default(),
            wake: Condvar::new(),
            writes: AtomicU64::new(0),
            synced_writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write may still be tried.
    pub fn admit(&self) -> Result<(), WriteError> {
        match &self.state().failure {
            Some(first) => Err(self.refusing(first)),
            None => Ok(()),
        }
    }

    fn refusing(&self, first: &WriteError) -> WriteError {
        WriteError::Refusing { dir: self.dir.clone(), first: Box::new(first.clone()) }
    }

    /// Remembers the first failure; every later write is refused with it.
    pub fn fail(&self, error: rocksdb::Error) -> WriteError {
        let error = WriteError::from_engine(self.dir.clone(), error);
        let mut state = self.state();
        if state.failure.is_none() {
            tracing::error!(store = %self.dir.display(), error = %error, source = ?std::error::Error::source(&error),
                "the store failed and takes no more writes");
            state.failure = Some(error.clone());
        }
        error
    }

    /// A batch has gone into the log and nobody waits for it.
    pub fn joined_without_waiting(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.dirty_since.is_none() {
            state.dirty_since = Some(Instant::now());
            // Only the first write after a sync wakes the thread, to set its timer.
            if state.waiting.is_empty() {
                drop(state);
                self.wake.notify_one();
            }
        }
    }

    /// A batch has gone into the log; `callback` is called after the sync that covers it.
    pub fn joined(&self, callback: Callback) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.synced_writes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.dirty_since.get_or_insert_with(Instant::now);
        state.waiting.push(callback);
        // Later joiners find the thread already woken.
        if state.waiting.len() == 1 {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// A batch has gone into the log, and the calling thread syncs it itself, along with everybody who waits.
    pub fn joined_as_syncer(&self) -> Result<(), WriteError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.synced_writes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.dirty_since = None;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.round(waiting)
    }

    /// One sync, answered to all of `waiting`. Their batches were in the log before they joined.
    fn round(&self, waiting: Vec<Callback>) -> Result<(), WriteError> {
        let outcome = match self.admit() {
            Err(refused) => Err(refused),
            Ok(()) => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
                mezzo_fault_points::hit!("store.syncing");
                let synced = self.db.flush_wal(true);
                mezzo_fault_points::hit!("store.synced");
                synced.map_err(|error| self.fail(error))
            }
        };
        for callback in waiting {
            callback(outcome.clone());
        }
        outcome
    }

    /// The sync thread: rounds until [`Group::stop`], with everything synced at the end.
    pub fn run(&self) {
        let mut state = self.state();
        loop {
            let due = state.dirty_since.map(|since| since + FLUSH_INTERVAL);
            if state.waiting.is_empty() && !state.stopping {
                state = match due {
                    None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(due) => {
                        let left = due.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            state.dirty_since = None;
                            drop(state);
                            // A failure is remembered and told to whoever writes next.
                            let _ = self.round(Vec::new());
                            self.state()
                        } else {
                            self.wake
                                .wait_timeout(state, left)
                                .unwrap_or_else(PoisonError::into_inner)
                                .0
                        }
                    }
                };
                continue;
            }
            if state.stopping && state.waiting.is_empty() && state.dirty_since.is_none() {
                return;
            }
            state.dirty_since = None;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            // Everybody who waited has been told; the failure itself is kept.
            let _ = self.round(waiting);
            state = self.state();
        }
    }

    /// Asks the sync thread to end once everything written is synced.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.wake.notify_all();
    }

    pub fn counts(&self) -> Counts {
        Counts {
            writes: self.writes.load(Ordering::Relaxed),
            synced_writes: self.synced_writes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }
}
