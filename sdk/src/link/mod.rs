//! A subscription on the wire, whatever the transport: events and answers come in, calls go out.
//!
//! ```text
//!   open      finds a server and subscribes: detection, redirects, the first event
//!   Link      a queue of calls, a stream of what is heard; gRPC and HTTP look the same here
//!   Session   a link with the calls that wait for their answer, and a watch on its heartbeats
//! ```

mod api;
mod open;
mod over_grpc;
mod over_http;
mod session;

use tokio::sync::mpsc;

pub(crate) use api::{Api, Connecting, Heard, Outcome, Pulse, Requests};
pub(crate) use open::{Finder, Opened};
pub(crate) use session::{Command, Session, Step};

use crate::error::ConnectError;

/// Calls on their way to the wire; flow control holds back the rest.
const OUTGOING_QUEUE: usize = 64;

/// Sequence number of SUBSCRIBE; later calls count on from it.
const FIRST_SEQUENCE: u64 = 1;

/// A call with its sequence number, which comes back in the answer.
type Numbered<A> = (u64, <A as Api>::Call);

/// One connection with a standing subscription.
pub(crate) struct Link<A: Api> {
    outgoing: mpsc::Sender<Numbered<A>>,
    incoming: Incoming<A>,
}

enum Incoming<A: Api> {
    Grpc(over_grpc::Incoming<A>),
    Http(Box<over_http::Incoming<A>>),
}

impl<A: Api> Incoming<A> {
    /// What comes next. `pending` calls still wait for their answer. Cancel-safe.
    async fn next(&mut self, pending: usize) -> Result<Heard<A>, Broken> {
        match self {
            Incoming::Grpc(incoming) => incoming.next().await,
            Incoming::Http(incoming) => incoming.next(pending).await,
        }
    }
}

/// How a link came to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Another attempt may do better.
    Lost(String),
    /// No other attempt will.
    For(ConnectError),
}
