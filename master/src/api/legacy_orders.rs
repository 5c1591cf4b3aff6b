//! The endpoints of Mesos before its v1 API that operators' tools post to: they say in other words
//! what calls of the operator API say, and go the same way.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use mezzo_proto::json::{self, JsonMessage};
use mezzo_proto::v1;
use mezzo_proto::v1::maintenance::Schedule;
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::{self, Type};
use mezzo_proto::v1::quota::QuotaRequest;

use super::endpoints::json_or_script;
use super::operator::{CallError, invoke};
use super::reservations::is_operation;
use super::scheduler_http::{receive, refuse};
use super::{Context, form};

/// Whether the path is one of these.
pub(super) fn is_one(path: &str) -> bool {
    let whole = [
        "/weights",
        "/quota",
        "/teardown",
        "/flags",
        "/maintenance/schedule",
        "/maintenance/status",
        "/machine/up",
        "/machine/down",
        "/reserve",
        "/unreserve",
        "/create-volumes",
        "/destroy-volumes",
        "/logging/toggle",
    ];
    whole.contains(&path) || path.starts_with("/quota/")
}

/// Answers one request.
pub(super) async fn handle(context: Context, path: String, request: Request) -> Response {
    answer(context, &path, request).await.unwrap_or_else(|refused| refused)
}

#[expect(deprecated, reason = "old endpoints mean what old calls mean")]
async fn answer(context: Context, path: &str, request: Request) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let decisions = &context.decisions;
    let order = match (path, &parts.method) {
        ("/flags", &Method::GET) => return json_or_script(flags(&context), parts.uri.query()),
        ("/weights", &Method::GET) => {
            let weights = decisions.weights();
            let weights: Vec<String> = weights.iter().map(json::to_string).collect();
            return json_or_script(format!("[{}]", weights.join(",")), parts.uri.query());
        }
        ("/quota", &Method::GET) => {
            return json_or_script(json::to_string(&decisions.quotas()), parts.uri.query());
        }
        ("/maintenance/schedule", &Method::GET) => {
            return json_or_script(json::to_string(&decisions.schedule()), parts.uri.query());
        }
        ("/maintenance/status", &Method::GET) => {
            let status = json::to_string(&decisions.maintenance_status());
            return json_or_script(status, parts.uri.query());
        }
        ("/flags" | "/maintenance/status", other) => return Err(not_allowed(&["GET"], other)),
        ("/weights", &Method::PUT) => {
            let body = receive(&context, &parts.headers, body).await?;
            Call {
                update_weights: Some(array("weight_infos", "weights", &body.bytes)?),
                ..call_of(Type::UpdateWeights)
            }
        }
        ("/weights", other) => return Err(not_allowed(&["GET", "PUT"], other)),
        ("/quota", &Method::POST) => {
            let body = receive(&context, &parts.headers, body).await?;
            let quota_request: QuotaRequest = object("set quota request", &body.bytes)?;
            let set_quota = Some(call::SetQuota { quota_request });
            Call { set_quota, ..call_of(Type::SetQuota) }
        }
        ("/quota", other) => return Err(not_allowed(&["GET", "POST", "DELETE"], other)),
        ("/maintenance/schedule", &Method::POST) => {
            let body = receive(&context, &parts.headers, body).await?;
            let schedule: Schedule = object("maintenance schedule", &body.bytes)?;
            Call {
                update_maintenance_schedule: Some(call::UpdateMaintenanceSchedule { schedule }),
                ..call_of(Type::UpdateMaintenanceSchedule)
            }
        }
        ("/maintenance/schedule", other) => return Err(not_allowed(&["GET", "POST"], other)),
        ("/machine/down", &Method::POST) => {
            let body = receive(&context, &parts.headers, body).await?;
            Call {
                start_maintenance: Some(array("machines", "list of machines", &body.bytes)?),
                ..call_of(Type::StartMaintenance)
            }
        }
        ("/machine/up", &Method::POST) => {
            let body = receive(&context, &parts.headers, body).await?;
            Call {
                stop_maintenance: Some(array("machines", "list of machines", &body.bytes)?),
                ..call_of(Type::StopMaintenance)
            }
        }
        ("/teardown", &Method::POST) => {
            let body = receive(&context, &parts.headers, body).await?;
            let framework_id = v1::FrameworkId { value: form::needed(&body.bytes, "frameworkId")? };
            Call { teardown: Some(call::Teardown { framework_id }), ..call_of(Type::Teardown) }
        }
        ("/reserve" | "/unreserve" | "/create-volumes" | "/destroy-volumes", &Method::POST) => {
            let body = receive(&context, &parts.headers, body).await?;
            form::operation(path, &body.bytes)?
        }
        (
            "/machine/down" | "/machine/up" | "/teardown" | "/reserve" | "/unreserve"
            | "/create-volumes" | "/destroy-volumes",
            other,
        ) => {
            return Err(not_allowed(&["POST"], other));
        }
        ("/logging/toggle", &Method::GET) => match form::toggle(parts.uri.query())? {
            Some(order) => order,
            None => return Ok(form::level().into_response()),
        },
        ("/logging/toggle", other) => return Err(not_allowed(&["GET"], other)),
        (path, &Method::DELETE) => {
            let role = mezzo_http_server::percent_decoded(
                path.strip_prefix("/quota/").unwrap_or_default(),
            );
            let remove_quota = Some(call::RemoveQuota { role });
            Call { remove_quota, ..call_of(Type::RemoveQuota) }
        }
        (_, other) => return Err(not_allowed(&["DELETE"], other)),
    };
    // It is done when the agent has done it.
    let code = if is_operation(&order) { StatusCode::ACCEPTED } else { StatusCode::OK };
    match invoke(&context, order).await {
        Ok(_) => Ok(code.into_response()),
        Err(CallError { code, message }) => {
            Err(refuse(StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST), message))
        }
    }
}

