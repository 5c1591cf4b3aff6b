//! Notices of writes to files, for all who follow one: a single inotify instance, of which a user has few.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// An inotify instance that the runtime waits on.
pub(super) struct Notices {
    inotify: Inotify,
    /// The same open description.
    ready: AsyncFd<OwnedFd>,
}

impl Notices {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an owned descriptor is what makes it sound"
    )]
    pub(super) fn open() -> io::Result<Notices> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let waited_on = inotify.as_fd().try_clone_to_owned()?;
        let ready = AsyncFd::with_interest(waited_on, Interest::READABLE)?;
        Ok(Notices { inotify, ready })
    }

    pub(super) fn add(&self, file: &File, flags: AddWatchFlags) -> io::Result<WatchDescriptor> {
        // By its descriptor: the task may have put another file in its place.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(self.inotify.add_watch(path.as_str(), flags)?)
    }

    pub(super) fn remove(&self, watch: WatchDescriptor) {
        // It went by itself if the file did, or if it was for one notice.
        let _ = self.inotify.rm_watch(watch);
    }

    /// What happened since the last time; waits for something.
    pub(super) async fn next(&self) -> io::Result<Vec<InotifyEvent>> {
        let mut ready = self.ready.readable().await?;
        // Cleared first: an event between the two makes the descriptor ready again.
        ready.clear_ready();
        self.now()
    }

    /// What happened since the last time, if anything did.
    pub(super) fn now(&self) -> io::Result<Vec<InotifyEvent>> {
        match self.inotify.read_events() {
            Ok(events) => Ok(events),
            Err(Errno::EAGAIN) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Files that are followed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Changes(Arc<Shared>);

struct Shared {
    hub: Arc<Hub>,
    pump: AbortHandle,
}

struct Hub {
    notices: Notices,
    /// As many as there are files that somebody follows.
    followed: Mutex<BTreeMap<WatchDescriptor, watch::Sender<()>>>,
}

/// One reader's interest in one file; ends when it is dropped.
pub(crate) struct Following {
    hub: Arc<Hub>,
    watch: WatchDescriptor,
    /// `None` only while it is dropped.
    changed: Option<watch::Receiver<()>>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl Changes {
    /// Must be called within a runtime.
    pub(crate) fn start() -> io::Result<Changes> {
        let hub = Arc::new(Hub { notices: Notices::open()?, followed: Mutex::default() });
        let pumped = Arc::clone(&hub);
        let pump = tokio::spawn(async move {
            while let Ok(events) = pumped.notices.next().await {
                pumped.tell(&events);
            }
        });
        Ok(Changes(Arc::new(Shared { hub, pump: pump.abort_handle() })))
    }

    /// Follows a file: whatever is written to it from now on is noticed.
    pub(crate) fn follow(&self, file: &File) -> io::Result<Following> {
        let hub = Arc::clone(&self.0.hub);
        let mut followed = hub.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = hub.notices.add(file, AddWatchFlags::IN_MODIFY)?;
        let changed = followed.entry(watch).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(followed);
        Ok(Following { hub, watch, changed: Some(changed) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Hub {
    fn tell(&self, events: &[InotifyEvent]) {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // Something was missed: everybody looks.
                for file in followed.values() {
                    file.send_replace(());
                }
            } else if let Some(file) = followed.get(&event.wd) {
                file.send_replace(());
            }
        }
    }
}

impl Following {
    /// Waits until the file was written to since the last time. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        let told = match &mut self.changed {
            Some(changed) => changed.changed().await.is_ok(),
            None => false,
        };
        if !told {
            // The sender lives as long as this does; nothing will ever be told otherwise.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.hub.followed.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed = None;
        if followed.get(&self.watch).is_some_and(|file| file.receiver_count() == 0) {
            followed.remove(&self.watch);
            self.hub.notices.remove(self.watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn all_who_follow_a_file_are_told_and_nothing_stays_when_they_stop() {
        let changes = Changes::start().expect("inotify");
        let mut file = tempfile::tempfile().expect("a file");
        let mut one = changes.follow(&file).expect("follows");
        let mut two = changes.follow(&file).expect("follows");
        file.write_all(b"x").expect("writes");
        one.changed().await;
        two.changed().await;
        drop(one);
        file.write_all(b"y").expect("writes");
        two.changed().await;
        drop(two);
        assert!(changes.0.hub.followed.lock().expect("lock").is_empty());
    }
}
