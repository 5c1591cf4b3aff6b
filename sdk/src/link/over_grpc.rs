//! The link over gRPC: one stream each way.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::api::Requests;
use super::open::OpenError;
use super::{Api, Broken, FIRST_SEQUENCE, Heard, Link, OUTGOING_QUEUE};
use crate::address;
use crate::endpoint::Target;
use crate::error::ConnectError;

/// Where a server that does not lead says who does, as HTTP says it in a redirect.
const LOCATION: &str = "location";

pub(super) struct Incoming<A: Api>(Streaming<A::Response>);

/// Connects and sends SUBSCRIBE.
pub(super) async fn open<A: Api>(
    target: &Target,
    subscribe: A::Call,
) -> Result<Link<A>, OpenError> {
    let channel = target.connect().await.map_err(OpenError::Failed)?;
    let (outgoing, queue) = mpsc::channel(OUTGOING_QUEUE);
    // Cannot fail: the queue is new, so it has room and a receiver.
    let _ = outgoing.try_send((FIRST_SEQUENCE, subscribe));
    let requests = Requests(ReceiverStream::new(queue));
    let incoming = A::connect(channel, requests).await;
    let incoming = incoming.map_err(|status| refusal(target, &status))?;
    Ok(Link { outgoing, incoming: super::Incoming::Grpc(Incoming(incoming)) })
}

impl<A: Api> Incoming<A> {
    pub(super) async fn next(&mut self) -> Result<Heard<A>, Broken> {
        loop {
            match self.0.message().await {
                Ok(Some(response)) => {
                    if let Some(heard) = A::heard(response) {
                        return Ok(heard);
                    }
                }
                Ok(None) => {
                    return Err(Broken::Lost(format!("the {} closed the stream", A::SERVER)));
                }
                Err(status) => {
                    let nowhere = Target { server: A::SERVER, address: String::new() };
                    return Err(match refusal(&nowhere, &status) {
                        OpenError::Failed(error) if !error.is_temporary() => Broken::For(error),
                        _ => Broken::Lost(status.message().to_owned()),
                    });
                }
            }
        }
    }
}

/// What a failed stream says about the next attempt.
fn refusal(target: &Target, status: &tonic::Status) -> OpenError {
    let location = status.metadata().get(LOCATION).and_then(|value| value.to_str().ok());
    if let Some(address) = location.and_then(address::of_location) {
        return OpenError::Elsewhere(address);
    }
    let Target { server, address } = target.clone();
    let message = status.message().to_owned();
    let refused = |code| ConnectError::Refused {
        server,
        address: address.clone(),
        code,
        message: message.clone(),
    };
    OpenError::Failed(match status.code() {
        tonic::Code::Unimplemented => ConnectError::Protocol {
            server,
            address,
            problem: "it does not know this gRPC service".to_owned(),
        },
        tonic::Code::InvalidArgument => refused(400),
        tonic::Code::Unauthenticated => refused(401),
        tonic::Code::PermissionDenied => refused(403),
        _ => ConnectError::NotReady { server, address, message },
    })
}
