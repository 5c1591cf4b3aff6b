//! Mesos' JSON mapping of the v1 messages, which is not the canonical one of protobuf.
//!
//! Written: fields by their proto names, in the order of the `.proto` file; 64-bit integers and
//! doubles as numbers, infinities as `"Infinity"` and `"-Infinity"`; bytes as padded base64; enums by
//! name; maps as objects; set fields, and unset optional fields that have a default of their own
//! unless deprecated; no empty list. The text holds no newline.
//!
//! Read: proto names only, unknown names ignored; `null` is unset, in lists too; a number, a bool
//! may come as a string; one value may stand for a list of one; an unknown enum name is
//! dropped, or an error where the field is required; of a name given twice the last one counts;
//! missing required fields are all listed. Integers must be whole and in range: Mesos
//! truncates and wraps them silently, which no client can want.
//!
//! The code per message is generated from the descriptors when the crate is built.

mod duration;
mod error;
#[allow(
    clippy::allow_attributes_without_reason,
    clippy::match_single_binding,
    reason = "generated code silences lints without saying why"
)]
mod generated;
mod read;
mod tree;
mod write;

#[cfg(test)]
mod tests;

pub use error::JsonError;
pub use generated::{JsonEnum, JsonMessage};

use crate::MAX_DEPTH;

/// The message as JSON text in one line.
pub fn to_vec<M: JsonMessage>(message: &M) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write::message(message, &mut out);
    out
}

/// The message as JSON text in one line.
pub fn to_string<M: JsonMessage>(message: &M) -> String {
    // Everything written came from a `&str` or is ASCII.
    String::from_utf8_lossy(&to_vec(message)).into_owned()
}

/// The message in a JSON text.
///
/// # Errors
/// Text that is no JSON, a field of the wrong type, a missing required field, or messages nested
/// deeper than [`MAX_DEPTH`].
pub fn from_slice<M: JsonMessage>(text: &[u8]) -> Result<M, JsonError> {
    let tree = tree::parse(text)?;
    let mut context = read::Context::default();
    let message = read::message(&tree, &mut context)?;
    match context.missing() {
        None => Ok(message),
        Some(fields) => Err(JsonError::Missing { fields }),
    }
}
