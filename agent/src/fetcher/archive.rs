//! Unpacking.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use zip::ZipArchive;

use super::Context;
use super::error::FetchFault;
use super::tape::{Tape, What};
use super::tree::{Tree, confined};

/// Memory that an xz or zstd stream may ask for: enough for every preset of the usual tools.
const DECODER_MEMORY: u64 = 256 << 20;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Longest target of a symbolic link.
const TARGET_MAX: u64 = 4096;

/// Buffer between file and decompressor.
const BUFFER: usize = 128 * 1024;

/// What a file's name says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tar(Compression),
    /// One compressed file.
    Gzip,
    Zip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Kind {
    const ENDINGS: [(&'static str, Kind); 10] = [
        (".tar", Kind::Tar(Compression::None)),
        (".tar.gz", Kind::Tar(Compression::Gzip)),
        (".tgz", Kind::Tar(Compression::Gzip)),
        (".tar.bz2", Kind::Tar(Compression::Bzip2)),
        (".tbz2", Kind::Tar(Compression::Bzip2)),
        (".tar.xz", Kind::Tar(Compression::Xz)),
        (".txz", Kind::Tar(Compression::Xz)),
        (".tar.zst", Kind::Tar(Compression::Zstd)),
        (".gz", Kind::Gzip),
        (".zip", Kind::Zip),
    ];

    /// `None`: not an archive.
    pub(super) fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_string_lossy();
        Kind::ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| *kind)
    }
}

/// Unpacks `file`, which lies at `name`, into the top of the sandbox.
pub(super) fn unpack(
    kind: Kind,
    mut file: File,
    name: &Path,
    tree: &Tree,
    context: &Context<'_>,
) -> Result<(), FetchFault> {
    file.rewind().map_err(|error| FetchFault::BadArchive(error.to_string()))?;
    let input = BufReader::with_capacity(BUFFER, file);
    match kind {
        Kind::Zip => unpack_zip(input, tree, context),
        Kind::Gzip => {
            let content = Metered::new(MultiGzDecoder::new(input), context);
            unpack_gzip(content, name, tree)
        }
        Kind::Tar(compression) => {
            let content = Metered::new(decoder(compression, input)?, context);
            unpack_tar(content, tree, context)
        }
    }
}

fn decoder(compression: Compression, input: BufReader<File>) -> Result<Box<dyn Read>, FetchFault> {
    let unusable = |error: String| FetchFault::BadArchive(error);
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(DECODER_MEMORY, CONCATENATED)
                .map_err(|error| unusable(error.to_string()))?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
        Compression::Zstd => {
            let mut decoder =
                zstd::Decoder::with_buffer(input).map_err(|error| unusable(error.to_string()))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| unusable(error.to_string()))?;
            Box::new(decoder)
        }
    })
}

/// `x.gz` becomes `x`, beside it.
fn unpack_gzip(mut content: impl Read, name: &Path, tree: &Tree) -> Result<(), FetchFault> {
    let path = name.with_extension("");
    let mut file = tree.create_file(&path)?;
    copy(&mut content, &mut file, &path)?;
    tree.finish_file(&file, 0o644, None)
}

fn unpack_tar(content: impl Read, tree: &Tree, context: &Context<'_>) -> Result<(), FetchFault> {
    let mut tape = Tape::new(content);
    let mut entries = 0;
    while let Some(entry) = tape.next()? {
        count_entry(&mut entries, context)?;
        let path = entry_path(&entry.path)?;
        if path.as_os_str().is_empty() {
            // `./`, which many archives begin with.
            continue;
        }
        match entry.what {
            What::Directory => tree.make_directory(&path, entry.mode)?,
            What::Symlink { target } => {
                tree.make_symlink(&path, &link_target(&entry.path, target)?)?
            }
            What::HardLink { existing } => tree.make_hard_link(&path, &entry_path(&existing)?)?,
            What::File => {
                let mut file = tree.create_file(&path)?;
                copy(&mut tape, &mut file, &path)?;
                let modified =
                    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(entry.modified));
                tree.finish_file(&file, entry.mode, modified.filter(is_storable))?;
            }
        }
    }
    if entries == 0 {
        return Err(FetchFault::BadArchive("it is empty, or no tar archive".into()));
    }
    Ok(())
}

