//! What can go wrong with a log.

use std::path::PathBuf;

use mezzo_store::{ReadError, Shortage, WriteError};

use crate::config::GroupId;

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

    /// The store was made by another node of a group.
    #[error(
        "the log belongs to node {found}, not to node {node_id}; start it with the node id it was made with"
    )]
    OtherNode { found: u64, node_id: u64 },

    #[error(
        "node {node_id} has a log that was not founded by {founders:?}; keep it, start the others without founders, and \
         add them as learners"
    )]
    OtherFounders { node_id: u64, founders: Vec<u64> },

    #[error("the founders {founders:?} name a node twice; name each once")]
    FounderTwice { founders: Vec<u64> },

    #[error(
        "node {node_id} is not among the founders {founders:?}; name it there too, or name none to join a group"
    )]
    NoFounder { node_id: u64, founders: Vec<u64> },

    #[error(
        "the founders {founders:?} are more than the {limit} nodes that a group may have; name fewer"
    )]
    TooManyFounders { founders: Vec<u64>, limit: usize },

    /// [`Config::state`](crate::Config::state) is missing.
    #[error(
        "a log of several nodes has to know where the state is, to hand it to a node that lacks it"
    )]
    StateUnknown,

    #[error("family {family} is the log's own and cannot be part of the state")]
    FamilyOfTheLog { family: &'static str },

    #[error(
        "the applied index is in family {family}, which is not part of the state; both must be replaced together"
    )]
    AppliedElsewhere { family: &'static str },

    /// What a state that was on its way to this node has left behind.
    #[error(
        "could not remove {path}, the rest of an interrupted transfer; remove it and start again"
    )]
    Spool {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

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

    /// [`StateHold`](crate::StateHold) was dropped without being released.
    #[error("the consumer did not let go of its state, which another node's had to replace")]
    StateHeld,

    /// A state that had arrived could not be put in place. Nothing was changed.
    #[error("a state from another node could not be put in place")]
    Restore(#[source] std::sync::Arc<StateError>),

    /// Raft itself, or reading the log on its behalf, failed.
    #[error("raft failed: {what}")]
    Raft { what: String },
}

/// Why a message from another node was not taken. The log goes on as if it had been lost.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("a message cannot be decoded")]
    Undecodable(#[source] prost_raft::DecodeError),

    #[error(
        "a message is for node {to}, not for node {node_id}; the addresses of the nodes are mixed up"
    )]
    Misdirected { to: u64, node_id: u64 },

    /// A kind that nodes do not send to each other, or without a term or a sender.
    #[error("a message of kind {kind} from node {from} is nothing that nodes say to each other")]
    Unexpected { kind: i32, from: u64 },

    /// What no node of this group says that is whole: taken in, it would end the log.
    #[error("a message from node {from} was not taken: {what}")]
    Unsound { from: u64, what: &'static str },

    /// An answer of a node that is no member (any more).
    #[error("node {from} is no member of the group")]
    Stranger { from: u64 },
}

/// Why a state from another node was not taken over. The sender tries again.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("a frame of the state is damaged or out of place: {what}")]
    Damaged { what: &'static str },

    #[error("the state belongs to group {found}, not to group {expected}")]
    OtherGroup { found: GroupId, expected: GroupId },

    #[error("the state has other families than this node: {found:?}")]
    OtherFamilies { found: Vec<String> },

    #[error("the state takes more than {limit} bytes; raise max_snapshot_bytes")]
    TooLarge { limit: u64 },

    #[error("another state is arriving already")]
    Busy,

    /// What the receiver has said.
    #[error("the receiver refused the state: {reason}")]
    Refused { reason: String },

    #[error("this node was not told where its state is")]
    NoFamilies,

    #[error("there is no room for the state: {shortage}")]
    NoRoom { shortage: Shortage },

    #[error("could not use {path}")]
    Spool {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    /// The sender's side.
    #[error("the state could not be read")]
    Read(#[source] ReadError),

    /// The sender's side.
    #[error("the records of the log do not fit the state: {what}")]
    Unfit { what: String },

    /// The sender's side: whoever carries the frames has given up.
    #[error("the connection that carried the state has ended")]
    Ended,
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
