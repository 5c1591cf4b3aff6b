//! The executor API over gRPC: the same calls, on one stream, each with an answer.

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use mezzo_agent_core::{ExecutorAnswer, ExecutorRefusal, validate_call};
use mezzo_proto::v1::executor::{Call, CallResult, ConnectRequest, call};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::encoding::Encoding;
use super::{Context, executor};

/// Answers that may wait for the executor; beyond that its next call is not read.
const RESULTS_MAX: usize = 256;

// Field numbers of `executor::ConnectResponse`.
const RESPONSE_EVENT: u32 = 1;
const RESPONSE_RESULT: u32 = 2;

#[derive(Clone, Debug)]
pub(super) struct Api {
    context: Context,
}

/// Encoded `ConnectResponse`s.
pub(super) type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Api {
    pub(super) fn new(context: Context) -> Self {
        Api { context }
    }

    /// Opens a stream: events and answers one way, calls the other.
    pub(super) async fn connect(
        &self,
        mut calls: Streaming<ConnectRequest>,
    ) -> Result<Response<Responses>, Status> {
        let Some(first) = calls.message().await? else {
            return Err(Status::invalid_argument("the stream ended before SUBSCRIBE"));
        };
        let call = first.call.unwrap_or_default();
        if call.r#type != Some(call::Type::Subscribe as i32) {
            return Err(Status::failed_precondition("the first call must be SUBSCRIBE"));
        }
        validate_call(&call).map_err(|error| {
            Status::invalid_argument(format!("Failed to validate Executor::Call: {error}"))
        })?;
        let subscribed = self.context.executors.subscribe(call).await;
        let subscription = subscribed
            .map_err(|gone| Status::unavailable(gone.to_string()))?
            .map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        let (results, receiver) = mpsc::channel(RESULTS_MAX);
        let taken = CallResult { seq: first.seq, code: 200, message: String::new() };
        results.try_send(taken).map_err(|error| Status::internal(error.to_string()))?;
        // Dropped with the events: calls are read no longer than the subscription lasts.
        let (ended, over) = oneshot::channel::<()>();
        tokio::spawn(read_calls(calls, self.clone(), over, results));
        let events = executor::events(subscription).map(move |event| {
            let _held = &ended;
            executor::field(RESPONSE_EVENT, &executor::encode(&event, Encoding::Protobuf))
        });
        let results = ReceiverStream::new(receiver).map(|result| {
            let mut bytes = BytesMut::new();
            bytes.put(executor::field(RESPONSE_RESULT, &result.encode_to_vec()));
            bytes.freeze()
        });
        Ok(Response::new(Box::pin(futures::stream::select(events, results).map(Ok))))
    }

    async fn carry_out(&self, call: Call) -> (u32, String) {
        if call.r#type == Some(call::Type::Subscribe as i32) {
            return (400, "SUBSCRIBE is the first call of a stream".to_owned());
        }
        if let Err(error) = validate_call(&call) {
            return (400, format!("Failed to validate Executor::Call: {error}"));
        }
        match self.context.executors.call(call).await {
            Ok(Ok(ExecutorAnswer::Accepted | ExecutorAnswer::Subscribed)) => (202, String::new()),
            Ok(Err(refusal)) => code_of(&refusal),
            Err(gone) => (503, gone.to_string()),
        }
    }
}

fn code_of(refusal: &ExecutorRefusal) -> (u32, String) {
    (u32::from(refusal.http_code()), refusal.to_string())
}

/// Reads calls until the executor closes its half, or the subscription has ended, which drops the other end of `over`.
/// The events go on: an executor that only listens is fine.
async fn read_calls(
    mut calls: Streaming<ConnectRequest>,
    api: Api,
    mut over: oneshot::Receiver<()>,
    results: mpsc::Sender<CallResult>,
) {
    loop {
        // Both arms may be dropped half-way: a message that was read in part stays in the decoder.
        let request = tokio::select! {
            biased;
            request = calls.message() => request,
            _ = &mut over => return,
        };
        let Ok(Some(ConnectRequest { seq, call })) = request else { return };
        let (code, message) = api.carry_out(call.unwrap_or_default()).await;
        if results.send(CallResult { seq, code, message }).await.is_err() {
            return;
        }
    }
}
