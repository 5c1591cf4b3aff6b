//! The replicated log of the masters: payloads go in, come out in one order for everybody, and what came
//! out is never taken back.
//!
//! [`Log::start`] (a group of one) and [`Log::start_with`] (1, 3 or 5 nodes) run raft on a thread of its own over a
//! [`mezzo_store::Store`] that the log shares with the state machine (it uses the families [`FAMILIES`]). The [`Log`]
//! handle proposes; [`Events`] delivers [`LogEvent`]s in order; a [`Transport`] carries messages, [`grpc`] is one. The
//! contract, in detail, is in the crate's README.
//!
//! Map: `log` (handle), `worker` (thread and clock), `queue` (what is on its way to it), `transport` (the seam to the network),
//! `grpc` (a network); `node` (raft, driven without any thread: what the tests crash), `effect` (what it wants done),
//! `election` (when it asks for votes), `pending` (proposals to be answered), `reads`, `membership` and
//! `membership_changes`; `source`, `frame` and `spool` (a state leaves, travels, arrives); `storage` (raft's view of the
//! store), `records` (keys and values), `mend` (what a repair does to them); `config`, `status`, `event`, `error`, `random`,
//! `fault` (steps at which tests kill), `drain` (raft's log lines to `tracing`).

mod config;
mod drain;
mod effect;
mod election;
mod error;
mod event;
mod fault;
mod frame;
pub mod grpc;
mod log;
mod membership;
mod membership_changes;
mod mend;
mod node;
mod pending;
mod queue;
mod random;
mod reads;
mod records;
mod source;
mod spool;
mod status;
mod storage;
mod transport;
mod worker;

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod tests;

pub use config::{Config, GroupId, MAX_MEMBERS, StateFamilies};
pub use error::{LogError, MessageError, ProposeError, StartError, StateError};
pub use event::{DropReason, Events, LogEvent, StateHold};
pub use log::Log;
pub use membership::Change;
pub use mend::mend;
pub use queue::{MAX_PAYLOAD_BYTES, MAX_QUEUED, MAX_QUEUED_BYTES};
pub use records::FAMILIES;
pub use status::{Peer, Role, Status};
pub use transport::{Inbox, StateInbox, StateSink, Transport};
