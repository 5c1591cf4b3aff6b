//! Getting out of a damaged store what can still be read, and making a sound one of it.
//!
//! [`Salvage::read`] only reads: the damaged directory stays as it is, also in [`Salvage::replace`], which
//! builds a new store beside it and exchanges the two in one step. RocksDB's own repair is not enough: it
//! forgets families that are in the write-ahead log only. It is used, on a copy, for what it does well:
//! finding out what tables there are when the manifest does not say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FcntlArg, RenameFlags, fcntl, renameat2};
use rocksdb::{
    ColumnFamilyDescriptor, DB, DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, IteratorMode, Options,
};

use crate::batch::Batch;
use crate::error::{OpenError, WriteError};
use crate::layout::{FORMAT_KEY, Layout, Marker, OWNER_KEY};
use crate::wal::{self, Operation};
use crate::{Store, open, tuning};

/// Keys and values of one family.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Records that one batch of the new store takes.
const BATCH_RECORDS: usize = 1000;

/// Why a store could not be repaired. The damaged one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    #[error(
        "there is no store in {dir}: nothing to repair; check the directory's name and whether its file system is mounted"
    )]
    Nothing { dir: PathBuf },

    #[error("store {dir} is in use by {holder}; stop that process first")]
    Locked { dir: PathBuf, holder: String },

    /// Another kind, or a newer format: sound, but not for this program.
    #[error(transparent)]
    NotOurs(OpenError),

    #[error("could not use {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("could not make the new store")]
    Open(#[source] OpenError),

    #[error("could not fill the new store")]
    Write(#[source] WriteError),
}

/// What could be read, and what was in the way.
#[derive(Debug, Default)]
pub struct Salvage {
    families: BTreeMap<&'static str, Records>,
    owner: Option<Vec<u8>>,
    /// One sentence for each thing that is damaged.
    damage: Vec<String>,
    /// Holds the lock of the damaged store.
    _lock: Option<File>,
}

impl Salvage {
    /// Reads all that can be read of the store in `dir`, which nobody may have open. Writes only beside it.
    ///
    /// # Errors
    /// There is no store, it is in use, or it is not of this kind; or a copy could not be made.
    pub fn read(dir: &Path, layout: &Layout) -> Result<Self, SalvageError> {
        if !dir.is_dir() || !looks_like_a_store(dir) {
            return Err(SalvageError::Nothing { dir: dir.to_owned() });
        }
        let mut salvage = Self { _lock: Some(lock(dir)?), ..Self::default() };
        for family in &layout.families {
            salvage.families.insert(family, Records::new());
        }
        match wal::check(dir) {
            Ok(None) => {}
            Ok(Some(wal::Damage { log, offset })) => {
                salvage.damage.push(format!("{log} is damaged at byte {offset}"));
            }
            Err(error) => salvage.damage.push(format!("the log cannot be read: {error}")),
        }
        let sound = salvage.read_as_it_is(dir, layout)?;
        if !sound {
            salvage.read_pieces(dir, layout)?;
        }
        Ok(salvage)
    }

    /// One sentence for each thing that is damaged; empty for a sound store.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// The records of a family of the layout.
    pub fn family(&mut self, name: &str) -> Option<&mut Records> {
        self.families.get_mut(name)
    }

    /// Makes a new store of what was read and puts it in the place of the damaged one, which is kept under the
    /// name that is returned.
    ///
    /// # Errors
    /// The new store could not be written; the damaged one is in its place then.
    pub fn replace(self, dir: &Path, layout: &Layout) -> Result<PathBuf, SalvageError> {
        let fresh = beside(dir, "repaired");
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| SalvageError::File { path, source }
        };
        remove_leftover(&fresh)?;
        let store = Store::open(&fresh, layout).map_err(SalvageError::Open)?;
        let mut batch = Batch::new();
        if let Some(owner) = self.owner {
            batch.add_put(DEFAULT_COLUMN_FAMILY_NAME, OWNER_KEY, owner);
        }
        for (family, records) in self.families {
            for (key, value) in records {
                batch.add_put(family, key, value);
                if batch.len() >= BATCH_RECORDS {
                    store.write(std::mem::take(&mut batch)).map_err(SalvageError::Write)?;
                }
            }
        }
        store.write_and_sync(batch).map_err(SalvageError::Write)?;
        drop(store);
        let facts = fs::metadata(dir).map_err(file(dir))?;
        fs::set_permissions(&fresh, facts.permissions()).map_err(file(&fresh))?;
        // In one step: at no moment is there no store, which a daemon would take for its first start.
        renameat2(AT_FDCWD, &fresh, AT_FDCWD, dir, RenameFlags::RENAME_EXCHANGE)
            .map_err(|errno| file(dir)(errno.into()))?;
        let mut number = 1;
        let kept = loop {
            let kept = beside(dir, &format!("damaged-{number}"));
            if !kept.exists() {
                break kept;
            }
            number += 1;
        };
        fs::rename(&fresh, &kept).map_err(file(&fresh))?;
        if let Some(parent) = dir.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(file(parent))?;
        }
        Ok(kept)
    }

    /// Opens the store for reading, passing over what is damaged. Returns whether nothing was.
    fn read_as_it_is(&mut self, dir: &Path, layout: &Layout) -> Result<bool, SalvageError> {
        let db = match open_for_reading(dir) {
            Ok(db) => db,
            Err(error) => {
                self.damage.push(format!("it cannot be opened: {error}"));
                return Ok(false);
            }
        };
        check_marker(&db, dir, layout)?;
        let before = self.damage.len();
        self.take(&db, layout);
        Ok(self.damage.len() == before)
    }

    /// Puts the store together from its tables and logs, on a copy. What is there already stays.
    fn read_pieces(&mut self, dir: &Path, layout: &Layout) -> Result<(), SalvageError> {
        let copy = beside(dir, "salvage");
        remove_leftover(&copy)?;
        copy_tables(dir, &copy)
            .map_err(|source| SalvageError::File { path: copy.clone(), source })?;
        let mut pieces = Self::default();
        let repaired = DB::repair(&options(), &copy).and_then(|()| open_for_reading(&copy));
        match repaired {
            Ok(db) => {
                check_marker(&db, dir, layout)?;
                pieces.take(&db, layout);
            }
            Err(error) => self.damage.push(format!("no table can be read: {error}")),
        }
        // Left behind, it only takes space.
        let _ = fs::remove_dir_all(&copy);
        pieces.replay(dir, layout);
        self.damage.append(&mut pieces.damage);
        self.owner = self.owner.take().or(pieces.owner);
        for (family, records) in pieces.families {
            let known = self.families.entry(family).or_default();
            for (key, value) in records {
                known.entry(key).or_insert(value);
            }
        }
        Ok(())
    }

    fn take(&mut self, db: &DB, layout: &Layout) {
        if let Ok(Some(owner)) = db.get(OWNER_KEY) {
            self.owner = Some(owner);
        }
        for family in &layout.families {
            let Some(handle) = db.cf_handle(family) else { continue };
            let records = self.families.entry(family).or_default();
            // From both ends: what lies between two damaged places is the price.
            let mut damaged = None;
            for mode in [IteratorMode::Start, IteratorMode::End] {
                for item in db.iterator_cf(handle, mode) {
                    match item {
                        Ok((key, value)) => {
                            records.insert(key.into_vec(), value.into_vec());
                        }
                        Err(error) => {
                            damaged = Some(error);
                            break;
                        }
                    }
                }
                if damaged.is_none() {
                    break;
                }
            }
            if let Some(error) = damaged {
                self.damage.push(format!("records of '{family}' cannot be read: {error}"));
            }
        }
    }

    /// Applies what the logs hold.
    fn replay(&mut self, dir: &Path, layout: &Layout) {
        // Families are numbered as they were created: in the order of the layout.
        let name = |number: u32| layout.families.get((number as usize).checked_sub(1)?).copied();
        for path in wal::files(dir).unwrap_or_default() {
            let Ok(bytes) = fs::read(&path) else {
                self.damage.push(format!("{} cannot be read", path.display()));
                continue;
            };
            for batch in wal::batches(&bytes).into_iter().flatten() {
                for operation in wal::operations(&batch) {
                    match operation {
                        Operation::Put { family: 0, key, value } if key == OWNER_KEY => {
                            self.owner = Some(value);
                        }
                        Operation::Put { family, key, value } => {
                            let Some(family) = name(family) else { continue };
                            self.families.entry(family).or_default().insert(key, value);
                        }
                        Operation::Delete { family, key } => {
                            let Some(family) = name(family) else { continue };
                            self.families.entry(family).or_default().remove(&key);
                        }
                        Operation::DeleteRange { family, from, to } => {
                            let Some(family) = name(family) else { continue };
                            let records = self.families.entry(family).or_default();
                            records.retain(|key, _| *key < from || *key >= to);
                        }
                    }
                }
            }
        }
    }
}

