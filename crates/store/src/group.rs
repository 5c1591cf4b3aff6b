//! The shared sync: one thread that syncs the write-ahead log for everybody who waits.
//!
//! A writer first puts its batch into the log (not synced) and then joins the group. A round takes
//! everybody who has joined so far, syncs once and answers all of them. While a round runs, the next
//! group gathers; under load the batch size therefore adapts itself to the speed of the disk, and an idle
//! store syncs a lone writer at once. Writes that nobody waits for make the log dirty; it is synced at
//! latest [`FLUSH_INTERVAL`] later. When the log is clean and nobody waits, the thread sleeps for good.
//!
//! When the disk cannot keep up, or is full, writers do not wait for it: their batches are held in memory,
//! in order, and the thread writes them as soon as it can. After a full disk RocksDB goes on by itself when
//! there is room: it puts its memtables into files and begins a new log, so the torn record that the failed
//! write may have left counts for nothing. The thread notices by trying again, and only then are there wake-ups.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rocksdb::{DB, WriteBatch, WriteOptions};

use crate::batch::{Batch, Change};
use crate::error::{Lack, WriteError};
use crate::held::{Held, Notice};
use crate::layout::{SYNCED_KEY, synced_value};
use crate::pace::{Pace, Slowness};
use crate::place::Place;
use crate::room::{Keeper, Shortage};
use crate::view;

/// Longest time that a plain write stays unsynced: what a power loss may take.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// While a sync takes longer than this, writers hand their batches to the thread: the kernel may make
/// whoever appends to the file wait as long as the sync does.
const SYNC_PATIENCE: Duration = Duration::from_millis(50);

/// How often a full disk is tried again. RocksDB itself looks every five seconds.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How often the room is looked at while writing, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) type Callback = Box<dyn FnOnce(Result<(), WriteError>) + Send>;
type Observer = Box<dyn Fn(Duration) + Send + Sync>;

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Batches put into the log, whether anybody waited for their sync or not.
    pub writes: u64,
    /// Of these, batches that somebody waited for.
    pub synced_writes: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Batches that wait in memory now, as the disk is full or too slow.
    pub held: u64,
}

pub(crate) struct Group {
    pub db: DB,
    pub dir: PathBuf,
    place: Place,
    keeper: Keeper,
    state: Mutex<State>,
    wake: Condvar,
    observer: OnceLock<Observer>,
    writes: AtomicU64,
    synced_writes: AtomicU64,
    syncs: AtomicU64,
}

/// What became of a sync.
enum Synced {
    /// The last write that is on the disk for certain.
    To(u64),
    Lacks(Lack),
}

#[derive(Default)]
struct State {
    /// When the oldest write was made that no round has taken yet.
    dirty_since: Option<Instant>,
    waiting: Vec<Callback>,
    held: Held,
    /// The thread is writing what was held: later writes wait behind it.
    draining: bool,
    /// Since when there is no space, if so.
    full_since: Option<Instant>,
    /// What there is too little of then.
    lack: Option<Lack>,
    pace: Pace,
    /// The last write that is on the disk, and whether the log says so already.
    synced_sequence: u64,
    marked_sequence: u64,
    looked: Option<Instant>,
    /// The failure that ended writing, if there was one.
    failure: Option<WriteError>,
    stopping: bool,
}

impl State {
    /// Whether a write has to wait behind others, or for the disk.
    fn holds(&self) -> bool {
        self.draining
            || self.full_since.is_some()
            || !self.held.is_empty()
            || self.pace.waiting(Instant::now()).is_some_and(|waiting| waiting > SYNC_PATIENCE)
    }
}

