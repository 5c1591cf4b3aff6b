//! Small reads and writes of control files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::CgroupError;

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// A file of one number. The word `max` reads as `u64::MAX`.
pub(super) fn read_number(path: &Path) -> Result<u64, CgroupError> {
    let text = read(path)?;
    number(text.trim()).ok_or_else(|| CgroupError::Malformed {
        path: path.to_owned(),
        text: text.trim().to_owned(),
    })
}

pub(super) fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// A value of a file of `key value` lines; 0 when the key is absent.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// Writes an existing control file in one write call, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    write_io(path, value).map_err(|source| CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source: source.into(),
    })
}

pub(super) fn write_io(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Process ids, one a line, as the files `cgroup.procs` list them.
pub(super) fn pids(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Has the runtime watch a descriptor, as a file.
#[expect(deprecated, reason = "its successor is unsafe; an owned `File` is what makes it sound")]
pub(crate) fn watch(file: impl Into<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<File>> {
    AsyncFd::with_interest(File::from(file.into()), interest)
}
