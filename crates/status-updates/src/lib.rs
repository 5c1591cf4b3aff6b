//! Reliable updates, without I/O: each stream (a task's, an operation's) has a queue of updates, of
//! which the first is in flight until it is acknowledged by its uuid.
//!
//! [`UpdateStreams`] holds the streams of one sender. What it promises:
//!
//! - Updates of one stream arrive in order: the next one leaves after the acknowledgement of the one
//!   before.
//! - An update is sent again at once when the connection returns, and by a backstop timer that
//!   doubles from [`Backoff::first`] to [`Backoff::longest`], until it is acknowledged. So it arrives
//!   at least once.
//! - A stream ends with the acknowledgement of its terminal update and is forgotten.
//! - Handing in an update twice, or acknowledging one twice, changes nothing.
//!
//! It stores nothing: whoever owns it writes an update down before it hands it in, and hands in
//! again what was not acknowledged when it starts anew. Every step costs O(log streams).

mod backoff;
mod invariants;
mod stream;
mod streams;

pub use backoff::Backoff;
pub use invariants::Violation;
pub use stream::{REMEMBERED_ACKNOWLEDGEMENTS, Update};
pub use streams::{Acknowledged, Effect, InvalidAcknowledgement, PushError, Pushed, UpdateStreams};
