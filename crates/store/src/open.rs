//! Finding out what is in the directory before and while RocksDB opens it.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, WriteOptions};

use crate::error::OpenError;
use crate::layout::{FORMAT_KEY, Layout, Marker};
use crate::room;
use crate::tuning;
use crate::wal;

/// Creates what is missing, refuses what is not ours, and returns the open database with its marker checked.
/// On a full disk the store's reserve is given up for it.
pub(crate) fn open(dir: &Path, layout: &Layout) -> Result<DB, OpenError> {
    match try_open(dir, layout) {
        Err(OpenError::OutOfSpace { .. }) if room::give_up(dir) => try_open(dir, layout),
        outcome => outcome,
    }
}

fn try_open(dir: &Path, layout: &Layout) -> Result<DB, OpenError> {
    let exists = prepare_directory(dir)?;
    let options = tuning::database();
    let mut names = Vec::new();
    if exists {
        let damage = wal::check(dir).map_err(|error| OpenError::from_io(dir.to_owned(), error))?;
        if let Some(wal::Damage { log, offset }) = damage {
            let (dir, kind) = (dir.to_owned(), layout.kind);
            return Err(OpenError::DamagedLog { dir, kind, log, offset });
        }
        names = DB::list_cf(&options, dir)
            .map_err(|error| OpenError::from_engine(dir.to_owned(), layout.kind, error))?;
    }
    for family in std::iter::once(DEFAULT_COLUMN_FAMILY_NAME).chain(layout.families.iter().copied())
    {
        if !names.iter().any(|name| name == family) {
            names.push(family.to_owned());
        }
    }
    let cache = tuning::cache();
    let families =
        names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, tuning::family(&cache)));
    let db = DB::open_cf_descriptors(&options, dir, families)
        .map_err(|error| OpenError::from_engine(dir.to_owned(), layout.kind, error))?;
    check_marker(&db, dir, layout)?;
    Ok(db)
}

/// Makes sure that `dir` is a directory that holds a database or nothing. Returns whether it holds one.
fn prepare_directory(dir: &Path) -> Result<bool, OpenError> {
    let io = |source| OpenError::from_io(dir.to_owned(), source);
    match fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(OpenError::NotADirectory { dir: dir.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
            // The new name itself must outlive a power loss too.
            if let Some(parent) = dir.canonicalize().map_err(io)?.parent() {
                fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
            }
        }
        Err(error) => return Err(io(error)),
    }
    let mut foreign = None;
    for entry in fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if name == "CURRENT" {
            return Ok(true);
        }
        if !is_left_by_creation(&name) {
            foreign = Some(name);
        }
    }
    match foreign {
        Some(found) => Err(OpenError::NotAStore { dir: dir.to_owned(), found }),
        None => Ok(false),
    }
}

/// Files that an interrupted creation leaves behind (`CURRENT` is its last step), and the directory that
/// `mkfs` puts at the root of a file system of its own.
fn is_left_by_creation(name: &str) -> bool {
    matches!(name, "LOCK" | "LOG" | "IDENTITY" | "lost+found" | room::RESERVE_NAME)
        || ["LOG.old.", "MANIFEST-", "OPTIONS-"].iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with(".dbtmp")
        || name.ends_with(".log")
}

fn check_marker(db: &DB, dir: &Path, layout: &Layout) -> Result<(), OpenError> {
    let engine = |error| OpenError::from_engine(dir.to_owned(), layout.kind, error);
    let Some(value) = db.get(FORMAT_KEY).map_err(engine)? else {
        // Nothing was ever written: creation got as far as this at most.
        if db.latest_sequence_number() != 0 {
            return Err(OpenError::NotAStore {
                dir: dir.to_owned(),
                found: "a RocksDB database".to_owned(),
            });
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        return db.put_opt(FORMAT_KEY, Marker::of(layout).encode(), &synced).map_err(engine);
    };
    let Some(marker) = Marker::decode(&value) else {
        let found = String::from_utf8_lossy(&value).into_owned();
        return Err(OpenError::NotAStore { dir: dir.to_owned(), found });
    };
    check_fit(marker, dir, layout)
}

/// Whether a store with this marker may be opened as `layout` says.
pub(crate) fn check_fit(marker: Marker, dir: &Path, layout: &Layout) -> Result<(), OpenError> {
    if marker.kind != layout.kind {
        return Err(OpenError::OtherKind {
            dir: dir.to_owned(),
            found: marker.kind,
            expected: layout.kind,
        });
    }
    if marker.version > layout.version {
        return Err(OpenError::NewerFormat {
            dir: dir.to_owned(),
            found: marker.version,
            supported: layout.version,
        });
    }
    Ok(())
}

/// Who holds the lock on `dir`, as words. The kernel's list is read instead of asking for the lock, because
/// opening and closing the lock file in the process that holds it would drop it (POSIX record locks).
pub(crate) fn lock_holder(dir: &Path) -> String {
    let holder = fs::metadata(dir.join("LOCK"))
        .ok()
        .and_then(|lock| holder_of_inode(&fs::read_to_string("/proc/locks").ok()?, lock.st_ino()));
    match holder {
        Some(pid) if pid == std::process::id() => format!("this process (pid {pid})"),
        Some(pid) => match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("process {pid} ({})", name.trim_end()),
            Err(_) => format!("process {pid}"),
        },
        None => "another process".to_owned(),
    }
}

/// Lines look like `1: POSIX  ADVISORY  WRITE 4711 fe:00:1048602 0 EOF`; waiters have `->` after the number.
fn holder_of_inode(locks: &str, inode: u64) -> Option<u32> {
    let inode = inode.to_string();
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, "WRITE", pid, file, ..] = fields.as_slice() else { return None };
        (file.rsplit(':').next() == Some(inode.as_str())).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 10 fe:00:77 0 EOF\n\
                     2: POSIX  ADVISORY  READ 11 fe:00:77 0 EOF\n\
                     3: -> POSIX  ADVISORY  WRITE 12 fe:00:77 0 EOF\n\
                     3: POSIX  ADVISORY  WRITE 13 fe:00:77 0 EOF\n";
        assert_eq!(holder_of_inode(locks, 77), Some(13));
        assert_eq!(holder_of_inode(locks, 7), None);
    }

    #[test]
    fn an_interrupted_creation_is_no_foreign_directory() {
        for name in [
            "LOCK",
            "MANIFEST-000001",
            "000001.dbtmp",
            "LOG.old.17",
            "OPTIONS-000007",
            "000004.log",
        ] {
            assert!(is_left_by_creation(name), "{name}");
        }
        for name in ["notes.txt", "etc", "CURRENTLY"] {
            assert!(!is_left_by_creation(name), "{name}");
        }
    }
}
