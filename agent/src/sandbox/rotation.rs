//! When output files are rotated.
//!
//! The kernel says when a file is written to, once; the file is then looked at a second later and watched
//! again. So a quiet task costs nothing and a chatty one a look a second, however much it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mezzo_types::ContainerId;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use super::changes::Notices;
use super::log::{Log, LogLimits, LogLocks, Method};

/// From a write to the look at the file's size.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Files that are copied at the same time: the disk is the tasks'.
const ROTATIONS_AT_ONCE: usize = 2;
/// The files that tasks' output goes to.
pub(crate) const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

/// Rotates the output of running containers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rotation(Arc<Shared>);

struct Shared {
    keeper: Arc<Keeper>,
    pump: Option<AbortHandle>,
}

struct Keeper {
    limits: LogLimits,
    /// `None`: the file system can take away no file's head.
    method: Option<Method>,
    locks: LogLocks,
    notices: Notices,
    state: Mutex<State>,
    /// Something is due that no notice told of.
    due: Notify,
    turns: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// As many as running containers have output files.
    logs: BTreeMap<u64, Arc<Watched>>,
    of: BTreeMap<ContainerId, Vec<u64>>,
    armed: BTreeMap<WatchDescriptor, u64>,
    watches: BTreeMap<u64, WatchDescriptor>,
    due: BTreeSet<u64>,
}

/// No file is kept open: there may be thousands.
struct Watched {
    container: ContainerId,
    sandbox: PathBuf,
    name: &'static str,
    inode: u64,
    rotating: AtomicBool,
    /// The last try failed, and that was said.
    failed: AtomicBool,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("limits", &self.0.keeper.limits).finish_non_exhaustive()
    }
}

impl Rotation {
    /// Must be called within a runtime. Sandboxes lie below `work_dir`.
    pub(crate) fn start(
        work_dir: &Path,
        limits: LogLimits,
        locks: LogLocks,
    ) -> io::Result<Rotation> {
        let method = Method::probe(std::fs::File::open(work_dir)?)?;
        match method {
            None => tracing::warn!(
                work_dir = %work_dir.display(),
                "the output of tasks is not rotated: the file system of the work directory can neither collapse \
                 a range nor punch a hole (ext4, XFS, btrfs and tmpfs can)"
            ),
            Some(Method { collapse: false, .. }) => tracing::info!(
                "rotated output leaves a hole at the head of the file: the file system cannot collapse ranges"
            ),
            Some(_) => {}
        }
        let keeper = Arc::new(Keeper {
            limits,
            method,
            locks,
            notices: Notices::open()?,
            state: Mutex::default(),
            due: Notify::new(),
            turns: Arc::new(Semaphore::new(ROTATIONS_AT_ONCE)),
        });
        let pump = method.map(|_| tokio::spawn(Arc::clone(&keeper).keep()).abort_handle());
        Ok(Rotation(Arc::new(Shared { keeper, pump })))
    }

    /// Looks after the output of a container that is about to run.
    pub(crate) fn watch(&self, container: &ContainerId, sandbox: &Path, outputs: [&OwnedFd; 2]) {
        let keeper = &self.0.keeper;
        if keeper.method.is_none() {
            return;
        }
        for (name, output) in OUTPUTS.into_iter().zip(outputs) {
            match nix::sys::stat::fstat(output) {
                Ok(facts) => keeper.take(container, sandbox, name, facts.st_ino),
                Err(error) => tracing::warn!(%container, name, %error, "output is not rotated"),
            }
        }
    }

    /// Looks after the output of a container that was there before this agent; what an earlier one left half done is finished. Blocks.
    pub(crate) fn watch_again(&self, container: &ContainerId, sandbox: &Path) {
        let keeper = &self.0.keeper;
        let Some(method) = keeper.method else { return };
        for name in OUTPUTS {
            let opened = keeper.open(sandbox, name, None).and_then(|log| {
                log.recover(method)?;
                Ok(log.file().metadata()?.ino())
            });
            match opened {
                Ok(inode) => keeper.take(container, sandbox, name, inode),
                // A container that never got as far has none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%container, name, %error, "output is not rotated"),
            }
        }
    }

