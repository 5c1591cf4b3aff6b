//! RocksDB's write-ahead log, read without RocksDB.
//!
//! RocksDB replays the log up to the first damaged record and takes what follows for the rest of a torn
//! tail. That is right after a loss of power, and wrong when something in the midst of the log went bad:
//! records that were on the disk, and relied on, would vanish without a word. Which of the two it is tell
//! the marks in later batches ([`SYNCED_KEY`]): how far the log was on the disk before them.
//!
//! The format is that of RocksDB's `db/log_format.h` and `db/write_batch.cc`: blocks of 32 KiB with records
//! of checksum (4 bytes, masked CRC-32C of what follows the length), length (2), type (1) and data; a batch
//! that does not fit is cut into a first, middle and last record. A batch is its sequence number (8 bytes), its
//! number of changes (4), and the changes. Numbers are little-endian.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::SYNCED_KEY;

const BLOCK: usize = 32_768;
const RECORD_HEADER: usize = 7;
const BATCH_HEADER: usize = 12;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A place of the log that costs something that was on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Name of the file.
    pub log: String,
    pub offset: u64,
}

/// What a batch does, in order. Families are numbers here, in the order in which they were created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Put { family: u32, key: Vec<u8>, value: Vec<u8> },
    Delete { family: u32, key: Vec<u8> },
    DeleteRange { family: u32, from: Vec<u8>, to: Vec<u8> },
}

/// The log files of a store, oldest first.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            numbered.push((number, path));
        }
    }
    numbered.sort_unstable();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// Looks for damage that opening the store would pass over although it costs what was on the disk.
pub(crate) fn check(dir: &Path) -> io::Result<Option<Damage>> {
    // The last change that will be replayed, and the place where replaying ends.
    let mut last: Option<u64> = None;
    let mut damage: Option<Damage> = None;
    for path in files(dir)? {
        let bytes = fs::read(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for found in batches(&bytes) {
            let header = match found {
                Ok(batch) => Header::of(&batch),
                Err(offset) => {
                    damage.get_or_insert_with(|| Damage {
                        log: name.clone().into_owned(),
                        offset: offset as u64,
                    });
                    continue;
                }
            };
            let Some(header) = header else { continue };
            // A full disk tears the log too, and RocksDB goes on in the next file with nothing lost.
            if damage.is_none() || last.is_some_and(|last| header.sequence <= last + 1) {
                damage = None;
                last = last.max(Some(header.last()));
            } else if header.synced.is_some_and(|synced| last.is_none_or(|last| synced > last)) {
                return Ok(damage);
            }
        }
    }
    Ok(None)
}

/// What a batch begins with.
struct Header {
    sequence: u64,
    changes: u32,
    /// How far the log was on the disk, if the batch says so.
    synced: Option<u64>,
}

impl Header {
    fn of(batch: &[u8]) -> Option<Self> {
        let (header, changes) = batch.split_at_checked(BATCH_HEADER)?;
        let mut changes = Changes { rest: changes };
        let synced = match changes.next() {
            Some(Operation::Put { family: 0, key, value }) if key == SYNCED_KEY => {
                value.try_into().ok().map(u64::from_be_bytes)
            }
            _ => None,
        };
        Some(Self {
            sequence: u64::from_le_bytes(header[..8].try_into().ok()?),
            changes: u32::from_le_bytes(header[8..].try_into().ok()?),
            synced,
        })
    }

    fn last(&self) -> u64 {
        (self.sequence + u64::from(self.changes)).saturating_sub(1)
    }
}

/// The changes of a whole batch, in order, up to the first that this program does not know.
pub(crate) fn operations(batch: &[u8]) -> impl Iterator<Item = Operation> + '_ {
    Changes { rest: batch.get(BATCH_HEADER..).unwrap_or_default() }
}

struct Changes<'a> {
    rest: &'a [u8],
}

impl Changes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0_u32;
        for shift in (0..32).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = self.number()? as usize;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text.to_owned())
    }
}

impl Iterator for Changes<'_> {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        // RocksDB's ValueType; with a family's number where it is not the default one.
        let tag = self.byte()?;
        let family = if matches!(tag, 0x04 | 0x05 | 0x0e) { self.number()? } else { 0 };
        match tag {
            0x00 | 0x04 => Some(Operation::Delete { family, key: self.text()? }),
            0x01 | 0x05 => Some(Operation::Put { family, key: self.text()?, value: self.text()? }),
            0x0e | 0x0f => {
                Some(Operation::DeleteRange { family, from: self.text()?, to: self.text()? })
            }
            _ => None,
        }
    }
}

/// The batches of one file in order; for each damaged place, its offset.
pub(crate) fn batches(bytes: &[u8]) -> Vec<Result<Vec<u8>, usize>> {
    let mut found = Vec::new();
    // The batch that is being put together, and where it begins.
    let mut partial: Option<(usize, Vec<u8>)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let left = BLOCK - at % BLOCK;
        if left < RECORD_HEADER {
            at += left;
            continue;
        }
        let Some((kind, data)) = record(bytes, at) else {
            found.push(Err(partial.take().map_or(at, |(began, _)| began)));
            let next = (at + 1..bytes.len())
                .find(|at| record(bytes, *at).is_some_and(|(kind, _)| matches!(kind, FULL..=LAST)));
            match next {
                Some(next) => at = next,
                None => return found,
            }
            continue;
        };
        match (kind, partial.take()) {
            (FULL | FIRST, Some((began, _))) => {
                found.push(Err(began));
                // Looked at again, without what was cut off.
                continue;
            }
            (FULL, None) => found.push(Ok(data.to_owned())),
            (FIRST, None) => partial = Some((at, data.to_owned())),
            (MIDDLE, Some((began, mut batch))) => {
                batch.extend_from_slice(data);
                partial = Some((began, batch));
            }
            (LAST, Some((_, mut batch))) => {
                batch.extend_from_slice(data);
                found.push(Ok(batch));
            }
            (MIDDLE | LAST, None) => found.push(Err(at)),
            // Facts about the file.
            (_, kept) => partial = kept,
        }
        at += RECORD_HEADER + data.len();
    }
    if let Some((began, _)) = partial {
        found.push(Err(began));
    }
    found
}

/// Type and data of the sound record at `at`.
fn record(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let left = BLOCK - at % BLOCK;
    let header = bytes.get(at..at + RECORD_HEADER)?;
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let kind = header[6];
    if kind == 0 || RECORD_HEADER + length > left {
        return None;
    }
    let data = bytes.get(at + RECORD_HEADER..at + RECORD_HEADER + length)?;
    let checksum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (masked(crc32c(crc32c(0, &[kind]), data)) == checksum).then_some((kind, data))
}

/// RocksDB keeps checksums in this form, so that checksums of data that holds checksums are no special case.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli) of what `before` is the checksum of, followed by `bytes`.
fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    let step =
        |crc: u32, byte: &u8| CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ crc >> 8;
    !bytes.iter().fold(!before, step)
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn garbage_is_no_batch_and_ends() {
        for bytes in [vec![], vec![0; 100_000], vec![0xff; 70_000]] {
            assert!(batches(&bytes).iter().all(Result::is_err));
        }
        assert_eq!(operations(&[0; 5]).count(), 0);
        assert_eq!(operations(&[0xff; 50]).count(), 0);
    }
}
