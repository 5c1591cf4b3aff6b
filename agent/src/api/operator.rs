//! `POST /api/v1`: the operator API over HTTP, and what both ways to it share.

use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use mezzo_http_server::{answer_body, read_body};
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::agent::call::{SetLoggingLevel, Type};
use mezzo_proto::v1::agent::response::{
    self, GetAgent, GetFlags, GetHealth, GetLoggingLevel, GetMetrics, GetOperations,
    GetResourceProviders, GetState, GetVersion, ListFiles, ReadFile,
};
use mezzo_proto::v1::agent::{Call, Response as OperatorResponse};
use mezzo_telemetry::Verbosity;
use prost::Message;

use super::encoding::{Encoding, Refusal};
use super::{Context, MAX_MESSAGE_BYTES, MESOS_VERSION, statistics};

/// What `/version` says: the Mesos whose API this is, and Mezzo's own version beside it.
pub(super) fn version_json() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!(r#"{{"version":"{MESOS_VERSION}","mezzo_version":"{own}"}}"#)
}

/// Answers one POST.
pub(super) async fn handle(context: Context, request: Request) -> Response {
    answer(context, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(context: Context, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of_body(&parts.headers)?;
    let accepted = Encoding::accepted(&parts.headers)?;
    let read = read_body(&parts.headers, body, MAX_MESSAGE_BYTES, &context.limits, &context.budget);
    let received = read
        .await
        .map_err(|refusal| Refusal { code: refusal.status(), message: refusal.to_string() })?;
    let body = &received.bytes;
    let call: Result<Call, String> = match encoding {
        Encoding::Json => json::from_slice(body).map_err(|error| error.to_string()),
        Encoding::Protobuf => mezzo_proto::decode_checked(body).map_err(|error| error.to_string()),
    };
    let call = call.map_err(|error| {
        Refusal::bad(format!("Failed to parse body into Call protobuf: {error}"))
    })?;
    let response = invoke(&context, &call).await?;
    if response == OperatorResponse::default() {
        return Ok(StatusCode::OK.into_response());
    }
    let body = match accepted {
        Encoding::Json => json::to_vec(&response),
        Encoding::Protobuf => response.encode_to_vec(),
    };
    let body = answer_body(body.into(), &context.budget).map_err(|busy| Refusal {
        code: StatusCode::SERVICE_UNAVAILABLE,
        message: busy.to_string(),
    })?;
    Ok(([(header::CONTENT_TYPE, accepted.mime())], body).into_response())
}

/// Carries out a call.
pub(super) async fn invoke(context: &Context, call: &Call) -> Result<OperatorResponse, Refusal> {
    let number = call.r#type.unwrap_or_default();
    let kind = Type::try_from(number).unwrap_or(Type::Unknown);
    let view = &context.view;
    let mut response = OperatorResponse::default();
    match kind {
        Type::GetHealth => {
            let healthy = context.store.check_room().is_ok();
            response.get_health = Some(GetHealth { healthy });
        }
        Type::GetFlags => {
            response.get_flags = Some(GetFlags { flags: context.flags.clone() });
        }
        Type::GetVersion => {
            let version_info =
                v1::VersionInfo { version: MESOS_VERSION.to_owned(), ..Default::default() };
            response.get_version = Some(GetVersion { version_info });
        }
        Type::GetMetrics => {
            let metric = |(name, value)| v1::Metric { name, value: Some(value) };
            let metrics = context.metrics.snapshot().into_iter().map(metric).collect();
            response.get_metrics = Some(GetMetrics { metrics });
        }
        Type::GetTasks => response.get_tasks = Some(view.tasks()),
        Type::GetExecutors => response.get_executors = Some(view.executors()),
        Type::GetFrameworks => response.get_frameworks = Some(view.frameworks()),
        Type::GetContainers => {
            response.get_containers = Some(statistics::containers(context).await?);
        }
        Type::ListFiles => {
            let asked = call.list_files.as_ref().ok_or_else(|| expected("list_files"))?;
            let file_infos = context.files.list(&asked.path).await?;
            response.list_files = Some(ListFiles { file_infos });
        }
        Type::ReadFile => {
            let asked = call.read_file.as_ref().ok_or_else(|| expected("read_file"))?;
            let (size, data) = context.files.piece(&asked.path, asked.offset, asked.length).await?;
            response.read_file = Some(ReadFile { size, data });
        }
        Type::GetState => {
            response.get_state = Some(GetState {
                get_tasks: Some(view.tasks()),
                get_executors: Some(view.executors()),
                get_frameworks: Some(view.frameworks()),
            });
        }
        Type::GetAgent => {
            let (drain_config, since) = view.drain().unzip();
            response.get_agent = Some(GetAgent {
                agent_info: view.agent(),
                drain_config,
                estimated_drain_start_time: since.map(|nanoseconds| v1::TimeInfo { nanoseconds }),
            });
        }
        Type::GetLoggingLevel => {
            let level = logging_level();
            response.get_logging_level = Some(GetLoggingLevel { level });
        }
        Type::SetLoggingLevel => {
            let order = call.set_logging_level.as_ref();
            set_logging_level(order.ok_or_else(|| expected("set_logging_level"))?)?;
            return Ok(response);
        }
        Type::GetOperations => {
            let operations = view.operations();
            response.get_operations = Some(GetOperations { operations });
        }
        Type::GetResourceProviders => {
            response.get_resource_providers = Some(GetResourceProviders::default());
        }
        Type::Unknown => {
            return Err(match call.r#type {
                None => Refusal::bad("Expecting 'type' to be present".to_owned()),
                Some(_) => unimplemented(format!("call type {number} is unknown")),
            });
        }
        other => {
            let name = other.as_str_name();
            return Err(unimplemented(format!(
                "call {name} is not answered by this version of Mezzo"
            )));
        }
    }
    response.r#type = response::Type::from_str_name(kind.as_str_name()).map(|kind| kind as i32);
    Ok(response)
}

/// What GET_LOGGING_LEVEL tells.
pub(super) fn logging_level() -> u32 {
    Verbosity::of_this_process().map_or(0, |verbosity| verbosity.level())
}

/// SET_LOGGING_LEVEL, for a while.
pub(super) fn set_logging_level(order: &SetLoggingLevel) -> Result<(), Refusal> {
    let nanoseconds = order.duration.nanoseconds;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| {
        Refusal::bad(format!(
            "set_logging_level.duration is {nanoseconds} ns: it must not be negative; afterwards the \
             level is as before"
        ))
    })?;
    let verbosity = Verbosity::of_this_process().ok_or_else(|| {
        unimplemented("this process was started without a log of its own".to_owned())
    })?;
    verbosity.set(order.level, Duration::from_nanos(nanoseconds));
    Ok(())
}

fn expected(part: &str) -> Refusal {
    Refusal::bad(format!("Expecting '{part}' to be present"))
}

fn unimplemented(message: String) -> Refusal {
    Refusal { code: StatusCode::NOT_IMPLEMENTED, message }
}
