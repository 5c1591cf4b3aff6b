//! Reading tar archives with bounded memory.
//!
//! The headers are the tar crate's; the walk from one to the next is done here, because a
//! hostile archive may announce gigabytes of file name, and these must not be read into memory.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::error::FetchFault;

const BLOCK: usize = 512;

/// Longest name or set of extended attributes accepted.
const METADATA_MAX: u64 = 1 << 20;

/// A tar archive, entry by entry.
pub(super) struct Tape<R> {
    reader: R,
    /// Bytes of the current entry's content, and of its padding, that have not been read.
    content_left: u64,
    padding_left: u64,
}

/// What an entry is to become.
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
    pub(super) what: What,
}

pub(super) enum What {
    /// Its content is read from the tape.
    File,
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        existing: Vec<u8>,
    },
}

/// What extension headers said about the entry that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<u64>,
}

impl<R: Read> Tape<R> {
    pub(super) fn new(reader: R) -> Tape<R> {
        Tape { reader, content_left: 0, padding_left: 0 }
    }

    /// The next entry; skips what is left of the last one. `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, FetchFault> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(damaged)?;
            match kind {
                EntryType::GNULongName => extensions.path = Some(self.metadata(size)?),
                EntryType::GNULongLink => extensions.link = Some(self.metadata(size)?),
                EntryType::XHeader => {
                    let records = self.metadata(size)?;
                    extensions.read(&records)?;
                }
                // Defaults for all entries; none of them is of use here.
                EntryType::XGlobalHeader => self.set_content(size)?,
                _ => return self.entry(&header, kind, size, extensions).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extensions: Extensions,
    ) -> Result<Entry, FetchFault> {
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link =
            extensions.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let refuse = |rule| {
            let path = String::from_utf8_lossy(&path).into_owned();
            Err(FetchFault::Entry { path, rule })
        };
        let what = match (kind, link) {
            // The oldest format marks a directory by a slash.
            (EntryType::Regular, _) if path.ends_with(b"/") => What::Directory,
            (EntryType::Regular | EntryType::Continuous, _) => What::File,
            (EntryType::Directory, _) => What::Directory,
            (EntryType::Symlink, Some(target)) => What::Symlink { target },
            (EntryType::Link, Some(existing)) => What::HardLink { existing },
            (EntryType::Symlink | EntryType::Link, None) => return refuse("is a link to nothing"),
            (EntryType::Block | EntryType::Char, _) => {
                return refuse("is a device; devices are not unpacked");
            }
            (EntryType::Fifo, _) => return refuse("is a pipe; pipes are not unpacked"),
            (EntryType::GNUSparse, _) => {
                return refuse("is a sparse file; pack it without --sparse");
            }
            _ => return refuse("is of a kind that is not unpacked"),
        };
        // Only files have content; the sizes that some writers give links mean nothing.
        if matches!(what, What::File) {
            self.set_content(extensions.size.unwrap_or(size))?;
        }
        Ok(Entry {
            path,
            // Some writers leave it blank, for links above all.
            mode: header.mode().unwrap_or(0o644),
            modified: extensions.modified.or_else(|| header.mtime().ok()).unwrap_or(0),
            what,
        })
    }

    /// The next header block; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, FetchFault> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]).map_err(unreadable)? {
                0 if filled == 0 => return Ok(None),
                0 => {
                    return Err(FetchFault::BadArchive("it ends in the middle of a header".into()));
                }
                length => filled += length,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The checksum is taken with its own field blank.
        let sum = |range: std::ops::Range<usize>| {
            block[range].iter().map(|byte| u32::from(*byte)).sum::<u32>()
        };
        let actual = sum(0..148) + 8 * u32::from(b' ') + sum(156..BLOCK);
        match header.cksum() {
            Ok(expected) if expected == actual => Ok(Some(header)),
            _ => Err(FetchFault::BadArchive("a header does not match its checksum".into())),
        }
    }

    /// The content of an extension header, without the NUL that ends it.
    fn metadata(&mut self, size: u64) -> Result<Vec<u8>, FetchFault> {
        if size > METADATA_MAX {
            return Err(FetchFault::BadArchive(format!("it has a name of {size} bytes")));
        }
        self.set_content(size)?;
        let mut bytes = Vec::with_capacity(size as usize);
        self.read_to_end(&mut bytes).map_err(unreadable)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn set_content(&mut self, size: u64) -> Result<(), FetchFault> {
        self.content_left = size;
        self.padding_left = size.wrapping_neg() % BLOCK as u64;
        match size.checked_add(self.padding_left) {
            Some(_) => Ok(()),
            None => Err(FetchFault::BadArchive(format!("it has an entry of {size} bytes"))),
        }
    }

    fn skip_rest(&mut self) -> Result<(), FetchFault> {
        let rest = self.content_left + self.padding_left;
        let skipped =
            io::copy(&mut (&mut self.reader).take(rest), &mut io::sink()).map_err(unreadable)?;
        if skipped < rest {
            return Err(FetchFault::BadArchive("it ends in the middle of a file".into()));
        }
        (self.content_left, self.padding_left) = (0, 0);
        Ok(())
    }
}

/// Reads the content of the current entry.
impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.content_left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..length])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ends in the middle of a file",
            ));
        }
        self.content_left -= read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// Records of the form `LENGTH KEY=VALUE\n`.
    fn read(&mut self, records: &[u8]) -> Result<(), FetchFault> {
        for record in tar::PaxExtensions::new(records) {
            let record = record.map_err(damaged)?;
            let key = record.key_bytes();
            let value = record.value_bytes();
            let number =
                || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = number()
                        .ok_or_else(|| FetchFault::BadArchive("a size is no number".into()))?;
                    self.size = Some(size);
                }
                b"mtime" => {
                    // Fractions of a second may follow; times before 1970 are no use.
                    let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                    self.modified =
                        std::str::from_utf8(whole).ok().and_then(|text| text.parse().ok());
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    let rule = "is a sparse file; pack it without --sparse";
                    return Err(FetchFault::Entry { path: "(sparse)".into(), rule });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn damaged(error: io::Error) -> FetchFault {
    FetchFault::BadArchive(error.to_string())
}

/// A failure below: of the decompressor, or a limit that was reached.
fn unreadable(error: io::Error) -> FetchFault {
    super::archive::read_fault(error)
}
