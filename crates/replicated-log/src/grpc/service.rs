//! Being dialled.

use std::pin::Pin;
use std::time::Duration;

use tokio_stream::Stream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::MESSAGE_BYTES;
use super::hello::{check, hello};
use super::proto::replicated_log_server::{ReplicatedLog, ReplicatedLogServer};
use super::proto::{Hello, Message, StateFrame, StateTaken, message, state_frame};
use crate::error::StateError;
use crate::transport::Inbox;

/// The gRPC service of a log, for a server of the caller's.
pub fn service(inbox: Inbox) -> ReplicatedLogServer<impl ReplicatedLog> {
    ReplicatedLogServer::new(Service { inbox }).max_decoding_message_size(MESSAGE_BYTES)
}

/// Between two frames of a state.
const STATE_PATIENCE: Duration = Duration::from_secs(30);

/// The process lives, its log does not.
const LOG_ENDED: &str = "the log has ended";

struct Service {
    inbox: Inbox,
}

impl Service {
    /// Checks who speaks; what the other side is to hear of this one.
    fn greet(&self, said: Option<Hello>) -> Result<Hello, Status> {
        let said = said.ok_or_else(|| Status::invalid_argument("the first message is no hello"))?;
        if !self.inbox.is_running() {
            return Err(Status::aborted(LOG_ENDED));
        }
        check(&said, self.inbox.node_id(), self.inbox.group()).map_err(|reason| {
            tracing::warn!(from = said.from, reason, "a node was refused");
            Status::failed_precondition(reason)
        })?;
        Ok(hello(&self.inbox, said.from))
    }
}

#[tonic::async_trait]
impl ReplicatedLog for Service {
    type MessagesStream = Pin<Box<dyn Stream<Item = Result<Hello, Status>> + Send>>;

    async fn messages(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Self::MessagesStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?;
        let welcome = self.greet(match first.and_then(|first| first.part) {
            Some(message::Part::Hello(hello)) => Some(hello),
            _ => None,
        })?;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        // There is room for one.
        let _ = sender.try_send(Ok(welcome));
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            // Ends with the caller's stream or with the log; either ends the answer, which tells the caller.
            loop {
                let next = tokio::select! {
                    // Cancel-safe: a stream, and a flag.
                    next = incoming.next() => next,
                    () = inbox.ended() => break,
                };
                let Some(Ok(next)) = next else { break };
                let Some(message::Part::Raft(message)) = next.part else { break };
                if !inbox.message(message.into()) {
                    break;
                }
            }
            drop(sender);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn state(
        &self,
        request: Request<Streaming<StateFrame>>,
    ) -> Result<Response<StateTaken>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?;
        self.greet(match first.and_then(|first| first.part) {
            Some(state_frame::Part::Hello(hello)) => Some(hello),
            _ => None,
        })?;
        let mut state = None;
        loop {
            // A sender that hangs must not keep others from sending theirs.
            let next = tokio::time::timeout(STATE_PATIENCE, incoming.message())
                .await
                .map_err(|_| Status::deadline_exceeded("the state does not go on"))??;
            let Some(next) = next else { break };
            let Some(state_frame::Part::Frame(frame)) = next.part else { break };
            let inbox = self.inbox.clone();
            // Frames are written to a file.
            let added = tokio::task::spawn_blocking(move || match state {
                None => inbox.begin_state(&frame).map(|state| (state, false)),
                Some(state) => add(state, &frame),
            });
            let (begun, is_whole) = added
                .await
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| refusal(&error))?;
            if is_whole {
                return Ok(Response::new(StateTaken {}));
            }
            state = Some(begun);
        }
        Err(Status::invalid_argument("the state ended before its end"))
    }
}

fn add(
    mut state: crate::transport::StateInbox,
    frame: &[u8],
) -> Result<(crate::transport::StateInbox, bool), StateError> {
    let is_whole = state.add(frame)?;
    Ok((state, is_whole))
}

fn refusal(error: &StateError) -> Status {
    tracing::warn!(error = %error, source = ?std::error::Error::source(error), "a state was not taken");
    Status::failed_precondition(error.to_string())
}
