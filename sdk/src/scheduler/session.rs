//! One connection with a standing subscription, from SUBSCRIBE to the end of the stream.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::endpoint::{MAX_MESSAGE_BYTES, Target};
use crate::error::ConnectError;
use crate::scheduler::event::{Event, Heard};
use crate::v1;
use crate::v1::scheduler::call::Subscribe;
use crate::v1::scheduler::connect_response::Message;
use crate::v1::scheduler::scheduler_client::SchedulerClient;
use crate::v1::scheduler::{Call, ConnectRequest, ConnectResponse, call};

/// Calls on their way into the HTTP/2 stream; flow control holds back the rest.
const OUTGOING_QUEUE: usize = 64;

/// A master answers a subscription when its log has committed it.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sequence number of SUBSCRIBE; later calls count on from it.
pub(crate) const FIRST_SEQUENCE: u64 = 1;

pub(crate) struct Session {
    pub(crate) framework_id: v1::FrameworkId,
    pub(crate) subscribed: Event,
    pub(crate) outgoing: mpsc::Sender<ConnectRequest>,
    pub(crate) incoming: Streaming<ConnectResponse>,
}

/// Connects, subscribes and waits for SUBSCRIBED.
pub(crate) async fn open(target: &Target, subscribe: &Subscribe) -> Result<Session, ConnectError> {
    let channel = target.connect().await?;
    match timeout(SUBSCRIBE_TIMEOUT, subscribe_on(target, channel, subscribe)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError::NotReady {
            address: target.address.clone(),
            message: format!("no answer within {} s", SUBSCRIBE_TIMEOUT.as_secs()),
        }),
    }
}

async fn subscribe_on(
    target: &Target,
    channel: tonic::transport::Channel,
    subscribe: &Subscribe,
) -> Result<Session, ConnectError> {
    let mut client = SchedulerClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, queue) = mpsc::channel(OUTGOING_QUEUE);
    let request = ConnectRequest {
        seq: FIRST_SEQUENCE,
        call: Some(Call {
            framework_id: subscribe.framework_info.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(subscribe.clone()),
            ..Default::default()
        }),
    };
    // Cannot fail: the queue is new, so it has room and a receiver.
    let _ = outgoing.try_send(request);
    let mut incoming = client
        .connect(ReceiverStream::new(queue))
        .await
        .map_err(|status| refusal(target, &status))?
        .into_inner();

    loop {
        let response = incoming.message().await.map_err(|status| refusal(target, &status))?;
        let Some(response) = response else {
            return Err(ConnectError::NotReady {
                address: target.address.clone(),
                message: "the stream ended before the answer".to_owned(),
            });
        };
        match response.message {
            Some(Message::Result(result)) if result.seq == FIRST_SEQUENCE => match result.code {
                200..300 => {}
                503 => {
                    return Err(ConnectError::NotReady {
                        address: target.address.clone(),
                        message: result.message,
                    });
                }
                code => {
                    return Err(ConnectError::Refused {
                        address: target.address.clone(),
                        code,
                        message: result.message,
                    });
                }
            },
            Some(Message::Event(event)) => match Heard::from_wire(event) {
                Heard::Event(subscribed) => {
                    let Event::Subscribed { framework_id, .. } = &subscribed else {
                        return Err(ConnectError::Protocol {
                            server: target.server,
                            address: target.address.clone(),
                            problem: "an event came before SUBSCRIBED".to_owned(),
                        });
                    };
                    return Ok(Session {
                        framework_id: framework_id.clone(),
                        subscribed,
                        outgoing,
                        incoming,
                    });
                }
                Heard::Error(message) => {
                    return Err(ConnectError::Refused {
                        address: target.address.clone(),
                        code: 403,
                        message,
                    });
                }
                Heard::Heartbeat | Heard::Unintelligible => {}
            },
            Some(Message::Result(_)) | None => {}
        }
    }
}

/// What a failed stream says about the next attempt.
pub(crate) fn refusal(target: &Target, status: &tonic::Status) -> ConnectError {
    let address = target.address.clone();
    let message = status.message().to_owned();
    match status.code() {
        tonic::Code::Unimplemented => ConnectError::Protocol {
            server: target.server,
            address,
            problem: "it does not know the scheduler service".to_owned(),
        },
        tonic::Code::InvalidArgument => ConnectError::Refused { address, code: 400, message },
        tonic::Code::Unauthenticated => ConnectError::Refused { address, code: 401, message },
        tonic::Code::PermissionDenied => ConnectError::Refused { address, code: 403, message },
        _ => ConnectError::NotReady { address, message },
    }
}