    /// The container has ended: nothing more is written.
    pub(crate) fn forget(&self, container: &ContainerId) {
        let mut state = self.0.keeper.state();
        for key in state.of.remove(container).unwrap_or_default() {
            state.logs.remove(&key);
            state.due.remove(&key);
            if let Some(watch) = state.watches.remove(&key) {
                state.armed.remove(&watch);
                self.0.keeper.notices.remove(watch);
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, sandbox: &Path, name: &str, inode: Option<u64>) -> io::Result<Log> {
        Log::open(File::open(sandbox)?.into(), name, inode, self.locks.clone())
    }

    fn take(&self, container: &ContainerId, sandbox: &Path, name: &'static str, inode: u64) {
        let watched = Watched {
            container: container.clone(),
            sandbox: sandbox.to_owned(),
            name,
            inode,
            rotating: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        };
        let mut state = self.state();
        let key = state.next;
        state.next += 1;
        state.logs.insert(key, Arc::new(watched));
        state.of.entry(container.clone()).or_default().push(key);
        // It may be over its limit already: it is looked at, which arms its watch.
        state.due.insert(key);
        drop(state);
        self.due.notify_one();
    }

    async fn keep(self: Arc<Self>) {
        loop {
            let nothing_due = self.state().due.is_empty();
            tokio::select! {
                // Cancel-safe: events stay in the kernel until they are read.
                events = self.notices.next(), if nothing_due => match events {
                    Ok(events) => self.note(&events),
                    Err(error) => {
                        tracing::error!(%error, "the output of tasks is rotated no more");
                        return;
                    }
                },
                // Cancel-safe: a permit that is not taken stays.
                () = self.due.notified(), if nothing_due => {}
                () = tokio::time::sleep(LOOK_AFTER), if !nothing_due => {
                    let events = self.notices.now().unwrap_or_default();
                    self.note(&events);
                    let this = Arc::clone(&self);
                    // Runs a few system calls for each file that was written to.
                    let over = tokio::task::spawn_blocking(move || this.look());
                    for (key, watched) in over.await.unwrap_or_default() {
                        tokio::spawn(Arc::clone(&self).rotate(key, watched));
                    }
                }
            }
        }
    }

    fn note(&self, events: &[InotifyEvent]) {
        let mut state = self.state();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                let all: Vec<u64> = state.logs.keys().copied().collect();
                state.due.extend(all);
            } else if event.mask.contains(AddWatchFlags::IN_MODIFY)
                && let Some(key) = state.armed.remove(&event.wd)
            {
                state.watches.remove(&key);
                state.due.insert(key);
            }
        }
    }

    /// Watches what is due again, and says what is over its limit.
    fn look(&self) -> Vec<(u64, Arc<Watched>)> {
        let due = std::mem::take(&mut self.state().due);
        let mut over = Vec::new();
        for key in due {
            let Some(watched) = self.state().logs.get(&key).cloned() else { continue };
            let log = match self.open(&watched.sandbox, watched.name, Some(watched.inode)) {
                Ok(log) => log,
                Err(error) => {
                    // Its task took it away, or puts it back one day: an open file has no name to watch.
                    watched.complain(&error, "output is not rotated");
                    continue;
                }
            };
            // Watched before it is measured: what is written in between is noticed.
            let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT;
            match self.notices.add(log.file(), flags) {
                Ok(watch) => {
                    let mut state = self.state();
                    if state.logs.contains_key(&key) {
                        state.armed.insert(watch, key);
                        state.watches.insert(key, watch);
                    } else {
                        self.notices.remove(watch);
                    }
                }
                Err(error) => {
                    watched.complain(
                        &error,
                        "no more files can be watched (fs.inotify.max_user_watches)",
                    );
                    self.state().due.insert(key);
                }
            }
            if log.is_over(self.limits) && !watched.rotating.swap(true, Ordering::AcqRel) {
                over.push((key, watched));
            }
        }
        over
    }

    async fn rotate(self: Arc<Self>, key: u64, watched: Arc<Watched>) {
        // Closed never.
        let Ok(_turn) = Arc::clone(&self.turns).acquire_owned().await else { return };
        let (this, copied) = (Arc::clone(&self), Arc::clone(&watched));
        let rotated = tokio::task::spawn_blocking(move || {
            let log = this.open(&copied.sandbox, copied.name, Some(copied.inode))?;
            this.method.map_or(Ok(0), |method| log.rotate(this.limits, method))
        });
        let again = match rotated.await.map_err(io::Error::other).and_then(|rotated| rotated) {
            Ok(times) => {
                watched.failed.store(false, Ordering::Release);
                tracing::debug!(container = %watched.container, times, "output was rotated");
                times > 0
            }
            Err(error) => {
                watched.complain(
                    &error,
                    "output could not be rotated; it is tried again after the next write",
                );
                false
            }
        };
        watched.rotating.store(false, Ordering::Release);
        if again {
            // More may have been written than was rotated.
            let mut state = self.state();
            if state.logs.contains_key(&key) {
                state.due.insert(key);
                drop(state);
                self.due.notify_one();
            }
        }
    }
}

impl Watched {
    /// Once, until it works again.
    fn complain(&self, error: &io::Error, what: &str) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::warn!(container = %self.container, %error, "{what}");
        }
    }
}
