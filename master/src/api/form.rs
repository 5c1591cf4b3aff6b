//! What Mesos' first endpoints take in forms: operations on an agent's resources, and the level of the log.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use mezzo_http_server::query_value;
use mezzo_proto::json::{self, JsonMessage};
use mezzo_proto::v1;
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::{self, Type};
use mezzo_types::parse_duration;

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
    let bad = |message: String| refuse(StatusCode::BAD_REQUEST, message);
    let (level, duration) = match (query_value(query, "level"), query_value(query, "duration")) {
        (None, None) => return Ok(None),
        (Some(level), Some(duration)) => (level, duration),
        (Some(_), None) => return Err(bad("Expecting 'duration=value' in query.\n".to_owned())),
        (None, Some(_)) => return Err(bad("Expecting 'level=value' in query.\n".to_owned())),
    };
    let level = level.parse().map_err(|_| {
        bad(format!(
            "Invalid level '{level}': it is a number, and 0 is as the process was started.\n"
        ))
    })?;
    let duration = parse_duration(&duration)
        .map_err(|error| bad(format!("duration is '{duration}': {error}.\n")))?;
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
    value(body, name).ok_or_else(|| {
        let message = format!("Missing '{name}' in the request's body: post the form {name}=…");
        refuse(StatusCode::BAD_REQUEST, message)
    })
}

/// The first value of a name in a form's body.
fn value(body: &Bytes, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    text.trim().split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decoded(&value.replace('+', " "));
        (key == name && !value.is_empty()).then_some(value)
    })
}

/// `%41` is `A`; what is not well formed stays as it is.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_paths_are_decoded() {
        let form = Bytes::from_static(b"x=1&frameworkId=a%2db+c&frameworkId=second");
        assert_eq!(value(&form, "frameworkId").as_deref(), Some("a-b c"));
        assert_eq!(value(&Bytes::from_static(b"frameworkId="), "frameworkId"), None);
        assert_eq!(percent_decoded("%zz%4%41"), "%zz%4A");
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
        for bad in ["level=2", "duration=1secs", "level=-1&duration=1secs", "level=1&duration=x"] {
            toggle(Some(bad)).expect_err(bad);
        }
    }
}
