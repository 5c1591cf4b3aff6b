//! JSON trees to messages.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::error::prefix;
use super::generated::{JsonEnum, JsonMessage};
use super::tree::{self, Json};
use super::{JsonError, MAX_DEPTH};
use crate::MAX_DECODED_BYTES;

/// More missing fields than this are not listed: a text of a million broken objects must not become
/// an error message of a million lines.
const MAX_MISSING: usize = 32;

/// What reading has found besides the message.
#[derive(Default)]
pub struct Context {
    /// Paths of missing fields, relative to the message being read.
    missing: Vec<String>,
    depth: usize,
    /// What the message takes so far, as in `decoded_size`.
    memory: usize,
}

impl Context {
    pub(super) fn missing(self) -> Option<Vec<String>> {
        if self.missing.is_empty() { None } else { Some(self.missing) }
    }

    /// Counts one element of a list or a map.
    fn element<T>(&mut self) -> Result<(), JsonError> {
        self.memory += size_of::<T>();
        if self.memory > MAX_DECODED_BYTES { Err(JsonError::too_large()) } else { Ok(()) }
    }

    /// Runs `read` on a value found at `segment` and names the segment in what went wrong there.
    fn within<T>(
        &mut self,
        segment: &dyn Fn() -> String,
        read: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        let before = self.missing.len();
        let result = read(self).map_err(|error| error.within(&segment()));
        for path in &mut self.missing[before..] {
            prefix(path, &segment());
        }
        result
    }
}

pub(super) fn message<M: JsonMessage>(value: &Json<'_>, at: &mut Context) -> Result<M, JsonError> {
    let Json::Object(members) = value else {
        return Err(match at.depth {
            0 => JsonError::NotAnObject { got: value.describe() },
            _ => JsonError::mismatch("an object", value),
        });
    };
    if at.depth == MAX_DEPTH {
        return Err(JsonError::TooDeep { path: String::new(), limit: MAX_DEPTH });
    }
    at.depth += 1;
    let mut message = M::default();
    for (i, (name, value)) in members.iter().enumerate() {
        // The last one of a name counts. Objects are small, so looking ahead is cheaper than a set.
        let again = members.len() <= 64 && members[i + 1..].iter().any(|(later, _)| later == name);
        if *value == Json::Null || again {
            continue;
        }
        at.within(&|| name.to_string(), |at| message.read_field(name, value, at))?;
    }
    for name in M::REQUIRED {
        let last = members.iter().rev().find(|(found, _)| found == name);
        if last.is_none_or(|(_, value)| *value == Json::Null) && at.missing.len() < MAX_MISSING {
            at.missing.push((*name).to_owned());
        }
    }
    at.depth -= 1;
    Ok(message)
}

