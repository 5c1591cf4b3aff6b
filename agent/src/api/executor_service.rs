//! The gRPC service of executors as tonic generates it, but for one thing: answers go as bytes. What a task says that
//! this release does not know must reach the executor, and encoding a decoded task drops it.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use mezzo_proto::grpc::CheckedCodec;
use mezzo_proto::v1::executor::{ConnectRequest, executor_server};
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::codegen::{Body, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};

use super::MAX_EXECUTOR_BYTES;
use super::executor_grpc::{Api, Responses};

/// The one method of the service.
const CONNECT: &str = "/mezzo.v1.executor.Executor/Connect";

#[derive(Clone, Debug)]
pub(super) struct ExecutorService {
    api: Arc<Api>,
}

impl ExecutorService {
    pub(super) fn new(api: Api) -> Self {
        ExecutorService { api: Arc::new(api) }
    }
}

impl NamedService for ExecutorService {
    const NAME: &'static str = executor_server::SERVICE_NAME;
}

impl<B> Service<Request<B>> for ExecutorService
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let connect = Connect(Arc::clone(&self.api));
        async move {
            if request.uri().path() != CONNECT {
                let message = format!("there is no method '{}'", request.uri().path());
                return Ok(Status::unimplemented(message).into_http());
            }
            let mut grpc = Grpc::new(EncodedCodec::default())
                .apply_max_message_size_config(Some(MAX_EXECUTOR_BYTES), Some(usize::MAX));
            Ok(grpc.streaming(connect, request).await)
        }
        .boxed()
    }
}

struct Connect(Arc<Api>);

impl StreamingService<ConnectRequest> for Connect {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = BoxFuture<'static, Result<tonic::Response<Responses>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<ConnectRequest>>) -> Self::Future {
        let api = Arc::clone(&self.0);
        async move { api.connect(request.into_inner()).await }.boxed()
    }
}

/// Takes checked messages and gives messages that are encoded already.
#[derive(Clone, Debug, Default)]
struct EncodedCodec(PhantomData<Bytes>);

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = ConnectRequest;
    type Encoder = EncodedCodec;
    type Decoder = CheckedCodec<ConnectRequest, ConnectRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        EncodedCodec::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CheckedCodec::default()
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
