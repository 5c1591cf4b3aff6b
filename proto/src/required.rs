//! Decoding that notices missing required fields.
//!
//! prost gives a required field that is not there its default, so that a TaskStatus without a state
//! reads as TASK_STARTING. Mesos refuses such a message, and so does [`decode_checked`]: it walks the
//! encoded bytes along tables that the build script derives from the descriptors.

use std::borrow::Cow;
use std::fmt;

use prost::Message;

use crate::MAX_DEPTH;
use crate::wire::{Fields, Wire};

#[cfg(test)]
mod tests;

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
/// this release cannot name), or nesting deeper than [`MAX_DEPTH`].
pub fn decode_checked<T: Required>(bytes: &[u8]) -> Result<T, DecodeError> {
    let message = T::decode(bytes)?;
    check::<T>(bytes)?;
    Ok(message)
}

/// Looks only for missing required fields.
pub(crate) fn check<T: Required>(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut missing = Vec::new();
    walk(bytes, T::SHAPE, 0, &Path::Top, &mut missing)?;
    if missing.is_empty() { Ok(()) } else { Err(DecodeError::Missing { fields: missing }) }
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
}

enum Inner {
    Opaque,
    Enum(fn(i32) -> bool),
    One(&'static Shape),
    Each(&'static Shape),
    MapOf(&'static Shape),
}

fn walk(
    bytes: &[u8],
    shape: &Shape,
    depth: usize,
    path: &Path<'_>,
    missing: &mut Vec<String>,
) -> Result<(), DecodeError> {
    if depth == MAX_DEPTH {
        return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
    }
    let mut counts = vec![0usize; shape.fields.len()];
    let mut single: Vec<(usize, Cow<'_, [u8]>)> = Vec::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some(i) = shape.fields.iter().position(|f| f.number == number) else { continue };
        let FieldShape { name, inner, .. } = &shape.fields[i];
        match (inner, wire) {
            (Inner::Enum(known), Wire::Varint(value)) if !known(value as i32) => continue,
            // A message in parts is the sum of the parts.
            (Inner::One(_), Wire::Bytes(part)) => match single.iter_mut().find(|(j, _)| *j == i) {
                Some((_, whole)) => whole.to_mut().extend_from_slice(part),
                None => single.push((i, Cow::Borrowed(part))),
            },
            (Inner::Each(shape), Wire::Bytes(part)) => {
                let path = Path::Item(path, name, counts[i]);
                walk(part, shape, depth + 1, &path, missing)?;
            }
            (Inner::MapOf(shape), Wire::Bytes(entry)) => {
                let (key, value) = map_entry(entry)?;
                // prost leaves out a value that equals its default: no value is no mistake.
                if let Some(value) = value {
                    walk(value, shape, depth + 1, &Path::Entry(path, name, &key), missing)?;
                }
            }
            _ => {}
        }
        counts[i] += 1;
    }
    for (i, whole) in single {
        let FieldShape { name, inner, .. } = &shape.fields[i];
        if let Inner::One(shape) = inner {
            walk(&whole, shape, depth + 1, &Path::Field(path, name), missing)?;
        }
    }
    for (field, count) in shape.fields.iter().zip(counts) {
        if field.required && count == 0 && missing.len() < MAX_MISSING {
            missing.push(Path::Field(path, field.name).to_string());
        }
    }
    Ok(())
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