/// One value of a list, a map or a field.
pub trait ReadValue: Sized {
    fn read(value: &Json<'_>, at: &mut Context) -> Result<Self, JsonError>;
}

impl<M: JsonMessage> ReadValue for M {
    fn read(value: &Json<'_>, at: &mut Context) -> Result<Self, JsonError> {
        message(value, at)
    }
}

pub(super) fn required<T: ReadValue>(
    slot: &mut T,
    value: &Json<'_>,
    at: &mut Context,
) -> Result<(), JsonError> {
    *slot = T::read(value, at)?;
    Ok(())
}

pub(super) fn optional<T: ReadValue>(
    slot: &mut Option<T>,
    value: &Json<'_>,
    at: &mut Context,
) -> Result<(), JsonError> {
    *slot = Some(T::read(value, at)?);
    Ok(())
}

pub(super) fn oneof<T: ReadValue, O>(
    slot: &mut Option<O>,
    variant: impl FnOnce(T) -> O,
    value: &Json<'_>,
    at: &mut Context,
) -> Result<(), JsonError> {
    *slot = Some(variant(T::read(value, at)?));
    Ok(())
}

pub(super) fn repeated<T: ReadValue>(
    slot: &mut Vec<T>,
    value: &Json<'_>,
    at: &mut Context,
) -> Result<(), JsonError> {
    slot.clear();
    let Json::Array(values) = value else {
        // One value may stand for a list of one.
        slot.push(T::read(value, at)?);
        return Ok(());
    };
    for (i, value) in values.iter().enumerate() {
        if *value != Json::Null {
            at.element::<T>()?;
            slot.push(at.within(&|| format!("[{i}]"), |at| T::read(value, at))?);
        }
    }
    Ok(())
}

pub(super) fn map<T: ReadValue>(
    slot: &mut BTreeMap<String, T>,
    value: &Json<'_>,
    at: &mut Context,
) -> Result<(), JsonError> {
    let Json::Object(members) = value else {
        return Err(JsonError::mismatch("an object", value));
    };
    slot.clear();
    for (key, value) in members {
        if *value == Json::Null {
            slot.remove(key.as_ref());
            continue;
        }
        at.element::<(String, T)>()?;
        let value = at.within(&|| format!("[{key:?}]"), |at| T::read(value, at))?;
        slot.insert(key.to_string(), value);
    }
    Ok(())
}

/// `None`: a name this release does not know.
fn enum_number<E: JsonEnum>(value: &Json<'_>) -> Result<Option<i32>, JsonError> {
    match value {
        Json::String(name) => Ok(E::number(name)),
        _ => Err(JsonError::mismatch("the name of an enum value", value)),
    }
}

pub(super) fn required_enum<E: JsonEnum>(
    slot: &mut i32,
    value: &Json<'_>,
) -> Result<(), JsonError> {
    *slot = enum_number::<E>(value)?.ok_or_else(|| JsonError::UnknownEnumValue {
        path: String::new(),
        allowed: E::NAMES,
        got: value.describe(),
    })?;
    Ok(())
}

pub(super) fn optional_enum<E: JsonEnum>(
    slot: &mut Option<i32>,
    value: &Json<'_>,
) -> Result<(), JsonError> {
    *slot = enum_number::<E>(value)?;
    Ok(())
}

pub(super) fn oneof_enum<O, E: JsonEnum>(
    slot: &mut Option<O>,
    variant: impl FnOnce(i32) -> O,
    value: &Json<'_>,
) -> Result<(), JsonError> {
    if let Some(number) = enum_number::<E>(value)? {
        *slot = Some(variant(number));
    }
    Ok(())
}

pub(super) fn repeated_enum<E: JsonEnum>(
    slot: &mut Vec<i32>,
    value: &Json<'_>,
) -> Result<(), JsonError> {
    slot.clear();
    let Json::Array(values) = value else {
        slot.extend(enum_number::<E>(value)?);
        return Ok(());
    };
    for (i, value) in values.iter().enumerate() {
        if *value != Json::Null {
            slot.extend(enum_number::<E>(value).map_err(|e| e.within(&format!("[{i}]")))?);
        }
    }
    Ok(())
}

impl ReadValue for String {
    fn read(value: &Json<'_>, _: &mut Context) -> Result<Self, JsonError> {
        match value {
            Json::String(text) => Ok(text.to_string()),
            _ => Err(JsonError::mismatch("a string", value)),
        }
    }
}

impl ReadValue for Bytes {
    fn read(value: &Json<'_>, _: &mut Context) -> Result<Self, JsonError> {
        match value {
            Json::String(text) => STANDARD.decode(text.as_ref()).map(Self::from).map_err(|error| {
                JsonError::Base64 { path: String::new(), reason: error.to_string() }
            }),
            _ => Err(JsonError::mismatch("a string of base64", value)),
        }
    }
}

impl ReadValue for bool {
    fn read(value: &Json<'_>, _: &mut Context) -> Result<Self, JsonError> {
        match value {
            Json::Bool(value) => Ok(*value),
            Json::String(text) if text.trim() == "true" => Ok(true),
            Json::String(text) if text.trim() == "false" => Ok(false),
            _ => Err(JsonError::mismatch("true or false", value)),
        }
    }
}

/// A number as such or in a string.
fn number<'a>(value: &'a Json<'_>) -> Option<Json<'a>> {
    let is_number =
        |value: &Json<'_>| matches!(value, Json::Unsigned(_) | Json::Signed(_) | Json::Float(_));
    match value {
        Json::String(text) => tree::parse(text.trim().as_bytes()).ok().filter(is_number),
        value => is_number(value).then(|| value.clone()),
    }
}

impl ReadValue for f64 {
    fn read(value: &Json<'_>, _: &mut Context) -> Result<Self, JsonError> {
        if let Json::String(text) = value {
            match text.as_ref() {
                "Infinity" => return Ok(Self::INFINITY),
                "-Infinity" => return Ok(Self::NEG_INFINITY),
                _ => {}
            }
        }
        match number(value) {
            Some(Json::Unsigned(value)) => Ok(value as Self),
            Some(Json::Signed(value)) => Ok(value as Self),
            Some(Json::Float(value)) => Ok(value),
            _ => Err(JsonError::mismatch("a number", value)),
        }
    }
}

/// A whole number; `5.0` is one.
fn whole(value: &Json<'_>) -> Option<i128> {
    match number(value)? {
        Json::Unsigned(value) => Some(i128::from(value)),
        Json::Signed(value) => Some(i128::from(value)),
        Json::Float(value) if value.fract() == 0.0 => Some(value as i128),
        _ => None,
    }
}

macro_rules! integer {
    ($($type:ty: $expected:literal),*) => {$(
        impl ReadValue for $type {
            fn read(value: &Json<'_>, _: &mut Context) -> Result<Self, JsonError> {
                whole(value)
                    .and_then(|number| Self::try_from(number).ok())
                    .ok_or_else(|| JsonError::mismatch($expected, value))
            }
        }
    )*};
}

integer!(
    i32: "a whole number of 32 bits",
    i64: "a whole number of 64 bits",
    u32: "a whole number from 0 to 4294967295",
    u64: "a whole number from 0 to 18446744073709551615"
);
