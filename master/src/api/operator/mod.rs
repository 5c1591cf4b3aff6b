//! `POST /api/v1`: the operator API over HTTP, and what both ways to it share.
//!
//! | module | calls |
//! |---|---|
//! | `reads` | what is asked of the process; what is asked of the state is `api::reads` |
//! | `decisions` | what operators decided, and the flags |
//! | `orders` | what changes it |
//! | `logging` | how much is logged |

mod decisions;
mod logging;
mod orders;
mod reads;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use mezzo_http_server::answer_body;
use mezzo_proto::json;
use mezzo_proto::v1::master::call::Type;
use mezzo_proto::v1::master::response;
use mezzo_proto::v1::master::{Call, Response as OperatorResponse};
use mezzo_types::AgentId;
use prost::Message;

use super::scheduler_http::{Encoding, receive, refuse, unavailable};
use super::{Context, files, reads as state_reads, reservations};

/// The level of the log: 0 is as the process was started.
pub(super) fn logging_level() -> u32 {
    logging::level().get_logging_level.unwrap_or_default().level
}

/// What `/version` says. Clients of Mesos parse the version and decide by it, so it names the Mesos
/// whose API this is; Mezzo's own stands beside it.
pub(crate) fn version_json() -> serde_json::Value {
    serde_json::json!({
        "version": MESOS_VERSION,
        "mezzo_version": env!("CARGO_PKG_VERSION"),
    })
}

/// The Mesos release whose v1 API is served.
pub(crate) const MESOS_VERSION: &str = "1.11.0";

/// Why an operator call was not answered: an HTTP status and a sentence.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) code: u16,
    pub(crate) message: String,
}

/// Answers one POST.
pub(crate) async fn handle(context: Context, request: Request) -> Response {
    match answer(context, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn answer(context: Context, request: Request) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of_body(&parts.headers)?;
    let accepted = Encoding::accepted(&parts.headers)?;
    let received = receive(&context, &parts.headers, body).await?;
    let call = decode(encoding, &received.bytes).map_err(|error| {
        let message = format!("Failed to parse body into Call protobuf: {error}");
        refuse(StatusCode::BAD_REQUEST, message)
    })?;
    if let Some(answered) = state_reads::answer(&context, &call, &parts.headers, accepted).await {
        return answered;
    }
    // Mesos answers orders that the agent has yet to carry out with 202.
    let done =
        if reservations::is_operation(&call) { StatusCode::ACCEPTED } else { StatusCode::OK };
    match invoke(&context, call).await {
        Ok(Some(response)) => {
            let body = match accepted {
                Encoding::Json => json::to_vec(&response),
                Encoding::Protobuf => response.encode_to_vec(),
            };
            let body =
                answer_body(body.into(), &context.budget).map_err(|busy| unavailable(&busy))?;
            Ok(([(header::CONTENT_TYPE, accepted.mime())], body).into_response())
        }
        Ok(None) => Ok(done.into_response()),
        Err(CallError { code, message }) => {
            Err(refuse(StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST), message))
        }
    }
}

fn decode(encoding: Encoding, body: &Bytes) -> Result<Call, String> {
    match encoding {
        Encoding::Json => json::from_slice(body).map_err(|error| error.to_string()),
        Encoding::Protobuf => mezzo_proto::decode_checked(body).map_err(|error| error.to_string()),
    }
}

/// Carries out a call; `None` is success with nothing to say.
pub(crate) async fn invoke(
    context: &Context,
    call: Call,
) -> Result<Option<OperatorResponse>, CallError> {
    if let Some(refusal) = files::refusal(&call) {
        return Err(refusal);
    }
    let number = call.r#type.unwrap_or_default();
    let kind = Type::try_from(number).unwrap_or(Type::Unknown);
    let mut response = match kind {
        Type::GetHealth | Type::GetVersion | Type::GetMetrics | Type::GetMaster => {
            reads::answer(context, kind)?
        }
        Type::GetWeights
        | Type::GetQuota
        | Type::GetMaintenanceSchedule
        | Type::GetMaintenanceStatus
        | Type::GetFlags => decisions::answer(context, kind)?,
        Type::GetLoggingLevel => logging::level(),
        Type::SetLoggingLevel => {
            let order = call.set_logging_level.ok_or_else(|| missing("set_logging_level"))?;
            logging::set_level(&order)?;
            return Ok(None);
        }
        #[expect(deprecated, reason = "old clients set quotas so")]
        Type::Teardown
        | Type::MarkAgentGone
        | Type::UpdateWeights
        | Type::UpdateQuota
        | Type::SetQuota
        | Type::RemoveQuota
        | Type::UpdateMaintenanceSchedule
        | Type::StartMaintenance
        | Type::StopMaintenance
        | Type::DrainAgent
        | Type::DeactivateAgent
        | Type::ReactivateAgent => {
            orders::carry_out(context, kind, call).await?;
            return Ok(None);
        }
        Type::ReserveResources
        | Type::UnreserveResources
        | Type::CreateVolumes
        | Type::DestroyVolumes
        | Type::GrowVolume
        | Type::ShrinkVolume => {
            let (agent, operation) = reservations::operation_of(call)?;
            orders::done(context.handle.operate(AgentId::from(&agent), operation, None).await)?;
            return Ok(None);
        }
        Type::Unknown => {
            return Err(match call.r#type {
                None => missing("type"),
                Some(_) => {
                    CallError { code: 501, message: format!("call type {number} is unknown") }
                }
            });
        }
        other => return Err(not_answered(other)),
    };
    response.r#type = response::Type::from_str_name(kind.as_str_name()).map(|t| t as i32);
    Ok(Some(response))
}

fn missing(field: &str) -> CallError {
    CallError { code: 400, message: format!("Expecting '{field}' to be present") }
}

fn not_answered(kind: Type) -> CallError {
    let message = format!("call {} is not answered by this version of Mezzo", kind.as_str_name());
    CallError { code: 501, message }
}
