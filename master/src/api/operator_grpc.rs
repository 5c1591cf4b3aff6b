//! The operator API over gRPC: the calls of the HTTP API, and what Mesos lacks.

use mezzo_master_core::Answer;
use mezzo_proto::v1::master::operator_server::Operator;
use mezzo_proto::v1::master::{
    Call, Event, KillTaskRequest, KillTaskResponse, Response as OperatorResponse, SubscribeRequest,
};
use mezzo_types::{FrameworkId, TaskId};
use tonic::{Request, Response, Status};

use super::Context;
use super::operator::invoke;
use super::scheduler_grpc::unavailable;

#[derive(Debug, Clone)]
pub(crate) struct Api {
    context: Context,
}

impl Api {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Operator for Api {
    async fn invoke(&self, request: Request<Call>) -> Result<Response<OperatorResponse>, Status> {
        let response = invoke(&self.context, request.into_inner())
            .await
            .map_err(|error| status(error.code, error.message))?;
        Ok(Response::new(response.unwrap_or_default()))
    }

    type SubscribeStream = futures::stream::Empty<Result<Event, Status>>;

    /// [`OperatorService`](super::operator_service::OperatorService) answers it, and `Invoke`.
    async fn subscribe(
        &self,
        _: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::internal("SUBSCRIBE came the wrong way"))
    }

    async fn kill_task(
        &self,
        request: Request<KillTaskRequest>,
    ) -> Result<Response<KillTaskResponse>, Status> {
        let request = request.into_inner();
        let task = request
            .task_id
            .ok_or_else(|| Status::invalid_argument("task_id is missing: name the task to kill"))?;
        let framework = request.framework_id.as_ref().map(FrameworkId::from);
        let result = self
            .context
            .handle
            .kill_task(framework, TaskId::from(&task), request.kill_policy)
            .await
            .map_err(unavailable)?;
        match result {
            Ok(Answer::Killing { framework, agent }) => Ok(Response::new(KillTaskResponse {
                framework_id: Some((&framework).into()),
                agent_id: Some((&agent).into()),
            })),
            Ok(Answer::Accepted | Answer::Done) => Ok(Response::new(KillTaskResponse::default())),
            Err(refusal) => Err(status(refusal.http_code(), refusal.to_string())),
        }
    }
}

/// An HTTP code as gRPC says it.
pub(crate) fn status(code: u16, message: String) -> Status {
    match code {
        400 => Status::invalid_argument(message),
        403 => Status::permission_denied(message),
        404 => Status::not_found(message),
        409 => Status::failed_precondition(message),
        501 => Status::unimplemented(message),
        503 => Status::unavailable(message),
        _ => Status::unknown(message),
    }
}
