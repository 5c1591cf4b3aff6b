//! Mesos' v1 HTTP API from the client's side: POST of a message, an answer that is a message or an
//! endless stream of records.

mod client;
mod encoding;
mod peer;
mod records;

pub(crate) use client::{Client, send};
pub(crate) use encoding::Encoding;
pub(crate) use peer::{Peer, Reply, Sender};
pub(crate) use records::{Records, RecordsError};
