//! Reading: the present state, or a frozen one.

use std::path::Path;

use rocksdb::{ColumnFamily, DB, DBIterator, IteratorMode, ReadOptions, SnapshotWithThreadMode};

use crate::batch::prefix_end;
use crate::error::ReadError;

/// Keys and values in the order of the keys. Sees the store as it was when the scan began.
pub struct Scan<'a> {
    inner: DBIterator<'a>,
    dir: &'a Path,
}

impl Iterator for Scan<'_> {
    type Item = Result<(Box<[u8]>, Box<[u8]>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.inner.next().map(|item| item.map_err(|error| read_error(self.dir, error)))
    }
}

/// A frozen view: all reads through it see the same moment. Holds back the cleaning of old versions, so
/// do not keep it longer than the work takes.
pub struct Snapshot<'a> {
    pub(crate) inner: SnapshotWithThreadMode<'a, DB>,
    pub(crate) db: &'a DB,
    pub(crate) dir: &'a Path,
}

impl Snapshot<'_> {
    /// As [`Store::get`](crate::Store::get).
    pub fn get(&self, family: &str, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, ReadError> {
        self.inner.get_cf(handle(self.db, family), key).map_err(|error| read_error(self.dir, error))
    }

    /// As [`Store::scan`](crate::Store::scan).
    pub fn scan(&self, family: &str, prefix: impl AsRef<[u8]>) -> Scan<'_> {
        let mut options = bounds_of_prefix(prefix.as_ref());
        options.set_snapshot(&self.inner);
        scan(self.db, self.dir, family, options)
    }
}

/// The family's handle. Families are constants of the program, so one that is missing is a bug of the caller.
pub(crate) fn handle<'a>(db: &'a DB, family: &str) -> &'a ColumnFamily {
    match db.cf_handle(family) {
        Some(handle) => handle,
        None => panic!("family {family:?} is not in the layout that the store was opened with"),
    }
}

pub(crate) fn bounds_of_prefix(prefix: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(prefix);
    if let Some(end) = prefix_end(prefix) {
        options.set_iterate_upper_bound(end);
    }
    options
}

pub(crate) fn bounds_of_range(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

pub(crate) fn scan<'a>(db: &'a DB, dir: &'a Path, family: &str, options: ReadOptions) -> Scan<'a> {
    let inner = db.iterator_cf_opt(handle(db, family), options, IteratorMode::Start);
    Scan { inner, dir }
}

/// The last key of a family.
pub(crate) fn last_key(db: &DB, dir: &Path, family: &str) -> Result<Option<Box<[u8]>>, ReadError> {
    let mut keys = db.iterator_cf(handle(db, family), IteratorMode::End);
    let last = keys.next().transpose().map_err(|error| read_error(dir, error))?;
    Ok(last.map(|(key, _)| key))
}

pub(crate) fn read_error(dir: &Path, error: rocksdb::Error) -> ReadError {
    ReadError { dir: dir.to_owned(), source: error.into() }
}
