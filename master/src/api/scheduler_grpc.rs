//! The scheduler API over gRPC: the same calls, on one stream, each with an answer.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use mezzo_http_server::{Budget, Charge};
use mezzo_master_core::{Answer, Refusal, StreamId};
use mezzo_proto::v1::scheduler::connect_response::Message as Outgoing;
use mezzo_proto::v1::scheduler::{Call, CallResult, ConnectResponse, call};
use mezzo_proto::{DecodeError, decoded_size, raw};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};

use super::Context;
use crate::handle::{Begun, Gone, Subscription};

/// Calls of one client that may be under way, or answered and the answer not read; beyond that its next
/// call is not read.
const CALLS_MAX: usize = 256;
/// Memory in KiB of one client's calls that are under way: with hundreds of clients it stays below what all requests
/// may take, so that who is eager waits and nobody is refused. A larger call is alone.
const CALLS_KIB: u32 = 2048;

#[derive(Debug, Clone)]
pub(crate) struct Api {
    context: Context,
}

impl Api {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

pub(crate) type Responses = Pin<Box<dyn Stream<Item = Result<ConnectResponse, Status>> + Send>>;

impl Api {
    /// Opens a stream: events and answers one way, encoded `ConnectRequest`s the other.
    pub(crate) async fn connect(
        &self,
        mut calls: Streaming<Bytes>,
    ) -> Result<Response<Responses>, Status> {
        let Some(first) = calls.message().await? else {
            return Err(Status::invalid_argument("the stream ended before SUBSCRIBE"));
        };
        let Received { seq, call, .. } = measure(&first)?.decode(&self.context.budget)?;
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
        let (results, receiver) = mpsc::channel(CALLS_MAX / 2);
        let taken = CallResult { seq, code: 200, message: String::new() };
        let taken = results.try_send(Pending::Known(taken));
        taken.map_err(|error| Status::internal(error.to_string()))?;
        let (ended, over) = oneshot::channel();
        tokio::spawn(read_calls(calls, self.clone(), stream, over, results));
        Ok(Response::new(responses(subscription, ended, receiver)))
    }
}

/// What becomes of a call.
enum Pending {
    Known(CallResult),
    /// It has its place among all calls; the answer comes when it was carried out.
    Begun {
        seq: u64,
        begun: Begun,
        held: (Charge, OwnedSemaphorePermit),
    },
}

impl Pending {
    /// `None`: the master ends, and the stream with it.
    async fn result(self) -> Option<CallResult> {
        match self {
            Pending::Known(result) => Some(result),
            Pending::Begun { seq, begun, held } => {
                let result = begun.answer().await.ok()?;
                drop(held);
                Some(to_result(seq, result))
            }
        }
    }
}

/// Events and answers on one stream, which ends when the events have ended and every call that was
/// read has been answered.
fn responses(
    subscription: Subscription,
    ended: oneshot::Sender<()>,
    results: mpsc::Receiver<Pending>,
) -> Responses {
    let state = (subscription, ended);
    let events = futures::stream::unfold(state, |(mut subscription, ended)| async move {
        let event = subscription.events.recv().await?;
        Some((Outgoing::Event(event), (subscription, ended)))
    });
    // Each as soon as it is known: a call that is held back, by a rate limit say, holds no other's answer up.
    let results = ReceiverStream::new(results)
        .map(Pending::result)
        .buffer_unordered(CALLS_MAX / 2)
        .filter_map(|result| std::future::ready(result.map(Outgoing::Result)));
    let merged = futures::stream::select(events, results)
        .map(|message| Ok(ConnectResponse { message: Some(message) }));
    Box::pin(merged)
}

/// Reads calls until the client closes its half, or the subscription has `ended`, which drops the
/// other end. The answer stream stays open: a client that only listens is fine.
async fn read_calls(
    mut calls: Streaming<Bytes>,
    api: Api,
    stream: StreamId,
    mut ended: oneshot::Receiver<()>,
    results: mpsc::Sender<Pending>,
) {
    let room = Arc::new(Semaphore::new(CALLS_KIB as usize));
    loop {
        // Both arms may be dropped half-way: a message that was read in part stays in the decoder.
        let request = tokio::select! {
            biased;
            request = calls.message() => request,
            _ = &mut ended => return,
        };
        let Ok(Some(request)) = request else { break };
        let received = async {
            let measured = measure(&request)?;
            // Never closed.
            let room = Arc::clone(&room).acquire_many_owned(measured.kib()).await;
            let room = room.map_err(|error| Status::internal(error.to_string()))?;
            Ok((measured.decode(&api.context.budget)?, room))
        };
        let (Received { seq, call, task_infos, charge }, room_taken) = match received.await {
            Ok(received) => received,
            // The frames are whole, so what follows can still be understood.
            Err(status) => {
                if results.send(Pending::Known(refused(&request, &status))).await.is_err() {
                    return;
                }
                continue;
            }
        };
        if let Err(error) = mezzo_master_core::validation::scheduler_call(&call) {
            let message = format!("Failed to validate scheduler::Call: {error}");
            let refused = Pending::Known(CallResult { seq, code: 400, message });
            if results.send(refused).await.is_err() {
                return;
            }
            continue;
        }
        let begun = api.context.handle.begin_call(Some(stream), call, task_infos).await;
        let Ok(begun) = begun else { return };
        let held = (charge, room_taken);
        if results.send(Pending::Begun { seq, begun, held }).await.is_err() {
            return;
        }
    }
}

/// A call as it came.
struct Received {
    seq: u64,
    call: Call,
    task_infos: Vec<Bytes>,
    /// Counts the memory of the call while it is carried out.
    charge: Charge,
}

/// A call that was looked at, not decoded yet.
struct Measured {
    seq: u64,
    bytes: Bytes,
    /// Memory of the decoded call, in bytes.
    size: usize,
}

/// The same checks, in the same words, as over HTTP.
fn measure(request: &Bytes) -> Result<Measured, Status> {
    let (seq, bytes) = raw::connect_request(request).map_err(bad)?;
    let size = decoded_size::<Call>(&bytes).map_err(bad)?;
    Ok(Measured { seq, bytes, size })
}

impl Measured {
    fn kib(&self) -> u32 {
        u32::try_from(self.size / 1024 + 1).unwrap_or(u32::MAX).min(CALLS_KIB)
    }

    fn decode(self, budget: &Budget) -> Result<Received, Status> {
        let Measured { seq, bytes, size } = self;
        let busy = |busy: mezzo_http_server::Busy| Status::resource_exhausted(busy.to_string());
        let charge = budget.charge(size).map_err(busy)?;
        let call = Call::decode(bytes.clone()).map_err(|error| bad(error.into()))?;
        let task_infos = raw::task_infos(&bytes).map_err(bad)?;
        Ok(Received { seq, call, task_infos, charge })
    }
}

fn bad(error: DecodeError) -> Status {
    Status::invalid_argument(format!("Failed to parse body into scheduler::Call: {error}"))
}

/// The answer to a call that could not be decoded, as HTTP has it.
fn refused(request: &Bytes, status: &Status) -> CallResult {
    let seq = raw::connect_request(request).map_or(0, |(seq, _)| seq);
    let code = match status.code() {
        Code::InvalidArgument => 400,
        _ => 503,
    };
    CallResult { seq, code, message: status.message().to_owned() }
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
