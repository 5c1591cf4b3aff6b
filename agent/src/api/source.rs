//! A file to read: an ordinary one, or a task's output, which may be rotated meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::sandbox::OUTPUTS;
use crate::sandbox::beneath::{Refused, open_beneath};
use crate::sandbox::log::{Log, LogLocks};

#[derive(Debug)]
pub(super) enum Source {
    File(File),
    /// Its positions count from the task's first byte.
    Output(Log),
}

impl Source {
    /// Opens a regular file of a sandbox. Blocks.
    pub(super) fn open(directory: OwnedFd, path: &str, locks: LogLocks) -> Result<Source, Refused> {
        let file = open_beneath(&directory, path)?;
        let path = path.trim_start_matches("./");
        if OUTPUTS.contains(&path) {
            Ok(Source::Output(Log::reader(directory, file, path, locks)?))
        } else {
            Ok(Source::File(file))
        }
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Source::File(file) => file,
            Source::Output(log) => log.file(),
        }
    }

    /// Positions of the first byte that is kept, of the first that was not rotated out of the file itself, and of the end.
    pub(super) fn span(&self) -> io::Result<Span> {
        match self {
            Source::File(file) => Ok(Span { kept: 0, held: 0, end: file.metadata()?.len() }),
            Source::Output(log) => log.span(),
        }
    }

    /// Up to `max` bytes from `position` on, or from the next that is kept, with the position that they have; nothing at the end. A file
    /// that was cut short since begins anew.
    pub(super) fn read(&self, position: u64, max: usize) -> io::Result<(u64, Bytes)> {
        let file = match self {
            Source::File(file) => file,
            Source::Output(log) => return log.read(position, max),
        };
        let position = if position > file.metadata()?.len() { 0 } else { position };
        let mut buffer = vec![0; max];
        let length = file.read_at(&mut buffer, position)?;
        buffer.truncate(length);
        Ok((position, Bytes::from(buffer)))
    }
}

pub(super) use crate::sandbox::log::Span;
