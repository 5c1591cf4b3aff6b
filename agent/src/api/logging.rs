//! `/logging/toggle`, as libprocess has it: how much is logged, and more of it for a while.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use mezzo_http_server::query_value;
use mezzo_proto::v1::DurationInfo;
use mezzo_proto::v1::agent::call::SetLoggingLevel;
use mezzo_types::parse_duration;

use super::encoding::Refusal;
use super::operator::{logging_level, set_logging_level};

/// With `level` and `duration` sets the level for so long; with neither tells it.
pub(super) fn toggle(query: Option<&str>) -> Response {
    let set = match order(query) {
        Ok(None) => return format!("{}\n", logging_level()).into_response(),
        Ok(Some(order)) => set_logging_level(&order),
        Err(refusal) => Err(refusal),
    };
    set.map_or_else(IntoResponse::into_response, |()| StatusCode::OK.into_response())
}

/// What the query orders, if anything.
fn order(query: Option<&str>) -> Result<Option<SetLoggingLevel>, Refusal> {
    let missing = |name: &str| Refusal::bad(format!("Expecting '{name}=value' in query.\n"));
    let (level, duration) = match (query_value(query, "level"), query_value(query, "duration")) {
        (None, None) => return Ok(None),
        (Some(level), Some(duration)) => (level, duration),
        (Some(_), None) => return Err(missing("duration")),
        (None, Some(_)) => return Err(missing("level")),
    };
    let number: i32 = level
        .parse()
        .map_err(|_| Refusal::bad(format!("Failed to convert '{level}' to number.\n")))?;
    let level =
        u32::try_from(number).map_err(|_| Refusal::bad(format!("Invalid level '{number}'.\n")))?;
    let duration =
        parse_duration(&duration).map_err(|error| Refusal::bad(format!("{error}.\n")))?;
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Ok(Some(SetLoggingLevel { level, duration: DurationInfo { nanoseconds } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_libprocess_reads_them() {
        assert_eq!(order(None), Ok(None));
        assert_eq!(order(Some("jsonp=x")), Ok(None));
        let duration = DurationInfo { nanoseconds: 5_000_000_000 };
        let expected = SetLoggingLevel { level: 2, duration };
        assert_eq!(order(Some("level=2&duration=5secs")), Ok(Some(expected)));
        for (query, sentence) in [
            ("level=1", "Expecting 'duration=value' in query.\n"),
            ("duration=1secs", "Expecting 'level=value' in query.\n"),
            ("level=x&duration=1secs", "Failed to convert 'x' to number.\n"),
            ("level=-1&duration=1secs", "Invalid level '-1'.\n"),
        ] {
            assert_eq!(order(Some(query)), Err(Refusal::bad(sentence.to_owned())), "{query}");
        }
        let unit = order(Some("level=1&duration=5")).unwrap_err();
        assert_eq!(unit.code, StatusCode::BAD_REQUEST);
        assert!(unit.message.contains("has no unit"), "{}", unit.message);
    }
}
