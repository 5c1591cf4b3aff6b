//! How much room the file system of a store has, and what is kept of it.
//!
//! Two things are kept back, so that what was promised can still be brought to its end when the disk
//! fills up. The *headroom* is left alone by new promises: below it [`Store::check_room`](crate::Store::check_room)
//! refuses them, while endings and acknowledgements are still written. It does not help against others on
//! the same file system; for that there is the *reserve*, a file of allocated blocks that is deleted when
//! the last room is gone, and made again when there is room.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::error::Lack;

const MIB: u64 = 1 << 20;

/// New promises leave this much alone, or an eighth of a small file system: some hundred thousand endings,
/// and what RocksDB takes for a while to rewrite its files.
const HEADROOM_BYTES: u64 = 64 * MIB;
const HEADROOM_SHARE: u64 = 8;

/// Size of the reserve, or a sixteenth of a small file system: RocksDB wants one memtable's size (4 MiB)
/// to go on after a full disk, and some for its manifest and the log's next file.
const RESERVE_BYTES: u64 = 16 * MIB;
const RESERVE_SHARE: u64 = 16;

/// The reserve is given up when less than this is left.
const LAST_BYTES: u64 = MIB;

/// Name of the reserve in the store's directory. RocksDB leaves names alone that it does not know.
pub(crate) const RESERVE_NAME: &str = "mezzo.reserve";

/// Name of the file that is allocated and deleted to learn what is left of a quota.
const PROBE_NAME: &str = "mezzo.probe";

/// The room that a file system has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// For everybody, without what the file system keeps for root.
    pub free: u64,
    pub total: u64,
}

impl Room {
    /// Asks the kernel; nothing if it does not say.
    pub fn of(dir: &Path) -> Option<Self> {
        let facts = statvfs(dir).ok()?;
        let unit = facts.fragment_size();
        Some(Self {
            free: facts.blocks_available().saturating_mul(unit),
            total: facts.blocks().saturating_mul(unit),
        })
    }

    pub fn headroom(self) -> u64 {
        HEADROOM_BYTES.min(self.total / HEADROOM_SHARE)
    }

    fn reserve(self) -> u64 {
        RESERVE_BYTES.min(self.total / RESERVE_SHARE)
    }

    /// A quarter above the headroom, so that promises are not refused and taken by turns.
    fn is_comfortable(self) -> bool {
        self.free >= self.headroom() + self.headroom() / 4
    }
}

/// Why nothing new may be promised: one sentence for whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    pub dir: PathBuf,
    /// What is left, in bytes.
    pub free: u64,
    /// What new promises leave alone, in bytes.
    pub headroom: u64,
    /// Not even what was promised before can be written any more; it waits in memory.
    pub full: bool,
    /// It is a quota that is used up, of which `free` knows nothing.
    pub quota: bool,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.display();
        let free = mib(self.free);
        if self.quota {
            write!(f, "the quota of {dir} is used up")?;
        } else if self.full {
            write!(f, "the file system of {dir} is full ({free} MiB left)")?;
        } else {
            let headroom = mib(self.headroom);
            write!(
                f,
                "the file system of {dir} has {free} MiB left, and {headroom} MiB are kept for what runs already"
            )?;
        }
        f.write_str(
            ": nothing new is taken; free some space there and try again, no restart is needed",
        )
    }
}

impl std::error::Error for Shortage {}

/// In MiB with one decimal.
fn mib(bytes: u64) -> String {
    let tenths = bytes * 10 / MIB;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Watches the room of one store.
#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    /// New promises are refused.
    low: AtomicBool,
    has_reserve: AtomicBool,
}

impl Keeper {
    pub fn new(dir: PathBuf) -> Self {
        let has_reserve = AtomicBool::new(dir.join(RESERVE_NAME).exists());
        let keeper = Self { dir, low: AtomicBool::new(false), has_reserve };
        keeper.look();
        keeper
    }

