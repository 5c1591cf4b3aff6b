//! The gRPC service of operators as tonic generates it, but for two methods: answers that are large, and events that
//! many listen to, are passed on as they were encoded, not made anew for each caller.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::Stream;
use http::{Request, Response};
use mezzo_proto::grpc::CheckedCodec;
use mezzo_proto::v1::master::operator_server::{self, OperatorServer};
use mezzo_proto::v1::master::{Call, SubscribeRequest};
use prost::Message;
use prost::encoding::{DecodeContext, WireType};
use tonic::codegen::{Body, Service, StdError};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Status};

use super::operator::invoke;
use super::operator_grpc::{Api, status};
use super::reads;
use super::scheduler_http::Encoding;
use super::{Context, MAX_MESSAGE_BYTES};
use crate::view::{Cut, Watch};

const INVOKE: &str = "/mezzo.v1.master.Operator/Invoke";
const SUBSCRIBE: &str = "/mezzo.v1.master.Operator/Subscribe";

/// A message that is encoded already.
#[derive(Debug, Default, Clone)]
struct Encoded(Vec<Bytes>);

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        for part in &self.0 {
            buffer.put_slice(part);
        }
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        // It is only ever sent.
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[derive(Debug, Clone)]
pub(crate) struct OperatorService {
    context: Context,
    others: OperatorServer<Api>,
}

impl OperatorService {
    pub(crate) fn new(context: Context) -> Self {
        let others = OperatorServer::new(Api::new(context.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        Self { context, others }
    }
}

impl NamedService for OperatorService {
    const NAME: &'static str = operator_server::SERVICE_NAME;
}

impl<B> Service<Request<B>> for OperatorService
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = self.context.clone();
        match request.uri().path() {
            INVOKE => async move {
                let codec = CheckedCodec::<Encoded, Call>::default();
                let mut grpc = Grpc::new(codec)
                    .apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), Some(usize::MAX));
                Ok(grpc.unary(Invoke(context), request).await)
            }
            .boxed(),
            SUBSCRIBE => async move {
                let codec = CheckedCodec::<Encoded, SubscribeRequest>::default();
                let mut grpc = Grpc::new(codec)
                    .apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), Some(usize::MAX));
                Ok(grpc.server_streaming(Subscribe(context), request).await)
            }
            .boxed(),
            _ => self.others.call(request),
        }
    }
}

struct Invoke(Context);

impl UnaryService<Call> for Invoke {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<tonic::Response<Encoded>, Status>>;

    fn call(&mut self, request: tonic::Request<Call>) -> Self::Future {
        let context = self.0.clone();
        async move {
            let call = request.into_inner();
            if let Some(read) = reads::read_of(&call) {
                let make = move |view: &crate::view::View| {
                    reads::snapshot(view, read).response(read, Encoding::Protobuf)
                };
                let answer = context.readers.make(make).await.map_err(failed)?;
                return Ok(tonic::Response::new(Encoded(answer.parts)));
            }
            let response = invoke(&context, call)
                .await
                .map_err(|error| status(error.code, error.message))?
                .unwrap_or_default();
            Ok(tonic::Response::new(Encoded(vec![response.encode_to_vec().into()])))
        }
        .boxed()
    }
}

fn failed(_: axum::response::Response) -> Status {
    Status::internal("the answer could not be made; the master's log says why")
}

struct Subscribe(Context);

type Events = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

impl ServerStreamingService<SubscribeRequest> for Subscribe {
    type Response = Encoded;
    type ResponseStream = Events;
    type Future = BoxFuture<'static, Result<tonic::Response<Events>, Status>>;

    fn call(&mut self, _: tonic::Request<SubscribeRequest>) -> Self::Future {
        let context = self.0.clone();
        async move {
            let made = context.readers.make(|view| {
                let mut watch = view.watch(Encoding::Protobuf);
                let first = watch.subscribed_message();
                (watch, first)
            });
            let (watch, first) = made.await.map_err(failed)?;
            let state = (Some(watch), vec![Encoded(first.parts)].into_iter());
            let events = futures::stream::unfold(state, |(watch, mut waiting)| async move {
                // After the end there is no watch any more.
                let mut watch = watch?;
                loop {
                    if let Some(event) = waiting.next() {
                        return Some((Ok(event), (Some(watch), waiting)));
                    }
                    match next(&mut watch).await {
                        Ok(events) => waiting = events.into_iter(),
                        Err(cut) => return Some((Err(ended(&watch, &cut)), (None, waiting))),
                    }
                }
            });
            Ok(tonic::Response::new(Box::pin(events) as Events))
        }
        .boxed()
    }
}

async fn next(watch: &mut Watch) -> Result<Vec<Encoded>, Cut> {
    let events = watch.messages().await?;
    Ok(events.into_iter().map(|event| Encoded(vec![event])).collect())
}

fn ended(watch: &Watch, cut: &Cut) -> Status {
    tracing::info!(subscriber = watch.id, reason = %cut, "closing a stream of operator events");
    let code = match cut {
        Cut::Slow { .. } | Cut::Oldest => Code::ResourceExhausted,
        Cut::Ended => Code::Unavailable,
    };
    Status::new(code, cut.to_string())
}
