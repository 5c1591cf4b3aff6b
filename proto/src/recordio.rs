//! RecordIO, the framing of Mesos' event streams: the decimal length of a record, a newline, the record.
//!
//! No I/O here: a transport writes what [`encode`] returns and pushes what it reads into a [`Decoder`].

use bytes::{BufMut, Bytes, BytesMut};

#[cfg(test)]
mod tests;

/// The digits of the largest `u64`; a longer length is no length.
const MAX_DIGITS: usize = 20;

/// The record with its length before it, in one piece: clients of Mesos expect that a chunk of an
/// HTTP response holds exactly one record.
pub fn encode(record: &[u8]) -> Bytes {
    let length = record.len().to_string();
    let mut out = BytesMut::with_capacity(length.len() + 1 + record.len());
    out.put_slice(length.as_bytes());
    out.put_u8(b'\n');
    out.put_slice(record);
    out.freeze()
}

/// Why a stream is not RecordIO. The stream is of no use after any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// `got` is cut to what fits a sentence.
    #[error("expected the decimal length of a record and a newline, got {got:?}")]
    BadLength { got: String },
    #[error("record of {length} bytes is longer than the limit of {limit}")]
    TooLong { length: u64, limit: usize },
    #[error("stream ended inside a record: {missing}")]
    Truncated { missing: Missing },
}

/// What a stream that ended early still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The end of a length.
    Length,
    /// So many bytes of a record.
    Bytes(usize),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length => f.write_str("its length is incomplete"),
            Self::Bytes(count) => write!(f, "{count} bytes are missing"),
        }
    }
}

/// Takes a stream apart into records, whatever the pieces in which it arrives.
///
/// Memory is bounded by what was pushed: a length that is only announced reserves nothing.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: BytesMut,
    /// Length of the record at the start of `buffer`, once it is known.
    length: Option<usize>,
    failed: Option<RecordError>,
}

impl Decoder {
    /// `limit` is the length of the longest record to accept, in bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new(), length: None, failed: None }
    }

    /// Adds what arrived next. Take the records out with [`next_record`](Self::next_record)
    /// before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete record, or `None` until more is pushed. A record may be empty.
    ///
    /// # Errors
    /// A bad or too large length; from then on every call returns the same error.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let length = match self.length {
            Some(length) => length,
            None => match self.take_length() {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.buffer.clear();
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            },
        };
        if self.buffer.len() < length {
            self.length = Some(length);
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Call when the stream has ended and [`next_record`](Self::next_record) returns `None`.
    ///
    /// # Errors
    /// The stream ended inside a record, or had failed before.
    pub fn finish(self) -> Result<(), RecordError> {
        let missing = match (self.failed, self.length) {
            (Some(error), _) => return Err(error),
            (None, Some(length)) => Missing::Bytes(length.saturating_sub(self.buffer.len())),
            (None, None) if self.buffer.is_empty() => return Ok(()),
            (None, None) => Missing::Length,
        };
        Err(RecordError::Truncated { missing })
    }

    fn take_length(&mut self) -> Result<Option<usize>, RecordError> {
        let head = &self.buffer[..self.buffer.len().min(MAX_DIGITS + 1)];
        let end = head.iter().position(|byte| *byte == b'\n');
        let digits = &head[..end.unwrap_or(head.len())];
        let bad = || RecordError::BadLength { got: String::from_utf8_lossy(head).into_owned() };
        // Garbage is told at its first byte, not when a newline happens to come.
        if !digits.iter().all(u8::is_ascii_digit) || (end.is_none() && head.len() > MAX_DIGITS) {
            return Err(bad());
        }
        let Some(end) = end else { return Ok(None) };
        let length: u64 =
            std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        let fits = usize::try_from(length).ok().filter(|length| *length <= self.limit);
        let length = fits.ok_or(RecordError::TooLong { length, limit: self.limit })?;
        let _ = self.buffer.split_to(end + 1);
        Ok(Some(length))
    }
}