pub(super) fn call_of(kind: Type) -> Call {
    Call { r#type: Some(kind as i32), ..Call::default() }
}

/// Reads a body that is one JSON object.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
fn object<M: JsonMessage>(what: &str, body: &Bytes) -> Result<M, Response> {
    json::from_slice(body).map_err(|error| malformed(what, &error))
}

/// Reads a body that is a JSON array, as the field of a message that consists of it.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
fn array<M: JsonMessage>(field: &str, what: &str, body: &Bytes) -> Result<M, Response> {
    // Its own text could otherwise close the array and go on with other fields.
    let elements: Vec<serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| malformed(what, &error))?;
    let text = serde_json::json!({ field: elements }).to_string();
    json::from_slice(text.as_bytes()).map_err(|error| malformed(what, &error))
}

pub(super) fn malformed(what: &str, error: &dyn std::error::Error) -> Response {
    refuse(StatusCode::BAD_REQUEST, format!("Failed to parse the {what} in the body: {error}"))
}

fn not_allowed(allowed: &[&str], received: &Method) -> Response {
    let list = allowed.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let message = format!("Expecting one of {{ {list} }}, but received '{received}'");
    let allow = [(header::ALLOW, allowed.join(", "))];
    (StatusCode::METHOD_NOT_ALLOWED, allow, message).into_response()
}

fn flags(context: &Context) -> String {
    let flags: serde_json::Map<String, serde_json::Value> = context
        .flags
        .iter()
        .map(|flag| (flag.name.clone(), flag.value.clone().unwrap_or_default().into()))
        .collect();
    serde_json::json!({ "flags": flags }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cannot_break_out_of_its_array() {
        let read = |text: &'static str| {
            let body = Bytes::from_static(text.as_bytes());
            let read = array::<call::StartMaintenance>("machines", "list", &body);
            read.map_err(|refused| refused.status())
        };
        let machines = read(r#"[{"hostname":"a","ip":"10.0.0.1"}]"#).expect("valid").machines;
        assert_eq!(machines[0].hostname.as_deref(), Some("a"));
        for bad in ["", "{}", "[1]", r#"[],"x":[]"#] {
            assert_eq!(read(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }
}
