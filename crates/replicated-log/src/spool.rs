//! A state that arrives: kept in a file until it is whole, then read back into one batch.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezzo_store::{Batch, Store};

use crate::config::{Config, GroupId, StateFamilies};
use crate::error::{StartError, StateError};
use crate::fault::step;
use crate::frame::{self, Frame, Header, Seal, damaged};

/// Name of the file in the store's directory, for the moment until it has none: nothing is left of it when this process
/// ends.
const FILE: &str = "arriving-state";

/// Frames are a few hundred KiB, or as large as one record.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// A state on its way in. The file goes when this does.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    header: Header,
    families: Vec<&'static str>,
    /// As of the header.
    head: Seal,
    seal: Seal,
    bytes: u64,
    limit: u64,
    whole: bool,
    /// Held as long as no other state may arrive.
    pub turn: Option<Arc<()>>,
}

impl Spool {
    /// Begins with the first frame. `group` is that of this node, if it knows one.
    pub fn begin(
        store: &Store,
        config: &Config,
        group: Option<GroupId>,
        first: &[u8],
    ) -> Result<Self, StateError> {
        let Frame::Header(header) = frame::decode(first)? else {
            return Err(damaged("it does not begin with its header"));
        };
        let StateFamilies { families, .. } = config.state.clone().ok_or(StateError::NoFamilies)?;
        if header.families != families {
            return Err(StateError::OtherFamilies { found: header.families });
        }
        if let Some(expected) = group.filter(|group| *group != header.group) {
            return Err(StateError::OtherGroup { found: header.group, expected });
        }
        if header.recipient.to != config.node_id {
            return Err(damaged("it is for another node"));
        }
        store.check_room().map_err(|shortage| StateError::NoRoom { shortage })?;
        let path = store.dir().join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|file| fs::remove_file(&path).map(|()| file))
            .map_err(|source| StateError::Spool { path: path.clone(), source })?;
        let mut head = Seal::default();
        head.add(first);
        Ok(Self {
            path,
            file: BufWriter::new(file),
            header,
            families,
            seal: head.clone(),
            head,
            bytes: 0,
            limit: config.max_snapshot_bytes,
            whole: false,
            turn: None,
        })
    }

    /// Takes the next frame; whether it was the last one.
    pub fn add(&mut self, frame: &[u8]) -> Result<bool, StateError> {
        if self.whole || frame.len() > MAX_FRAME_BYTES {
            return Err(damaged("it is too long"));
        }
        match frame::decode(frame)? {
            Frame::Header(_) => Err(damaged("a second header follows the first")),
            Frame::Records(records) => {
                for record in records {
                    let (place, ..) = record?;
                    if usize::from(place) >= self.families.len() {
                        return Err(damaged("a record is of no family"));
                    }
                    self.seal.records += 1;
                }
                self.bytes += frame.len() as u64;
                if self.bytes > self.limit {
                    return Err(StateError::TooLarge { limit: self.limit });
                }
                self.seal.add(frame);
                let length = (frame.len() as u32).to_be_bytes();
                self.file
                    .write_all(&length)
                    .and_then(|()| self.file.write_all(frame))
                    .map_err(|source| StateError::Spool { path: self.path.clone(), source })?;
                step("state.frame.spooled");
                Ok(false)
            }
            Frame::End { records, digest } => {
                if (records, digest) != (self.seal.records, self.seal.digest()) {
                    return Err(damaged("its checksum is wrong"));
                }
                self.file
                    .flush()
                    .map_err(|source| StateError::Spool { path: self.path.clone(), source })?;
                self.whole = true;
                step("state.spooled");
                Ok(true)
            }
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What replaces the consumer's families by the state. To be called once nobody writes them any more. The file is
    /// checked again as it is read.
    pub fn read(&self, store: &Store) -> Result<Batch, StateError> {
        if !self.whole {
            return Err(damaged("its end is missing"));
        }
        let mut batch = Batch::new();
        for family in &self.families {
            if let Some(last) = store.last_key(family).map_err(StateError::Read)? {
                let beyond = [&*last, &[0]].concat();
                batch.add_delete_range(family, [], beyond);
            }
        }
        let spool = |source| StateError::Spool { path: self.path.clone(), source };
        let mut file = self.file.get_ref();
        file.rewind().map_err(spool)?;
        let mut file = BufReader::new(file);
        let mut seal = self.head.clone();
        let mut frame = Vec::new();
        let mut length = [0; 4];
        let mut left = self.bytes;
        while left > 0 {
            file.read_exact(&mut length).map_err(spool)?;
            let length = u32::from_be_bytes(length);
            left = left.checked_sub(u64::from(length)).ok_or(damaged("its file was changed"))?;
            frame.resize(length as usize, 0);
            file.read_exact(&mut frame).map_err(spool)?;
            seal.add(&frame);
            let Frame::Records(records) = frame::decode(&frame)? else {
                return Err(damaged("its file was changed"));
            };
            for record in records {
                let (place, key, value) = record?;
                let family = *self
                    .families
                    .get(usize::from(place))
                    .ok_or(damaged("a record is of no family"))?;
                batch.add_put(family, key, value);
            }
        }
        if seal.digest() != self.seal.digest() {
            return Err(damaged("its file was changed"));
        }
        Ok(batch)
    }
}

/// Removes what a crash in the moment of [`Spool::begin`] has left behind.
pub(crate) fn clear(dir: &Path) -> Result<(), StartError> {
    let path = dir.join(FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(StartError::Spool { path, source })
        }
        _ => Ok(()),
    }
}
