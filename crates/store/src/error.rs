//! What can go wrong, one enum per kind of operation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// RocksDB's own words about a failure. Kept as the source of the errors below, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(Arc<str>);

impl From<rocksdb::Error> for EngineError {
    fn from(error: rocksdb::Error) -> Self {
        Self(Arc::from(error.into_string()))
    }
}

/// Why a store could not be opened. Each sentence names the directory and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "store directory {dir} is a file, not a directory; name a directory or move the file away"
    )]
    NotADirectory { dir: PathBuf },

    #[error(
        "directory {dir} holds {found:?} and no Mezzo store; name an empty directory or one that Mezzo made"
    )]
    NotAStore { dir: PathBuf, found: String },

    #[error("store {dir} is in use by {holder}; stop that process or name another directory")]
    Locked { dir: PathBuf, holder: String },

    #[error(
        "store directory {dir} may not be written by this user; correct its owner and mode (drwx for this user), or take its write protection off (chattr -i)"
    )]
    Denied { dir: PathBuf },

    #[error(
        "store directory {dir} lies on a file system that is mounted read-only; remount it or name another directory"
    )]
    ReadOnly { dir: PathBuf },

    #[error("no space left on the file system of store directory {dir}; free some and start again")]
    OutOfSpace { dir: PathBuf },

    #[error(
        "store {dir} has format {found}, written by a newer Mezzo; this one reads formats up to {supported}: use the newer binary"
    )]
    NewerFormat { dir: PathBuf, found: u32, supported: u32 },

    #[error(
        "store {dir} is that of Mezzo's {found}, not of its {expected}; name the {expected}'s own directory"
    )]
    OtherKind { dir: PathBuf, found: String, expected: &'static str },

    #[error(
        "store {dir} belongs to {found:?}, not to {expected:?}; name the directory of {expected:?}"
    )]
    OtherOwner { dir: PathBuf, found: String, expected: String },

    #[error(
        "store {dir} is damaged; `mezzo {kind} repair` shows what can be saved and saves it, or restore it from a copy"
    )]
    Damaged {
        dir: PathBuf,
        kind: &'static str,
        #[source]
        source: EngineError,
    },

    #[error(
        "the write-ahead log of store {dir} is damaged at byte {offset} of {log}, before records that were on the disk for certain; `mezzo {kind} repair` shows what can be saved and saves it, or restore it from a copy"
    )]
    DamagedLog { dir: PathBuf, kind: &'static str, log: String, offset: u64 },

    #[error("store directory {dir} cannot be used")]
    Directory {
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },

    #[error("store {dir} cannot be opened")]
    Engine {
        dir: PathBuf,
        #[source]
        source: EngineError,
    },

    #[error("the sync thread of store {dir} cannot be started")]
    Thread {
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Why a batch was not written. After any of these the store takes no more writes until it is opened again.
/// A full disk is none of them: writes wait for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(
        "the file system of store {dir} is full, or its disk too slow, and too much waits in memory for it; free some space there or mend the disk, and start this process again"
    )]
    TooMuchHeld { dir: PathBuf },

    #[error(
        "store directory {dir} was removed, replaced or unmounted under this process; bring it back and start this process again"
    )]
    Gone { dir: PathBuf },

    #[error(
        "the file system of store {dir} became read-only, which is what the kernel does after a failure of the disk; see its log (dmesg), remount it writable and start this process again"
    )]
    ReadOnly {
        dir: PathBuf,
        #[source]
        source: EngineError,
    },

    #[error(
        "store {dir} could not be written; see the kernel's log (dmesg) for a failure of its disk, and start this process again when that is mended"
    )]
    Failed {
        dir: PathBuf,
        #[source]
        source: EngineError,
    },

    /// RocksDB goes on by itself after a full disk, but not after a quota that was used up.
    #[error(
        "the quota of store {dir} was used up and has room again; start this process again, so that it opens the store anew and goes on"
    )]
    Reopen { dir: PathBuf },

    /// A write or sync failed before this one was tried.
    #[error(
        "store {dir} takes no writes since an earlier one failed; see its first failure, then restart this process"
    )]
    Refusing {
        dir: PathBuf,
        #[source]
        first: Box<WriteError>,
    },
}

