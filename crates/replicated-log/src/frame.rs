//! A state on its way from one node to another: a header, records, and an end that vouches for all before it.
//!
//! Numbers are big-endian. The first byte of a frame is its kind.
//!
//! | kind | content |
//! |---|---|
//! | 1 header | format (1 byte), to, from, term, `conf_index` (8 bytes each), group (16 bytes), raft's `SnapshotMetadata` and then each family's name, each with its length (4 bytes) before it |
//! | 2 records | for each: place of the family in the header (1 byte), length of key and value (4 bytes each), key, value |
//! | 3 end | number of records (8 bytes), SHA-256 of all frames before, each with its length (4 bytes) before it |

use prost_raft::Message;
use raft::eraftpb::SnapshotMetadata;
use sha2::{Digest, Sha256};

use crate::config::GroupId;
use crate::effect::Recipient;
use crate::error::StateError;

/// Bytes of records in a frame, if no single record is larger.
pub(crate) const FRAME_BYTES: usize = 256 << 10;

/// Raised when older nodes could not read the frames.
const FORMAT: u8 = 1;

const HEADER: u8 = 1;
const RECORDS: u8 = 2;
const END: u8 = 3;

/// What a state is of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub recipient: Recipient,
    pub group: GroupId,
    /// Index and term of the last entry in the state, and the members.
    pub metadata: SnapshotMetadata,
    /// Index of the last entry whose change is in the members; may be above `metadata.index`.
    pub conf_index: u64,
    pub families: Vec<String>,
}

/// A frame as read.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame<'a> {
    Header(Header),
    Records(Records<'a>),
    End { records: u64, digest: [u8; 32] },
}

/// The records of one frame: place of the family, key, value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u8, &'a [u8], &'a [u8]), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut read = || {
            let [family] = take_array(&mut self.rest)?;
            let key = u32::from_be_bytes(take_array(&mut self.rest)?) as usize;
            let value = u32::from_be_bytes(take_array(&mut self.rest)?) as usize;
            Ok((family, take(&mut self.rest, key)?, take(&mut self.rest, value)?))
        };
        let record = read();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// Vouches for frames.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seal {
    digest: Sha256,
    pub records: u64,
}

impl Seal {
    pub fn add(&mut self, frame: &[u8]) {
        self.digest.update((frame.len() as u64).to_be_bytes());
        self.digest.update(frame);
    }

    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = vec![HEADER, FORMAT];
        let Recipient { to, from, term } = self.recipient;
        for number in [to, from, term, self.conf_index] {
            frame.extend(number.to_be_bytes());
        }
        frame.extend(self.group.0);
        put_sized(&mut frame, &self.metadata.encode_to_vec());
        for family in &self.families {
            put_sized(&mut frame, family.as_bytes());
        }
        frame
    }

    fn decode(mut rest: &[u8]) -> Result<Self, StateError> {
        if take_array(&mut rest)? != [FORMAT] {
            return Err(damaged("its format is not known here; run one version on all nodes"));
        }
        let mut number = || Ok::<_, StateError>(u64::from_be_bytes(take_array(&mut rest)?));
        let recipient = Recipient { to: number()?, from: number()?, term: number()? };
        let conf_index = number()?;
        let group = GroupId(take_array(&mut rest)?);
        let metadata = SnapshotMetadata::decode(take_sized(&mut rest)?)
            .map_err(|_| damaged("its metadata cannot be decoded"))?;
        let mut families = Vec::new();
        while !rest.is_empty() {
            families.push(String::from_utf8_lossy(take_sized(&mut rest)?).into_owned());
        }
        Ok(Self { recipient, group, metadata, conf_index, families })
    }
}

/// An empty frame of records.
pub(crate) fn records() -> Vec<u8> {
    vec![RECORDS]
}

pub(crate) fn put_record(frame: &mut Vec<u8>, family: u8, key: &[u8], value: &[u8]) {
    frame.push(family);
    frame.extend((key.len() as u32).to_be_bytes());
    frame.extend((value.len() as u32).to_be_bytes());
    frame.extend(key);
    frame.extend(value);
}

pub(crate) fn end(seal: &Seal) -> Vec<u8> {
    let mut frame = vec![END];
    frame.extend(seal.records.to_be_bytes());
    frame.extend(seal.digest());
    frame
}

pub(crate) fn decode(frame: &[u8]) -> Result<Frame<'_>, StateError> {
    match frame.split_first() {
        Some((&HEADER, rest)) => Header::decode(rest).map(Frame::Header),
        Some((&RECORDS, rest)) => Ok(Frame::Records(Records { rest })),
        Some((&END, mut rest)) => {
            let records = u64::from_be_bytes(take_array(&mut rest)?);
            let digest = take_array(&mut rest)?;
            if rest.is_empty() {
                Ok(Frame::End { records, digest })
            } else {
                Err(damaged("something follows its end"))
            }
        }
        _ => Err(damaged("it has no kind that is known here")),
    }
}

fn put_sized(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StateError> {
    let length = u32::from_be_bytes(take_array(rest)?) as usize;
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], StateError> {
    let (taken, left) = rest.split_at_checked(length).ok_or(damaged("it is too short"))?;
    *rest = left;
    Ok(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StateError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(damaged("it is too short"))?;
    *rest = left;
    Ok(*taken)
}

pub(crate) fn damaged(what: &'static str) -> StateError {
    StateError::Damaged { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            recipient: Recipient { to: 3, from: 1, term: 7 },
            group: GroupId([9; 16]),
            metadata: SnapshotMetadata { index: 40, term: 6, conf_state: None },
            conf_index: 41,
            families: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let encoded = header().encode();
        assert_eq!(decode(&encoded).expect("sound"), Frame::Header(header()));
        let mut frame = records();
        put_record(&mut frame, 0, b"key", b"value");
        put_record(&mut frame, 1, b"", b"");
        let Ok(Frame::Records(read)) = decode(&frame) else { panic!("sound") };
        let read: Vec<_> = read.map(|record| record.expect("sound")).collect();
        assert_eq!(read, [(0, &b"key"[..], &b"value"[..]), (1, b"", b"")]);
        let mut seal = Seal { records: 2, ..Seal::default() };
        seal.add(&encoded);
        seal.add(&frame);
        let Ok(Frame::End { records, digest }) = decode(&end(&seal)) else { panic!("sound") };
        assert_eq!((records, digest), (2, seal.digest()));
    }

    #[test]
    fn a_frame_that_is_cut_is_refused_and_never_panics() {
        let mut frame = records();
        put_record(&mut frame, 0, b"key", b"value");
        for frame in [header().encode(), frame, end(&Seal::default())] {
            for length in 0..frame.len() {
                match decode(&frame[..length]) {
                    // Cut between two families, or before the first record, it is whole: the end tells.
                    Ok(Frame::Records(mut read)) => {
                        assert!(length == 1 || read.any(|record| record.is_err()), "{length}");
                    }
                    Ok(Frame::Header(header)) => assert!(header.families.len() < 2),
                    Ok(Frame::End { .. }) => panic!("an end of {length} bytes"),
                    Err(_) => {}
                }
            }
        }
    }
}