fn unpack_zip(
    input: impl Read + Seek,
    tree: &Tree,
    context: &Context<'_>,
) -> Result<(), FetchFault> {
    let bad = |error: zip::result::ZipError| FetchFault::BadArchive(error.to_string());
    let mut archive = ZipArchive::new(input).map_err(bad)?;
    if archive.len() as u64 > context.limits.entries {
        return Err(FetchFault::TooManyEntries { limit: context.limits.entries });
    }
    let mut unpacked = 0;
    for index in 0..archive.len() {
        context.check_cancelled()?;
        let entry = archive.by_index(index).map_err(bad)?;
        let raw_path = entry.name().map_err(bad)?.into_owned().into_bytes();
        let path = entry_path(&raw_path)?;
        let (is_directory, is_symlink) = (entry.is_dir(), entry.is_symlink());
        let mode = entry.unix_mode();
        if path.as_os_str().is_empty() {
            continue;
        }
        if is_directory {
            tree.make_directory(&path, mode.unwrap_or(0o755))?;
            continue;
        }
        if let Some(kind @ (0o010000 | 0o020000 | 0o060000 | 0o140000)) =
            mode.map(|mode| mode & 0o170000)
        {
            let rule = match kind {
                0o010000 => "is a pipe; pipes are not unpacked",
                0o140000 => "is a socket; sockets are not unpacked",
                _ => "is a device; devices are not unpacked",
            };
            return Err(FetchFault::Entry { path: path.display().to_string(), rule });
        }
        // What earlier entries unpacked to counts for this one.
        let mut content = Metered { passed: unpacked, ..Metered::new(entry, context) };
        if is_symlink {
            let mut target = Vec::new();
            (&mut content).take(TARGET_MAX + 1).read_to_end(&mut target).map_err(read_fault)?;
            tree.make_symlink(&path, &link_target(&raw_path, target)?)?;
        } else {
            let mut file = tree.create_file(&path)?;
            copy(&mut content, &mut file, &path)?;
            tree.finish_file(&file, mode.unwrap_or(0o644), None)?;
        }
        unpacked = content.passed;
    }
    Ok(())
}

fn count_entry(entries: &mut u64, context: &Context<'_>) -> Result<(), FetchFault> {
    *entries += 1;
    match *entries > context.limits.entries {
        true => Err(FetchFault::TooManyEntries { limit: context.limits.entries }),
        false => Ok(()),
    }
}

fn entry_path(raw: &[u8]) -> Result<PathBuf, FetchFault> {
    confined(raw)
        .map_err(|rule| FetchFault::Entry { path: String::from_utf8_lossy(raw).into_owned(), rule })
}

fn link_target(path: &[u8], target: Vec<u8>) -> Result<Vec<u8>, FetchFault> {
    let refuse =
        |rule| Err(FetchFault::Entry { path: String::from_utf8_lossy(path).into_owned(), rule });
    match target.len() as u64 {
        0 => refuse("is a link to nothing"),
        length if length > TARGET_MAX => refuse("is a link to a path that is too long"),
        _ if target.contains(&0) => refuse("is a link to a path with a NUL character"),
        _ => Ok(target),
    }
}

/// Years that every file system can store.
fn is_storable(time: &SystemTime) -> bool {
    const YEAR_2200_SECS: u64 = 7_258_118_400;
    time.duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|since| since.as_secs() > 0 && since.as_secs() < YEAR_2200_SECS)
}

fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> Result<(), FetchFault> {
    let mut chunk = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_fault(error)),
        };
        to.write_all(&chunk[..length]).map_err(|source| FetchFault::Sandbox {
            step: "write",
            path: path.display().to_string(),
            source,
        })?;
    }
}

/// Counts what comes out of a decompressor, and stops it at the limit or when cancelled. Metadata
/// counts, too: no archive is read for longer than the limit allows.
struct Metered<R> {
    inner: R,
    passed: u64,
    limit: u64,
    cancel: Arc<AtomicBool>,
}

impl<R> Metered<R> {
    fn new(inner: R, context: &Context<'_>) -> Metered<R> {
        let limit = context.limits.unpacked_bytes;
        Metered { inner, passed: 0, limit, cancel: context.cancel.clone() }
    }
}

/// A fault on its way through code that only knows `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(FetchFault);

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other(Stopped(FetchFault::Cancelled)));
        }
        let length = self.inner.read(buffer)?;
        self.passed += length as u64;
        if self.passed > self.limit {
            let fault = FetchFault::UnpacksTooLarge { limit: self.limit };
            return Err(io::Error::other(Stopped(fault)));
        }
        Ok(length)
    }
}

/// The fault that was on its way, or that the archive is damaged.
pub(super) fn read_fault(error: io::Error) -> FetchFault {
    match error.downcast::<Stopped>() {
        Ok(Stopped(fault)) => fault,
        Err(error) => FetchFault::BadArchive(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ending_decides() {
        let kind = |name: &str| Kind::of(Path::new(name));
        assert_eq!(kind("d/x.tar.gz"), Some(Kind::Tar(Compression::Gzip)));
        assert_eq!(kind("x.gz"), Some(Kind::Gzip));
        assert_eq!(kind("x.tar.zst"), Some(Kind::Tar(Compression::Zstd)));
        assert_eq!(kind("x.jar"), None);
        assert_eq!(kind("zip"), None);
    }
}
