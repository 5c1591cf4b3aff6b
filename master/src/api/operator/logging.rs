//! How much this process logs.

use std::time::Duration;

use mezzo_proto::v1::master::Response;
use mezzo_proto::v1::master::call::SetLoggingLevel;
use mezzo_proto::v1::master::response::GetLoggingLevel;
use mezzo_telemetry::Verbosity;

use super::CallError;

/// GET_LOGGING_LEVEL: 0 is as the process was started.
pub(super) fn level() -> Response {
    let level = Verbosity::of_this_process().map_or(0, |verbosity| verbosity.level());
    Response { get_logging_level: Some(GetLoggingLevel { level }), ..Response::default() }
}

/// SET_LOGGING_LEVEL, for a while.
pub(super) fn set_level(order: &SetLoggingLevel) -> Result<(), CallError> {
    let nanoseconds = order.duration.nanoseconds;
    let Ok(nanoseconds) = u64::try_from(nanoseconds) else {
        let message = format!(
            "set_logging_level.duration is {nanoseconds} ns: it must not be negative; afterwards the \
             level is as before"
        );
        return Err(CallError { code: 400, message });
    };
    let Some(verbosity) = Verbosity::of_this_process() else {
        let message = "this process was started without a log of its own".to_owned();
        return Err(CallError { code: 501, message });
    };
    verbosity.set(order.level, Duration::from_nanos(nanoseconds));
    Ok(())
}
