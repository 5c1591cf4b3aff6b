//! Decoding that notices missing required fields, and takes no more memory than is bearable.
//!
//! prost gives a required field that is not there its default, so that a TaskStatus without a state
//! reads as TASK_STARTING. Mesos refuses such a message, and so does [`decode_checked`]: it walks the
//! encoded bytes along tables that the build script derives from the descriptors.
//!
//! The walk comes before the decoding, because it also adds up what the message will take: two bytes
//! on the wire can be an empty element of a list, and a thousand bytes in memory.

use std::borrow::Cow;
use std::fmt;

use prost::Message;

use crate::MAX_DEPTH;
use crate::wire::{Fields, Wire};

#[cfg(test)]
mod tests;

/// Most memory that one decoded message may take, in bytes. What clients send takes some ten times its
/// encoded length: room for the largest requests that are accepted (64 MiB) of the usual kind, and an
/// end to those that are made of empty list elements.
pub const MAX_DECODED_BYTES: usize = 256 * 1024 * 1024;

/// Fields of most messages: to count those takes no memory from the heap.
const FEW_FIELDS: usize = 24;

/// More missing fields than this are not listed.
const MAX_MISSING: usize = 32;

/// Why bytes are not the message asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("invalid protobuf: {reason}")]
    Malformed { reason: String },
    #[error("messages are nested more than {limit} deep")]
    TooDeep { limit: usize },
    #[error("the message would take more than {limit} bytes of memory; send less at a time")]
    TooLarge { limit: usize },
    /// Paths of the required fields that are not there, e.g. `accept.offer_ids[2].value`.
    #[error("Missing required fields: {}", .fields.join(", "))]
    Missing { fields: Vec<String> },
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed { reason: error.to_string() }
    }
}

/// A message whose required fields are known.
pub trait Required: Message + Default {
    #[doc(hidden)]
    const SHAPE: &'static Shape;
}

/// Decodes `bytes`.
///
/// # Errors
/// Bytes that are no such message, a required field that is missing (or an enum there whose number
/// this release cannot name), nesting deeper than [`MAX_DEPTH`], or a message that would take more
/// memory than [`MAX_DECODED_BYTES`].
pub fn decode_checked<T: Required>(bytes: &[u8]) -> Result<T, DecodeError> {
    decoded_size::<T>(bytes)?;
    Ok(T::decode(bytes)?)
}

/// Memory that the message in `bytes` would take when decoded, in bytes: its own size, that of every
/// list element in it, and its texts. The spare room of growing lists is not counted.
///
/// # Errors
/// As for [`decode_checked`], but bytes that pass may still be no such message.
pub fn decoded_size<T: Required>(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut walk = Walk { missing: Vec::new(), memory: size_of::<T>() + bytes.len() };
    walk.message(bytes, T::SHAPE, 0, &Path::Top)?;
    let Walk { missing, memory } = walk;
    if missing.is_empty() { Ok(memory) } else { Err(DecodeError::Missing { fields: missing }) }
}

/// The fields of a message that are required or hold such fields.
#[doc(hidden)]
pub struct Shape {
    pub(crate) fields: &'static [FieldShape],
}

pub(crate) struct FieldShape {
    number: u32,
    name: &'static str,
    required: bool,
    inner: Inner,
    /// Memory that one value takes besides its own bytes and outside of the message that holds it.
    element: usize,
}

enum Inner {
    Opaque,
    Enum(fn(i32) -> bool),
    /// A list of numbers, which may be packed: at least one byte each.
    Numbers,
    One(&'static Shape),
    Each(&'static Shape),
    MapOf(&'static Shape),
}

struct Walk {
    missing: Vec<String>,
    memory: usize,
}

impl Walk {
    fn message(
        &mut self,
        bytes: &[u8],
        shape: &Shape,
        depth: usize,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        if depth == MAX_DEPTH {
            return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
        }
        let (mut few, mut many) = ([0usize; FEW_FIELDS], Vec::new());
        let counts = match few.get_mut(..shape.fields.len()) {
            Some(few) => few,
            None => {
                many.resize(shape.fields.len(), 0usize);
                &mut many[..]
            }
        };
        let mut single: Vec<(usize, Cow<'_, [u8]>)> = Vec::new();
        for field in Fields(bytes) {
            let (number, wire) = field?;
            let Ok(i) = shape.fields.binary_search_by_key(&number, |f| f.number) else { continue };
            let FieldShape { name, inner, element, .. } = &shape.fields[i];
            let elements = match (inner, &wire) {
                (Inner::Numbers, Wire::Bytes(packed)) => packed.len(),
                _ => 1,
            };
            self.memory = self.memory.saturating_add(element.saturating_mul(elements));
            if self.memory > MAX_DECODED_BYTES {
                return Err(DecodeError::TooLarge { limit: MAX_DECODED_BYTES });
            }
            match (inner, wire) {
                // Of several values the last one counts.
                (Inner::Enum(known), Wire::Varint(value)) => {
                    counts[i] = usize::from(known(value as i32));
                    continue;
                }
                // A message in parts is the sum of the parts.
                (Inner::One(_), Wire::Bytes(part)) => {
                    match single.iter_mut().find(|(j, _)| *j == i) {
                        Some((_, whole)) => whole.to_mut().extend_from_slice(part),
                        None => single.push((i, Cow::Borrowed(part))),
                    }
                }
                (Inner::Each(shape), Wire::Bytes(part)) => {
                    self.message(part, shape, depth + 1, &Path::Item(path, name, counts[i]))?;
                }
                (Inner::MapOf(shape), Wire::Bytes(entry)) => {
                    let (key, value) = map_entry(entry)?;
                    // prost leaves out a value that equals its default: no value is no mistake.
                    if let Some(value) = value {
                        self.message(value, shape, depth + 1, &Path::Entry(path, name, &key))?;
                    }
                }
                _ => {}
            }
            counts[i] += 1;
        }
        for (i, whole) in single {
            let FieldShape { name, inner, .. } = &shape.fields[i];
            if let Inner::One(shape) = inner {
                self.message(&whole, shape, depth + 1, &Path::Field(path, name))?;
            }
        }
        for (field, count) in shape.fields.iter().zip(counts) {
            if field.required && *count == 0 && self.missing.len() < MAX_MISSING {
                self.missing.push(Path::Field(path, field.name).to_string());
            }
        }
        Ok(())
    }
}

/// Key and value of a map's entry; both may be left out.
fn map_entry(entry: &[u8]) -> Result<(String, Option<&[u8]>), DecodeError> {
    let mut key = String::new();
    let mut value = None;
    for field in Fields(entry) {
        match field? {
            (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, Wire::Bytes(message)) => value = Some(message),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Where the walk stands; rendered only when something is missing there.
enum Path<'a> {
    Top,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, &'a str, usize),
    Entry(&'a Path<'a>, &'a str, &'a str),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parent, name) = match self {
            Path::Top => return Ok(()),
            Path::Field(parent, name)
            | Path::Item(parent, name, _)
            | Path::Entry(parent, name, _) => (parent, name),
        };
        if !matches!(parent, Path::Top) {
            write!(f, "{parent}.")?;
        }
        f.write_str(name)?;
        match self {
            Path::Item(_, _, index) => write!(f, "[{index}]"),
            Path::Entry(_, _, key) => write!(f, "[{key:?}]"),
            Path::Top | Path::Field(..) => Ok(()),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