/// As the store's own, but for what it refuses.
fn options() -> Options {
    let mut options = tuning::database();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    options.set_paranoid_checks(false);
    options
}

fn open_for_reading(dir: &Path) -> Result<DB, rocksdb::Error> {
    let options = options();
    let cache = tuning::cache();
    let families = DB::list_cf(&options, dir)?
        .into_iter()
        .map(|name| ColumnFamilyDescriptor::new(name, tuning::family(&cache)));
    DB::open_cf_descriptors_read_only(&options, dir, families, false)
}

/// A store that is another daemon's, or a newer one's, is not damaged.
fn check_marker(db: &DB, dir: &Path, layout: &Layout) -> Result<(), SalvageError> {
    let marker = db.get(FORMAT_KEY).ok().flatten().and_then(|value| Marker::decode(&value));
    match marker {
        Some(marker) => open::check_fit(marker, dir, layout).map_err(SalvageError::NotOurs),
        None => Ok(()),
    }
}

fn looks_like_a_store(dir: &Path) -> bool {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).any(|name| {
        name == "CURRENT"
            || name.starts_with("MANIFEST-")
            || name.ends_with(".sst")
            || name.ends_with(".log")
    })
}

/// Takes the lock that RocksDB takes. It is let go of when the file is closed.
fn lock(dir: &Path) -> Result<File, SalvageError> {
    let path = dir.join("LOCK");
    let failed = |source| SalvageError::File { path: path.clone(), source };
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(failed)?;
    // The whole file, whatever its length.
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(file),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
            Err(SalvageError::Locked { dir: dir.to_owned(), holder: open::lock_holder(dir) })
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

/// `<dir>.<what>`.
fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    dir.with_file_name(name)
}

/// Removes what an interrupted repair left: only directories that it makes itself have such names.
fn remove_leftover(dir: &Path) -> Result<(), SalvageError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SalvageError::File { path: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// RocksDB's repair would drop the logs of families that have no table; they are read without it.
fn copy_tables(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sst") {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
