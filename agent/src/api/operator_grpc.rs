//! The operator API over gRPC: the calls of the HTTP API, and reading files as they grow.

use std::pin::Pin;

use futures::StreamExt;
use futures::stream::Stream;
use http::StatusCode;
use mezzo_proto::v1::agent::operator_server::Operator;
use mezzo_proto::v1::agent::{
    Call, FileChunk, ReadFileRequest, Response as OperatorResponse, StatisticsRequest,
    StatisticsResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Context;
use super::encoding::Refusal;
use super::files::FileError;
use super::operator::invoke;
use super::statistics;

#[derive(Debug)]
pub(super) struct Api {
    context: Context,
}

impl Api {
    pub(super) fn new(context: Context) -> Self {
        Api { context }
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<FileChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Operator for Api {
    async fn invoke(&self, request: Request<Call>) -> Result<Response<OperatorResponse>, Status> {
        invoke(&self.context, request.get_ref()).await.map(Response::new).map_err(refused)
    }

    type ReadFileStream = Chunks;

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let chunks = self.context.files.read(request.into_inner()).await.map_err(failed)?;
        let chunks = ReceiverStream::new(chunks).map(|chunk| chunk.map_err(failed));
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn statistics(
        &self,
        request: Request<StatisticsRequest>,
    ) -> Result<Response<StatisticsResponse>, Status> {
        let answer = statistics::of_tasks(&self.context, request.into_inner()).await;
        answer.map(Response::new).map_err(refused)
    }
}

fn refused(Refusal { code, message }: Refusal) -> Status {
    // Over HTTP a sentence is a line.
    let message = message.trim_end();
    match code {
        StatusCode::BAD_REQUEST => Status::invalid_argument(message),
        StatusCode::NOT_FOUND => Status::not_found(message),
        StatusCode::NOT_IMPLEMENTED => Status::unimplemented(message),
        _ => Status::unknown(message),
    }
}

fn failed(error: FileError) -> Status {
    let message = mezzo_telemetry::chain(&error).to_string();
    match error {
        FileError::Incomplete(_) | FileError::Path { .. } | FileError::Ambiguous { .. } => {
            Status::invalid_argument(message)
        }
        FileError::NoTask { .. } | FileError::NoFile { .. } | FileError::NoSandbox { .. } => {
            Status::not_found(message)
        }
        FileError::Refused { .. } => Status::failed_precondition(message),
        FileError::Read { .. } => Status::internal(message),
    }
}
