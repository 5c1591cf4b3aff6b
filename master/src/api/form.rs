//! What Mesos' first endpoints take in forms: operations on an agent's resources, and the level of the log.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use mezzo_http_server::{log_order, query_value};
use mezzo_proto::json::{self, JsonMessage};
use mezzo_proto::v1;
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::{self, Type};

use super::legacy_orders::{call_of, malformed};
use super::operator;
use super::scheduler_http::refuse;

/// The call that `/reserve` and its kin stand for: the form has `slaveId`, and `resources` or `volumes`, a JSON array.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
pub(super) fn operation(path: &str, body: &Bytes) -> Result<Call, Response> {
    Ok(match path {
        "/reserve" => Call {
            reserve_resources: Some(about("resources", body)?),
            ..call_of(Type::ReserveResources)
        },
        "/unreserve" => Call {
            unreserve_resources: Some(about("resources", body)?),
            ..call_of(Type::UnreserveResources)
        },
        "/create-volumes" => {
            Call { create_volumes: Some(about("volumes", body)?), ..call_of(Type::CreateVolumes) }
        }
        _ => {
            Call { destroy_volumes: Some(about("volumes", body)?), ..call_of(Type::DestroyVolumes) }
        }
    })
}

/// A message of `agent_id` and a list of resources, of the form's `slaveId` and its value of the list's name.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
fn about<M: JsonMessage>(list: &str, body: &Bytes) -> Result<M, Response> {
    let agent = needed(body, "slaveId")?;
    let text = needed(body, list)?;
    // Its own text could otherwise close the array and go on with other fields.
    let elements: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| malformed(list, &error))?;
    let text = serde_json::json!({ "agent_id": { "value": agent }, list: elements }).to_string();
    json::from_slice(text.as_bytes()).map_err(|error| malformed(list, &error))
}

/// The call that `/logging/toggle?level=1&duration=15mins` stands for; `None` asks for the level.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
pub(super) fn toggle(query: Option<&str>) -> Result<Option<Call>, Response> {
    let order = log_order(query).map_err(|message| refuse(StatusCode::BAD_REQUEST, message))?;
    let Some((level, duration)) = order else { return Ok(None) };
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let duration = v1::DurationInfo { nanoseconds };
    let set_logging_level = Some(call::SetLoggingLevel { level, duration });
    Ok(Some(Call { set_logging_level, ..call_of(Type::SetLoggingLevel) }))
}

/// The level of the log, as `/logging/toggle` says it.
pub(super) fn level() -> String {
    format!("{}\n", operator::logging_level())
}

/// A value without which the form means nothing.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
pub(super) fn needed(body: &Bytes, name: &str) -> Result<String, Response> {
    let value = query_value(Some(String::from_utf8_lossy(body).trim()), name);
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        let message = format!("Missing '{name}' in the request's body: post the form {name}=…");
        refuse(StatusCode::BAD_REQUEST, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_needs_is_there_and_not_empty() {
        let form = Bytes::from_static(b"x=1&frameworkId=a%2db+c&frameworkId=second\n");
        assert_eq!(needed(&form, "frameworkId").expect("there"), "a-b c");
        for bad in ["frameworkId=", "x=1", ""] {
            needed(&Bytes::from(bad), "frameworkId").expect_err(bad);
        }
    }

    #[test]
    fn a_form_becomes_the_operation_of_its_path() {
        let cpus = r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]"#;
        let body = Bytes::from(format!("slaveId=S1&resources={cpus}&volumes={cpus}"));
        let call = |path| operation(path, &body).expect("a call");
        let reserve = call("/reserve").reserve_resources.expect("reserve");
        assert_eq!((&*reserve.agent_id.value, reserve.resources.len()), ("S1", 1));
        assert_eq!(call("/unreserve").unreserve_resources.expect("unreserve").resources.len(), 1);
        assert_eq!(call("/create-volumes").create_volumes.expect("create").volumes.len(), 1);
        assert_eq!(call("/destroy-volumes").destroy_volumes.expect("destroy").volumes.len(), 1);
        for bad in ["resources=[]", "slaveId=S1", "slaveId=S1&resources={}"] {
            let refused = operation("/reserve", &Bytes::from(bad)).expect_err(bad);
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    #[test]
    fn the_log_is_toggled_as_with_mesos() {
        assert!(toggle(None).expect("a question").is_none());
        let call = toggle(Some("level=2&duration=15mins")).expect("good").expect("an order");
        let order = call.set_logging_level.expect("set");
        assert_eq!((order.level, order.duration.nanoseconds), (2, 900_000_000_000));
        toggle(Some("level=2")).expect_err("no duration");
    }
}
