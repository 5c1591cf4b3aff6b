//! `POST /api/v1`: the operator API over HTTP, and what both ways to it share.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use mezzo_http_server::answer_body;
use mezzo_master_core::{Answer, Refusal};
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::master::call::Type;
use mezzo_proto::v1::master::response::{self, GetHealth, GetMaster, GetMetrics, GetVersion};
use mezzo_proto::v1::master::{Call, Response as OperatorResponse};
use mezzo_types::{AgentId, FrameworkId};
use prost::Message;

use super::scheduler_http::{Encoding, receive, refuse, unavailable};
use super::{Context, files, reads, reservations};
use crate::handle::Gone;

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
    if let Some(answered) = reads::answer(&context, &call, &parts.headers, accepted).await {
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
    let empty = OperatorResponse::default();
    let mut response = match kind {
        Type::GetHealth => {
            let healthy = context.store.check_room().is_ok();
            OperatorResponse { get_health: Some(GetHealth { healthy }), ..empty }
        }
        Type::GetVersion => OperatorResponse { get_version: Some(version()), ..empty },
        Type::GetMetrics => OperatorResponse {
            get_metrics: Some(GetMetrics { metrics: metrics(context) }),
            ..empty
        },
        Type::GetMaster => OperatorResponse {
            get_master: Some(GetMaster {
                master_info: Some((*context.master_info).clone()),
                start_time: Some(context.start_time),
                elected_time: Some(context.elected_time),
            }),
            ..empty
        },
        Type::Teardown => {
            let Some(teardown) = call.teardown else {
                return Err(bad("Expecting 'teardown' to be present"));
            };
            let framework = FrameworkId::from(&teardown.framework_id);
            return done(context.handle.teardown(framework).await);
        }
        Type::MarkAgentGone => {
            let Some(mark) = call.mark_agent_gone else {
                return Err(bad("Expecting 'mark_agent_gone' to be present"));
            };
            return done(context.handle.mark_agent_gone(AgentId::from(&mark.agent_id)).await);
        }
        Type::ReserveResources
        | Type::UnreserveResources
        | Type::CreateVolumes
        | Type::DestroyVolumes
        | Type::GrowVolume
        | Type::ShrinkVolume => {
            let (agent, operation) = reservations::operation_of(call)?;
            return done(context.handle.operate(AgentId::from(&agent), operation, None).await);
        }
        Type::Unknown => {
            return Err(match call.r#type {
                None => bad("Expecting 'type' to be present"),
                Some(_) => {
                    CallError { code: 501, message: format!("call type {number} is unknown") }
                }
            });
        }
        other => {
            return Err(CallError {
                code: 501,
                message: format!(
                    "call {} is not answered by this version of Mezzo",
                    other.as_str_name()
                ),
            });
        }
    };
    response.r#type = response::Type::from_str_name(kind.as_str_name()).map(|t| t as i32);
    Ok(Some(response))
}

/// The outcome of an order that has no answer but that it was carried out.
fn done(
    result: Result<Result<Answer, Refusal>, Gone>,
) -> Result<Option<OperatorResponse>, CallError> {
    match result {
        Ok(Ok(_)) => Ok(None),
        Ok(Err(refusal)) => {
            Err(CallError { code: refusal.http_code(), message: refusal.to_string() })
        }
        Err(gone) => Err(CallError { code: 503, message: gone.to_string() }),
    }
}

fn bad(message: &str) -> CallError {
    CallError { code: 400, message: message.to_owned() }
}

fn version() -> GetVersion {
    GetVersion {
        version_info: v1::VersionInfo { version: MESOS_VERSION.to_owned(), ..Default::default() },
    }
}

fn metrics(context: &Context) -> Vec<v1::Metric> {
    context
        .metrics
        .snapshot()
        .into_iter()
        .map(|(name, value)| v1::Metric { name, value: Some(value) })
        .collect()
}