impl Group {
    pub fn new(db: DB, dir: PathBuf) -> Self {
        Self {
            place: Place::of(&dir),
            keeper: Keeper::new(dir.clone()),
            db,
            dir,
            state: Mutex::default(),
            wake: Condvar::new(),
            observer: OnceLock::new(),
            writes: AtomicU64::new(0),
            synced_writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every sync's duration told.
    pub fn observe(&self, observer: Observer) {
        // The first one stays.
        let _ = self.observer.set(observer);
    }

    pub fn check_room(&self) -> Result<(), Shortage> {
        let state = self.state();
        let lack = state.full_since.and(state.lack);
        drop(state);
        self.keeper.check(lack)
    }

    /// The disk is slow, if it is. Logged now and then, by whoever notices it.
    pub fn slowness(&self) -> Option<Slowness> {
        self.note_slowness(&mut self.state())
    }

    fn note_slowness(&self, state: &mut State) -> Option<Slowness> {
        let now = Instant::now();
        let (sync, under_way) = state.pace.slowness(now)?;
        let slow = Slowness { dir: self.dir.clone(), sync, under_way };
        if state.pace.is_news(now) {
            tracing::warn!("{slow}");
        }
        Some(slow)
    }

    pub fn failure(&self) -> Option<WriteError> {
        self.state().failure.clone()
    }

    fn refusing(&self, first: &WriteError) -> WriteError {
        WriteError::Refusing { dir: self.dir.clone(), first: Box::new(first.clone()) }
    }

    /// Puts a batch into the write-ahead log and the memtables: in the page cache when this returns. Gives
    /// the notice back if it was done; otherwise the batch is held, and the notice with it.
    pub fn log(&self, batch: Batch, notice: Notice) -> Result<Option<Notice>, WriteError> {
        let mut state = self.state();
        if let Some(first) = &state.failure {
            return Err(self.refusing(first));
        }
        if state.holds() {
            return self.hold(state, batch, notice);
        }
        let mark = state.take_mark();
        drop(state);
        let mut options = WriteOptions::default();
        // Rather than to wait for a memtable to be written, the batch is held.
        options.set_no_slowdown(true);
        let logged = self.put(&batch, mark, &options);
        mezzo_fault_points::hit!("store.logged");
        match logged {
            Ok(()) => {
                self.writes.fetch_add(1, Ordering::Relaxed);
                Ok(Some(notice))
            }
            Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => {
                self.hold(self.state(), batch, notice)
            }
            Err(error) => {
                let lack = self.lack(error)?;
                let mut state = self.state();
                self.enter_full(&mut state, lack);
                self.hold(state, batch, notice)
            }
        }
    }

    fn hold(
        &self,
        mut state: MutexGuard<'_, State>,
        batch: Batch,
        notice: Notice,
    ) -> Result<Option<Notice>, WriteError> {
        match state.held.push(batch, notice) {
            Ok(()) => {
                self.note_slowness(&mut state);
                drop(state);
                self.wake.notify_one();
                Ok(None)
            }
            Err(_) => {
                let error = WriteError::TooMuchHeld { dir: self.dir.clone() };
                Err(self.remember(&mut state, error))
            }
        }
    }

    /// Writes changes into RocksDB, with a mark of what is on the disk.
    fn put(
        &self,
        batch: &Batch,
        mark: Option<u64>,
        options: &WriteOptions,
    ) -> Result<(), rocksdb::Error> {
        let mut compiled = WriteBatch::default();
        // First, so that whoever reads the log finds it without understanding the rest.
        if let Some(sequence) = mark {
            compiled.put(SYNCED_KEY, synced_value(sequence));
        }
        for change in &batch.changes {
            match change {
                Change::Put { family, key, value } => {
                    compiled.put_cf(view::handle(&self.db, family), key, value);
                }
                Change::Delete { family, key } => {
                    compiled.delete_cf(view::handle(&self.db, family), key);
                }
                Change::DeleteRange { family, from, to } => {
                    compiled.delete_range_cf(view::handle(&self.db, family), from, to);
                }
            }
        }
        self.db.write_opt(compiled, options)
    }

    /// What the disk lacks, if that is the failure, as it passes; any other one is remembered and returned.
    fn lack(&self, error: rocksdb::Error) -> Result<Lack, WriteError> {
        if let Some(lack) = WriteError::lack(&error) {
            return Ok(lack);
        }
        // Who comes second hears that the file failed before, and not why; RocksDB itself knows.
        let mark = self.state().synced_sequence;
        let probe = self.put(&Batch::new(), Some(mark), &WriteOptions::default());
        if let Some(lack) = probe.err().and_then(|cause| WriteError::lack(&cause)) {
            return Ok(lack);
        }
        let error = WriteError::from_engine(self.dir.clone(), error);
        Err(self.remember(&mut self.state(), error))
    }

    fn enter_full(&self, state: &mut State, lack: Lack) {
        if state.lack != Some(Lack::Quota) {
            state.lack = Some(lack);
        }
        if state.full_since.is_some() {
            return;
        }
        state.full_since = Some(Instant::now());
        let what = match lack {
            Lack::Space => {
                self.keeper.give_up();
                "no space left on the file system of the store"
            }
            // The reserve is for whoever opens the store anew.
            Lack::Quota => "the quota of the store is used up",
        };
        tracing::error!(store = %self.dir.display(),
            "{what}: what has to be written waits in memory; free some, no restart is needed");
    }

    /// Remembers the first failure; every later write is refused with it.
    fn remember(&self, state: &mut State, error: WriteError) -> WriteError {
        if state.failure.is_none() {
            tracing::error!(store = %self.dir.display(), error = %error, source = ?std::error::Error::source(&error),
                "the store failed and takes no more writes");
            state.failure = Some(error.clone());
            self.wake.notify_all();
        }
        error
    }

    /// A batch has gone into the log and nobody waits for it.
    pub fn joined_without_waiting(&self) {
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
    pub fn joined_as_syncer(&self, callback: Callback) {
        self.synced_writes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.waiting.push(callback);
        if state.full_since.is_some() {
            state.dirty_since.get_or_insert_with(Instant::now);
            return;
        }
        self.round(state);
    }

    /// One sync, answered to all who wait. Their batches were in the log before they joined.
    fn round<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        state.dirty_since = None;
        let waiting = std::mem::take(&mut state.waiting);
        let outcome = match &state.failure {
            Some(first) => Err(self.refusing(first)),
            None => {
                let began = Instant::now();
                state.pace.begin(began);
                let looks = state.looked.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
                if looks {
                    state.looked = Some(began);
                }
                drop(state);
                let outcome = self.sync(looks);
                state = self.state();
                self.took(&mut state, began);
                match outcome {
                    Ok(Synced::To(sequence)) => {
                        state.synced_sequence = state.synced_sequence.max(sequence);
                        Ok(())
                    }
                    Ok(Synced::Lacks(lack)) => {
                        // Everybody goes on waiting, in front of those who came meanwhile.
                        self.enter_full(&mut state, lack);
                        state.dirty_since.get_or_insert(began);
                        state.waiting.splice(0..0, waiting);
                        return;
                    }
                    Err(error) => Err(self.remember(&mut state, error)),
                }
            }
        };
        drop(state);
        for callback in waiting {
            callback(outcome.clone());
        }
    }

    /// Syncs the log.
    fn sync(&self, looks: bool) -> Result<Synced, WriteError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let sequence = self.db.latest_sequence_number();
        mezzo_fault_points::hit!("store.syncing");
        let flushed = self.db.flush_wal(true);
        mezzo_fault_points::hit!("store.synced");
        if let Err(error) = flushed {
            // A quota that shows only now (that of a file server): nobody knows what of the log is lost.
            if WriteError::lack(&error) == Some(Lack::Quota) {
                return Err(WriteError::from_engine(self.dir.clone(), error));
            }
            return Ok(Synced::Lacks(self.lack(error)?));
        }
        if looks {
            // A sync of files that no path leads to any more succeeds.
            if self.place.is_gone() {
                return Err(WriteError::Gone { dir: self.dir.clone() });
            }
            self.keeper.look();
        }
        Ok(Synced::To(sequence))
    }

    fn took(&self, state: &mut State, began: Instant) {
        if let Some(observer) = self.observer.get() {
            observer(began.elapsed());
        }
        if state.pace.end(began, Instant::now()) {
            tracing::info!(store = %self.dir.display(), "the disk of the store is not slow any more");
        }
        self.note_slowness(state);
    }

    /// The sync thread: rounds until [`Group::stop`], with everything synced at the end.
    pub fn run(&self) {
        let mut state = self.state();
        loop {
            if let Some(first) = state.failure.clone() {
                // Nothing that waits can be written any more.
                let waiting = state.held.drain();
                state.full_since = None;
                drop(state);
                for callback in waiting {
                    callback(Err(self.refusing(&first)));
                }
                state = self.state();
            } else if state.full_since.is_some() {
                if state.stopping {
                    let error = WriteError::TooMuchHeld { dir: self.dir.clone() };
                    self.remember(&mut state, error);
                    continue;
                }
                state = self.wait(state, RETRY_INTERVAL);
                drop(state);
                self.try_again();
                state = self.state();
                continue;
            } else if !state.held.is_empty() {
                state.draining = true;
                drop(state);
                self.drain();
                state = self.state();
                continue;
            }
            let due = state.dirty_since.map(|since| since + FLUSH_INTERVAL);
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if state.waiting.is_empty() && !state.stopping && left != Some(Duration::ZERO) {
                state = match left {
                    None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => self.wait(state, left),
                };
                continue;
            }
            if state.stopping && state.waiting.is_empty() && state.dirty_since.is_none() {
                return;
            }
            self.round(state);
            state = self.state();
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Looks whether RocksDB takes writes again, by a write that changes nothing. After a quota it takes none until it
    /// is opened anew, which is worth it as soon as there is room.
    fn try_again(&self) {
        let state = self.state();
        let (lack, mark) = (state.lack, state.synced_sequence);
        drop(state);
        if lack == Some(Lack::Quota) {
            if self.keeper.has_quota() {
                let error = WriteError::Reopen { dir: self.dir.clone() };
                self.remember(&mut self.state(), error);
            }
            return;
        }
        match self.put(&Batch::new(), Some(mark), &WriteOptions::default()) {
            Ok(()) => {
                let mut state = self.state();
                let since = state.full_since.take();
                state.lack = None;
                let (held, waiting) = (state.held.len(), state.waiting.len());
                state.dirty_since.get_or_insert_with(Instant::now);
                drop(state);
                let seconds = since.map(|since| since.elapsed().as_secs()).unwrap_or_default();
                tracing::info!(store = %self.dir.display(), seconds, held, waiting, "there is space again: the store goes on");
            }
            // Another failure than want of space is remembered; the loop sees it.
            Err(error) => {
                let mut state = self.state();
                match WriteError::lack(&error) {
                    Some(lack) => state.lack = Some(lack),
                    None => {
                        let error = WriteError::from_engine(self.dir.clone(), error);
                        self.remember(&mut state, error);
                    }
                }
            }
        }
    }

    /// Writes what was held, in order. Meanwhile later writes are held behind it.
    fn drain(&self) {
        loop {
            let mut state = self.state();
            let Some((batch, notice)) = state.held.pop() else {
                state.draining = false;
                return;
            };
            let mark = state.take_mark();
            drop(state);
            // This thread may wait for RocksDB.
            match self.put(&batch, mark, &WriteOptions::default()) {
                Ok(()) => self.logged(notice),
                Err(error) => {
                    let outcome = self.lack(error);
                    let mut state = self.state();
                    state.held.unpop(batch, notice);
                    state.draining = false;
                    if let Ok(lack) = outcome {
                        self.enter_full(&mut state, lack);
                    }
                    return;
                }
            }
        }
    }

    fn logged(&self, notice: Notice) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.dirty_since.get_or_insert_with(Instant::now);
        match notice {
            Notice::Nobody => {}
            Notice::Synced(callback) => {
                self.synced_writes.fetch_add(1, Ordering::Relaxed);
                state.waiting.push(callback);
            }
            Notice::Logged(callback) => {
                drop(state);
                callback(Ok(()));
            }
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
            held: self.state().held.len() as u64,
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl State {
    /// What the next write should say of the one before, if that is news.
    fn take_mark(&mut self) -> Option<u64> {
        let news = self.synced_sequence > self.marked_sequence;
        news.then(|| {
            self.marked_sequence = self.synced_sequence;
            self.synced_sequence
        })
    }
}
