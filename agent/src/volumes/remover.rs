//! Deletes what was moved away, one after the other, beside everything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::sandbox::remove_tree;

/// Ends with its owner; what is left then the next agent deletes.
#[derive(Debug)]
pub(super) struct Remover {
    /// Directories to be emptied.
    orders: mpsc::Sender<PathBuf>,
    stop: Arc<AtomicBool>,
}

impl Remover {
    pub(super) fn start() -> Self {
        let (orders, received) = mpsc::channel::<PathBuf>();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // One thread: the disk is the tasks'. Orders are few, each was one order of the master.
        let work = move || {
            for directory in received {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                empty(&directory, &stopped);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("volumes".to_owned()).spawn(work) {
            tracing::error!(%error, "destroyed volumes are not deleted until the next start");
        }
        Remover { orders, stop }
    }

    /// Has everything in the directory deleted.
    pub(super) fn remove(&self, directory: PathBuf) {
        // Without a thread it stays for the next agent.
        let _ = self.orders.send(directory);
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn empty(directory: &Path, stop: &AtomicBool) {
    let Ok(entries) = directory.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        let done = if is_directory {
            remove_tree(directory, &name.to_string_lossy(), stop).map_err(|error| error.to_string())
        } else {
            std::fs::remove_file(&path).map_err(|error| error.to_string())
        };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = done {
            tracing::warn!(path = %path.display(), error, "the data of a destroyed volume stays");
        }
    }
}
