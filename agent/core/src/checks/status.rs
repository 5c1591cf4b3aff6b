//! Results of checks as statuses carry them.

use mezzo_proto::v1;
use mezzo_proto::v1::check_status_info::{Command, Http, Tcp};
use v1::check_info::Type;

use super::CheckOutcome;

/// What every status of a task with a check carries while there is no result: the type, and an empty result of that type.
pub(crate) fn empty_status(check: &v1::CheckInfo) -> Option<v1::CheckStatusInfo> {
    let mut status = v1::CheckStatusInfo { r#type: check.r#type, ..Default::default() };
    match check.r#type() {
        Type::Command => status.command = Some(Command::default()),
        Type::Http => status.http = Some(Http::default()),
        Type::Tcp => status.tcp = Some(Tcp::default()),
        Type::Unknown => return None,
    }
    Some(status)
}

/// The result, empty where there is none; `None` where nothing can be said at all.
pub(crate) fn status_of(
    check: &v1::CheckInfo,
    outcome: &CheckOutcome,
) -> Option<v1::CheckStatusInfo> {
    let mut status = empty_status(check)?;
    match (check.r#type(), outcome) {
        (_, CheckOutcome::Unavailable(_)) => return None,
        (Type::Command, CheckOutcome::Exited(code)) => {
            status.command = Some(Command { exit_code: Some(*code) });
        }
        (Type::Http, CheckOutcome::Answered(code)) => {
            status.http = Some(Http { status_code: Some((*code).into()) });
        }
        (Type::Tcp, CheckOutcome::Connected(connected)) => {
            status.tcp = Some(Tcp { succeeded: Some(*connected) });
        }
        _ => {}
    }
    Some(status)
}
