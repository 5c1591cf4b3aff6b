//! What may be wrong with a JSON text.

use std::fmt::Write;

use super::tree::Json;

/// Why a JSON text is not the message asked for. `path` names the field from the top, e.g.
/// `accept.operations[0].launch`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// `reason` ends with the line and column.
    #[error("invalid JSON: {reason}")]
    Syntax { reason: String },
    #[error("expecting a JSON object, got {got}")]
    NotAnObject { got: String },
    #[error("field '{path}': expected {expected}, got {got}")]
    Mismatch { path: String, expected: &'static str, got: String },
    #[error("field '{path}': expected one of {}, got {got}", .allowed.join(", "))]
    UnknownEnumValue { path: String, allowed: &'static [&'static str], got: String },
    #[error("field '{path}': expected padded base64: {reason}")]
    Base64 { path: String, reason: String },
    #[error("field '{path}': messages are nested more than {limit} deep")]
    TooDeep { path: String, limit: usize },
    #[error("the message would take more than {limit} bytes of memory; send less at a time")]
    TooLarge { limit: usize },
    /// Paths of the required fields that are not there.
    #[error("Missing required fields: {}", .fields.join(", "))]
    Missing { fields: Vec<String> },
}

impl JsonError {
    pub(super) fn mismatch(expected: &'static str, got: &Json<'_>) -> Self {
        Self::Mismatch { path: String::new(), expected, got: got.describe() }
    }

    pub(super) fn too_large() -> Self {
        Self::TooLarge { limit: crate::MAX_DECODED_BYTES }
    }

    /// The same error, seen from the message or list that holds the value.
    pub(super) fn within(mut self, segment: &str) -> Self {
        match &mut self {
            Self::Mismatch { path, .. }
            | Self::UnknownEnumValue { path, .. }
            | Self::Base64 { path, .. }
            | Self::TooDeep { path, .. } => prefix(path, segment),
            Self::Syntax { .. }
            | Self::NotAnObject { .. }
            | Self::TooLarge { .. }
            | Self::Missing { .. } => {}
        }
        self
    }
}

/// Puts `segment` (a field name, `[3]` or `["key"]`) before `path`.
pub(super) fn prefix(path: &mut String, segment: &str) {
    if !path.is_empty() && !path.starts_with('[') {
        path.insert(0, '.');
    }
    path.insert_str(0, segment);
}

/// `text` in quotes, cut to what fits a sentence.
pub(super) fn quoted(text: &str) -> String {
    const LIMIT: usize = 60;
    let mut out = String::new();
    let _ = match text.char_indices().nth(LIMIT) {
        None => write!(out, "{text:?}"),
        Some((end, _)) => write!(out, "{:?}…", &text[..end]),
    };
    out
}