impl WriteError {
    /// What the disk lacks, if that is why a write failed: it passes.
    pub(crate) fn lack(error: &rocksdb::Error) -> Option<Lack> {
        Lack::of(error.as_ref())
    }

    pub(crate) fn from_engine(dir: PathBuf, error: rocksdb::Error) -> Self {
        let cause = Cause::of(&error);
        let source = EngineError::from(error);
        match cause {
            Cause::ReadOnly => Self::ReadOnly { dir, source },
            // What was on its way when the file system turned read-only fails with EIO.
            Cause::Other if turned_read_only(&dir) => Self::ReadOnly { dir, source },
            _ => Self::Failed { dir, source },
        }
    }
}

/// Whether nothing can be made in a directory any more. The mount's flags do not tell: ext4 leaves them as they were.
fn turned_read_only(dir: &Path) -> bool {
    let probe = dir.join("probe");
    match std::fs::File::create(&probe) {
        Ok(_) => {
            // Whoever lists the directory takes it for nothing.
            let _ = std::fs::remove_file(&probe);
            false
        }
        Err(error) => error.kind() == std::io::ErrorKind::ReadOnlyFilesystem,
    }
}

/// Why a read failed: the disk, or a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store {dir} could not be read")]
pub struct ReadError {
    pub dir: PathBuf,
    #[source]
    pub source: EngineError,
}

impl OpenError {
    pub(crate) fn from_engine(dir: PathBuf, kind: &'static str, error: rocksdb::Error) -> Self {
        match Cause::of(&error) {
            Cause::Locked => {
                let holder = crate::open::lock_holder(&dir);
                Self::Locked { dir, holder }
            }
            Cause::Denied => Self::Denied { dir },
            Cause::ReadOnly => Self::ReadOnly { dir },
            Cause::OutOfSpace => Self::OutOfSpace { dir },
            Cause::Damaged => Self::Damaged { dir, kind, source: error.into() },
            Cause::Other => Self::Engine { dir, source: error.into() },
        }
    }

    pub(crate) fn from_io(dir: PathBuf, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match source.kind() {
            ErrorKind::PermissionDenied => Self::Denied { dir },
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { dir },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::OutOfSpace { dir },
            ErrorKind::NotADirectory => Self::NotADirectory { dir },
            _ => Self::Directory { dir, source },
        }
    }
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// On the file system.
    Space,
    /// Of what this user, project or subvolume may use of it.
    Quota,
}

impl Lack {
    fn of(text: &str) -> Option<Self> {
        // `strerror` of ENOSPC and EDQUOT.
        let lacks =
            [("No space left on device", Self::Space), ("Disk quota exceeded", Self::Quota)];
        lacks.into_iter().find_map(|(words, lack)| text.contains(words).then_some(lack))
    }
}

/// The causes that have their own sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Locked,
    Denied,
    ReadOnly,
    OutOfSpace,
    Damaged,
    Other,
}

impl Cause {
    /// RocksDB hands out a kind and a sentence that ends with `strerror`'s text; the subcode is lost on
    /// the way through its C interface, so the sentence has to be read.
    fn of(error: &rocksdb::Error) -> Self {
        let text = error.as_ref();
        let has = |part: &str| text.contains(part);
        // The lock is asked first: "No locks available" comes with it.
        if has("lock hold by current process")
            || has("While lock file") && has("temporarily unavailable")
        {
            Self::Locked
        } else if Lack::of(text).is_some() {
            Self::OutOfSpace
        } else if has("Permission denied") || has("Operation not permitted") {
            Self::Denied
        } else if has("Read-only file system") {
            Self::ReadOnly
        } else if error.kind() == rocksdb::ErrorKind::Corruption {
            Self::Damaged
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_pass_and_a_broken_disk_does_not() {
        let of = |errno: nix::errno::Errno| {
            let error = std::io::Error::from(errno);
            Lack::of(&format!("IO error: While appending to file: /data/000004.log: {error}"))
        };
        use nix::errno::Errno;
        assert_eq!(of(Errno::ENOSPC), Some(Lack::Space));
        assert_eq!(of(Errno::EDQUOT), Some(Lack::Quota));
        for errno in [Errno::EIO, Errno::EROFS, Errno::ESTALE, Errno::EACCES] {
            assert_eq!(of(errno), None, "{errno}");
        }
    }
}
