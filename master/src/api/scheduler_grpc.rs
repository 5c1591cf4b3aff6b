//! The scheduler API over gRPC: the same calls, on one stream, each with an answer.

use std::pin::Pin;

use futures::stream::{Stream, StreamExt};
use mezzo_master_core::{Answer, Refusal, StreamId};
use mezzo_proto::v1::scheduler::connect_response::Message as Outgoing;
use mezzo_proto::v1::scheduler::scheduler_server::Scheduler;
use mezzo_proto::v1::scheduler::{CallResult, ConnectRequest, ConnectResponse, call};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use crate::handle::{Gone, Handle, Subscription};

/// Answers that may wait for the client; beyond that its next call is not read.
const RESULT_QUEUE: usize = 256;

#[derive(Debug)]
pub(crate) struct Api {
    context: Context,
}

impl Api {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<ConnectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Scheduler for Api {
    type ConnectStream = Responses;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let mut calls = request.into_inner();
        let Some(first) = calls.message().await? else {
            return Err(Status::invalid_argument("the stream ended before SUBSCRIBE"));
        };
        let seq = first.seq;
        let call = first.call.unwrap_or_default();
        if call.r#type != Some(call::Type::Subscribe as i32) {
            return Err(Status::failed_precondition("the first call must be SUBSCRIBE"));
        }
        mezzo_master_core::validation::scheduler_call(&call).map_err(|error| {
            Status::invalid_argument(format!("Failed to validate scheduler::Call: {error}"))
        })?;
        let shortage = self.context.may_subscribe(&call);
        shortage.map_err(|shortage| Status::unavailable(shortage.to_string()))?;
        let handle = &self.context.handle;
        let subscription = handle.subscribe(call, None).await.map_err(unavailable)?;
        let stream = subscription.stream;
        let (results, receiver) = mpsc::channel(RESULT_QUEUE);
        let taken = CallResult { seq, code: 200, message: String::new() };
        results.try_send(taken).map_err(|error| Status::internal(error.to_string()))?;
        let (ended, over) = oneshot::channel();
        tokio::spawn(read_calls(calls, handle.clone(), stream, over, results));
        Ok(Response::new(responses(subscription, ended, receiver)))
    }
}

/// Events and answers on one stream, which ends when the events have ended and every call that was
/// read has been answered.
fn responses(
    subscription: Subscription,
    ended: oneshot::Sender<()>,
    results: mpsc::Receiver<CallResult>,
) -> Responses {
    let state = (subscription, ended);
    let events = futures::stream::unfold(state, |(mut subscription, ended)| async move {
        let event = subscription.events.recv().await?;
        Some((Outgoing::Event(event), (subscription, ended)))
    });
    let results = ReceiverStream::new(results).map(Outgoing::Result);
    let merged = futures::stream::select(events, results)
        .map(|message| Ok(ConnectResponse { message: Some(message) }));
    Box::pin(merged)
}

/// Reads calls until the client closes its half, or the subscription has `ended`, which drops the
/// other end. The answer stream stays open: a client that only listens is fine.
async fn read_calls(
    mut calls: Streaming<ConnectRequest>,
    handle: Handle,
    stream: StreamId,
    mut ended: oneshot::Receiver<()>,
    results: mpsc::Sender<CallResult>,
) {
    loop {
        // Both arms may be dropped half-way: a message that was read in part stays in the decoder.
        let request = tokio::select! {
            biased;
            request = calls.message() => request,
            _ = &mut ended => return,
        };
        let Ok(Some(request)) = request else { break };
        let seq = request.seq;
        let call = request.call.unwrap_or_default();
        let Ok(result) = handle.call(Some(stream), call, Vec::new()).await else { return };
        if results.send(to_result(seq, result)).await.is_err() {
            return;
        }
    }
}

fn to_result(seq: u64, result: Result<Answer, Refusal>) -> CallResult {
    match result {
        Ok(Answer::Done) => CallResult { seq, code: 200, message: String::new() },
        Ok(_) => CallResult { seq, code: 202, message: String::new() },
        Err(refusal) => {
            CallResult { seq, code: u32::from(refusal.http_code()), message: refusal.to_string() }
        }
    }
}

pub(crate) fn unavailable(gone: Gone) -> Status {
    Status::unavailable(gone.to_string())
}
