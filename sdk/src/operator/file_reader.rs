//! Files of sandboxes, streamed.

use tonic::Streaming;

use crate::error::{OperatorError, ServerKind};
use crate::v1;
use crate::v1::agent::FileChunk;

/// Which part of which file of which task's sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRequest {
    /// Whose task it is.
    pub framework_id: v1::FrameworkId,
    /// The task.
    pub task_id: v1::TaskId,
    /// Relative to the sandbox, for instance `stdout`.
    pub path: String,
    /// First byte wanted; negative counts from the end.
    pub offset: i64,
    /// Go on with what is appended, until the task has ended.
    pub follow: bool,
    /// Of `stdout` and `stderr`: with what was rotated and is still kept. Offsets count from the
    /// task's first byte then, as they do with `follow`.
    pub with_rotated: bool,
}

/// The contents of a file as they arrive.
#[derive(Debug)]
pub struct FileReader {
    pub(super) address: String,
    pub(super) chunks: Streaming<FileChunk>,
}

impl FileReader {
    /// The next piece, or None at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_lost` if the connection broke: read on from the offset reached.
    pub async fn next(&mut self) -> Result<Option<FileChunk>, OperatorError> {
        self.chunks.message().await.map_err(|status| read_error(&self.address, status))
    }
}

pub(super) fn read_error(address: &str, status: tonic::Status) -> OperatorError {
    OperatorError::from_status(ServerKind::Agent, address, "ReadFile", status)
}
