//! `/logging/toggle`, as libprocess has it: how much is logged, and more of it for a while.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use mezzo_http_server::log_order;
use mezzo_proto::v1::DurationInfo;
use mezzo_proto::v1::agent::call::SetLoggingLevel;

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
    let Some((level, duration)) = log_order(query).map_err(Refusal::bad)? else { return Ok(None) };
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Ok(Some(SetLoggingLevel { level, duration: DurationInfo { nanoseconds } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_an_order_or_a_question() {
        assert_eq!(order(None), Ok(None));
        let duration = DurationInfo { nanoseconds: 5_000_000_000 };
        let expected = SetLoggingLevel { level: 2, duration };
        assert_eq!(order(Some("level=2&duration=5secs")), Ok(Some(expected)));
        assert_eq!(order(Some("level=1")).expect_err("no duration").code, StatusCode::BAD_REQUEST);
    }
}
