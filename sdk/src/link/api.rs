//! What the scheduler API and the executor API differ in.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mezzo_proto::json::JsonMessage;
use prost::Message;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::Numbered;
use crate::error::ServerKind;

/// Requests on their way into a gRPC stream.
pub(crate) struct Requests<A: Api>(pub(super) ReceiverStream<Numbered<A>>);

impl<A: Api> Stream for Requests<A> {
    type Item = A::Request;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<A::Request>> {
        let next = ready!(Pin::new(&mut self.0).poll_next(context));
        Poll::Ready(next.map(|(sequence, call)| A::request(sequence, call)))
    }
}

/// A gRPC stream that is being opened.
pub(crate) type Connecting<A> =
    Pin<Box<dyn Future<Output = Result<Streaming<<A as Api>::Response>, Status>> + Send>>;

/// An API that is a stream of events one way, opened by SUBSCRIBE, and calls the other way.
pub(crate) trait Api: Send + Sync + Sized + 'static {
    const SERVER: ServerKind;
    const HTTP_PATH: &'static str;
    /// Between heartbeats of a server that does not say how often it sends them.
    const HEARTBEAT_INTERVAL: Duration;

    type Call: Message + JsonMessage + Clone + Send + Sync + 'static;
    type Event: Message + JsonMessage + Send + Sync + 'static;
    /// As gRPC wraps them.
    type Request: Send + 'static;
    type Response: Send + 'static;
    /// What the client remembers of a call until it is answered.
    type Note: Send + 'static;

    fn request(sequence: u64, call: Self::Call) -> Self::Request;
    fn heard(response: Self::Response) -> Option<Heard<Self>>;
    fn connect(channel: Channel, requests: Requests<Self>) -> Connecting<Self>;
    fn pulse(event: &Self::Event) -> Pulse;
    fn note(call: &Self::Call) -> Option<Self::Note>;
}

/// What came in.
pub(crate) enum Heard<A: Api> {
    Event(A::Event),
    Outcome(Outcome),
}

/// The answer to a call: a status of the HTTP API, and a sentence if it is a refusal.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sequence: u64,
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// What an event says about heartbeats.
pub(crate) enum Pulse {
    /// How often they are sent; None if nothing is promised.
    Announced(Option<Duration>),
    Beat,
    /// Nothing, but that the stream is alive.
    Alive,
}
