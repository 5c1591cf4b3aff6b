//! The replicated log of the masters: payloads go in, come out in one order for everybody, and what came
//! out is never taken back.
//!
//! [`Log::start`] runs raft on a thread of its own over a [`mezzo_store::Store`] that the log shares with the
//! state machine (it uses the families [`FAMILIES`]). The [`Log`] handle proposes; [`Events`] delivers
//! [`LogEvent`]s in order. This version runs groups of one node; everything that raft must remember is
//! nevertheless kept as raft needs it, so that more nodes can join the same log later. The contract, in detail,
//! is in the crate's README.
//!
//! Map: `log` (handle and thread), `queue` (proposals on their way to it), `node` (raft, driven without any
//! thread: what the tests crash), `storage` (raft's view of the store), `records` (keys and values), `mend` (what a repair does to them),
//! `event`, `error`, `drain` (raft's log lines to `tracing`).

mod drain;
mod error;
mod event;
mod log;
mod mend;
mod node;
mod queue;
mod records;
mod storage;

#[cfg(test)]
mod tests;

pub use error::{LogError, ProposeError, StartError};
pub use event::{DropReason, Events, LogEvent};
pub use log::{Config, Log, Status};
pub use mend::mend;
pub use queue::{MAX_PAYLOAD_BYTES, MAX_QUEUED, MAX_QUEUED_BYTES};
pub use records::FAMILIES;
