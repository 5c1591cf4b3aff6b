//! An answer in pieces: what is encoded already is passed on, not copied.

use bytes::Bytes;

use super::pages::{Entry, Form, Pages};
use super::scan::{put_head, put_varint};
use mezzo_legacy_json::text;

/// Pieces below this are copied together: they are not worth a write each.
const SMALL: usize = 2048;

/// An answer that is being put together.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Bytes>,
    tail: Vec<u8>,
    bytes: usize,
}

/// A whole answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) parts: Vec<Bytes>,
    pub(crate) bytes: usize,
}

impl Parts {
    /// Where small things are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    pub(super) fn put(&mut self, piece: Bytes) {
        if piece.len() < SMALL {
            return self.tail.extend_from_slice(&piece);
        }
        self.flush();
        self.bytes += piece.len();
        self.parts.push(piece);
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.bytes += self.tail.len();
            self.parts.push(std::mem::take(&mut self.tail).into());
        }
    }

    pub(super) fn finish(mut self) -> Answer {
        self.flush();
        Answer { parts: self.parts, bytes: self.bytes }
    }

    // Protobuf.

    /// All entries as fields of that number.
    pub(super) fn fields<T: Entry>(&mut self, number: u32, pages: &Pages<T>) {
        for page in pages.pages() {
            self.put(page.encoded(Form::Protobuf, number));
        }
    }

    pub(super) fn number(&mut self, number: u32, value: i32) {
        put_varint(&mut self.tail, u64::from(number) << 3);
        put_varint(&mut self.tail, u64::try_from(value).unwrap_or_default());
    }

    /// A message as a field of that number.
    pub(super) fn nested(&mut self, number: u32, message: Answer) {
        put_head(&mut self.tail, number, message.bytes);
        for part in message.parts {
            self.put(part);
        }
    }

    // JSON.

    pub(super) fn literal(&mut self, text: &str) {
        self.tail.extend_from_slice(text.as_bytes());
    }

    /// `"name":`, after a comma unless the object was just opened.
    pub(super) fn name(&mut self, name: &str) {
        if self.tail.last() != Some(&b'{') {
            self.tail.push(b',');
        }
        text(&mut self.tail, name);
        self.tail.push(b':');
    }

    /// `"name":[…]` of all entries in all lists.
    pub(super) fn list<'a, T: Entry + 'a>(
        &mut self,
        name: &str,
        form: Form,
        lists: impl IntoIterator<Item = &'a Pages<T>>,
    ) {
        self.name(name);
        self.tail.push(b'[');
        let mut first = true;
        for page in lists.into_iter().flat_map(Pages::pages) {
            if !std::mem::take(&mut first) {
                self.tail.push(b',');
            }
            self.put(page.encoded(form, 0));
        }
        self.tail.push(b']');
    }
}

impl Answer {
    /// In one piece.
    pub(crate) fn concat(mut self) -> Bytes {
        match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.swap_remove(0),
            _ => self.parts.concat().into(),
        }
    }
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        Answer { bytes: bytes.len(), parts: vec![bytes] }
    }
}
