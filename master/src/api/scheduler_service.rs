//! The gRPC service of schedulers as tonic generates it, but for one thing: requests come as bytes.
//! What a task says that this release does not know must reach the agent, and decoding drops it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use mezzo_proto::grpc::CheckedCodec;
use mezzo_proto::v1::scheduler::{ConnectResponse, scheduler_server};
use tonic::codegen::{Body, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};

use super::MAX_MESSAGE_BYTES;
use super::scheduler_grpc::{Api, Responses};

/// The one method of the service.
const CONNECT: &str = "/mezzo.v1.scheduler.Scheduler/Connect";

#[derive(Debug, Clone)]
pub(crate) struct SchedulerService {
    api: Arc<Api>,
}

impl SchedulerService {
    pub(crate) fn new(api: Api) -> Self {
        Self { api: Arc::new(api) }
    }
}

impl NamedService for SchedulerService {
    const NAME: &'static str = scheduler_server::SERVICE_NAME;
}

impl<B> Service<Request<B>> for SchedulerService
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
            let codec = CheckedCodec::<ConnectResponse, Bytes>::default();
            let mut grpc = Grpc::new(codec)
                .apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), Some(usize::MAX));
            Ok(grpc.streaming(connect, request).await)
        }
        .boxed()
    }
}

struct Connect(Arc<Api>);

impl StreamingService<Bytes> for Connect {
    type Response = ConnectResponse;
    type ResponseStream = Responses;
    type Future = BoxFuture<'static, Result<tonic::Response<Responses>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let api = Arc::clone(&self.0);
        async move { api.connect(request.into_inner()).await }.boxed()
    }
}
