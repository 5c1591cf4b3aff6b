//! What can go wrong with a log.

use mezzo_store::{ReadError, WriteError};

/// Why a log did not start. Nothing was changed in the store.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("node id 0 is not allowed; number the masters from 1")]
    NodeIdZero,

    #[error(
        "the log belongs to the group of nodes {voters:?}, not to node {node_id} alone; \
         start it with the node id it was made with"
    )]
    OtherGroup { voters: Vec<u64>, node_id: u64 },

    /// The state machine lacks entries that the log no longer has.
    #[error(
        "the state was applied up to entry {applied}, but the log begins at entry {first}; restore both from one copy"
    )]
    StateBehindLog { applied: u64, first: u64 },

    /// The state machine has seen entries that the log does not know.
    #[error(
        "the state was applied up to entry {applied}, but the log ends at entry {last}; restore both from one copy"
    )]
    StateAheadOfLog { applied: u64, last: u64 },

    #[error("the log's records are damaged: {what}; restore the store from a copy")]
    Damaged { what: String },

    #[error("the log could not be read")]
    Read(#[source] ReadError),

    #[error("the log could not be created")]
    Write(#[source] WriteError),

    #[error("raft refused to start: {what}")]
    Raft { what: String },

    #[error("the log's thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// Why a running log ended. It delivers nothing after this.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    #[error("the log could not be written")]
    Write(#[source] WriteError),

    /// Raft itself, or reading the log on its behalf, failed.
    #[error("raft failed: {what}")]
    Raft { what: String },
}

/// Why a proposal was not taken. It will not be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("the log has stopped")]
    Stopped,

    /// More than the log can write; try again after events have come.
    #[error("too many proposals are waiting for the log")]
    Full,

    /// Raft's own entries are the empty ones.
    #[error("a proposal must not be empty")]
    Empty,

    #[error("a proposal of {bytes} bytes is too large; at most {limit} are allowed")]
    TooLarge { bytes: usize, limit: usize },
}