    /// Whether new promises may be made, as of now.
    pub fn check(&self, lack: Option<Lack>) -> Result<(), Shortage> {
        let Some(room) = Room::of(&self.dir) else { return Ok(()) };
        let full = lack.is_some();
        let was_low = self.low.load(Ordering::Relaxed);
        let low = full || room.free < room.headroom() || was_low && !room.is_comfortable();
        let shortage = Shortage {
            dir: self.dir.clone(),
            free: room.free,
            headroom: room.headroom(),
            full,
            quota: lack == Some(Lack::Quota),
        };
        if low != was_low && self.low.swap(low, Ordering::Relaxed) != low {
            if low {
                tracing::warn!("{shortage}");
            } else {
                tracing::info!(store = %self.dir.display(), free_bytes = room.free, "there is room again for new promises");
            }
        }
        if low { Err(shortage) } else { Ok(()) }
    }

    /// Gives the reserve up when the last room goes, and makes it when there is room. To be called while
    /// writing, now and then.
    pub fn look(&self) {
        let Some(room) = Room::of(&self.dir) else { return };
        if self.has_reserve.load(Ordering::Relaxed) {
            if room.free < LAST_BYTES {
                self.give_up();
            }
        } else if room.free >= room.headroom() + room.headroom() / 4 + room.reserve() {
            match allocate(&self.dir.join(RESERVE_NAME), room.reserve()) {
                Ok(()) => self.has_reserve.store(true, Ordering::Relaxed),
                // Without it the store works as well; only a full disk is harder on it.
                Err(error) => {
                    tracing::debug!(store = %self.dir.display(), %error, "no reserve could be made");
                    self.give_up();
                }
            }
        }
    }

    /// Whether as much as the reserve can be had beside it: the only way to learn what is left of a quota.
    pub fn has_quota(&self) -> bool {
        let Some(room) = Room::of(&self.dir) else { return false };
        let probe = self.dir.join(PROBE_NAME);
        let had = allocate(&probe, room.reserve());
        // Also what was had of it in vain.
        let removed = fs::remove_file(&probe);
        had.is_ok() && removed.is_ok()
    }

    /// Deletes the reserve: its blocks are there for the next write.
    pub fn give_up(&self) {
        if give_up(&self.dir) {
            tracing::warn!(store = %self.dir.display(), "the disk is full: the store's reserve is used now");
        }
        self.has_reserve.store(false, Ordering::Relaxed);
    }
}

/// Deletes the reserve of the store in `dir`; whether there was one.
pub(crate) fn give_up(dir: &Path) -> bool {
    fs::remove_file(dir.join(RESERVE_NAME)).is_ok()
}

fn allocate(path: &Path, bytes: u64) -> std::io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    fallocate(&file, FallocateFlags::empty(), 0, length)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_file_systems_keep_their_share() {
        let small = Room { free: 0, total: 80 * MIB };
        assert_eq!((small.headroom(), small.reserve()), (10 * MIB, 5 * MIB));
        let large = Room { free: 0, total: 1 << 40 };
        assert_eq!((large.headroom(), large.reserve()), (64 * MIB, 16 * MIB));
    }

    #[test]
    fn the_sentence_says_where_how_much_and_what_to_do() {
        let low = Shortage {
            dir: "/data/store".into(),
            free: 5 * MIB + MIB / 2,
            headroom: 64 * MIB,
            full: false,
            quota: false,
        };
        assert_eq!(
            low.to_string(),
            "the file system of /data/store has 5.5 MiB left, and 64.0 MiB are kept for what runs already: \
             nothing new is taken; free some space there and try again, no restart is needed"
        );
        let full = Shortage { full: true, free: 0, ..low };
        assert!(full.to_string().contains("/data/store is full (0.0 MiB left): nothing new"));
        let quota = Shortage { quota: true, ..full };
        let text = quota.to_string();
        assert!(text.starts_with("the quota of /data/store is used up: nothing new"), "{text}");
    }

    #[test]
    fn the_reserve_takes_blocks_and_gives_them_back() {
        let dir = tempfile::TempDir::new().expect("a directory");
        allocate(&dir.path().join(RESERVE_NAME), 3 * MIB).expect("allocates");
        let found = fs::metadata(dir.path().join(RESERVE_NAME)).expect("exists");
        assert!(std::os::unix::fs::MetadataExt::blocks(&found) * 512 >= 3 * MIB);
        assert!(give_up(dir.path()));
        assert!(!give_up(dir.path()));
    }
}
