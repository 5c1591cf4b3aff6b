//! `/files/…`, LIST_FILES and READ_FILE. Mesos shows the master's log there when it is written to a file. This master
//! writes to standard error and leaves files to whoever reads that, so there is nothing to show, and it says so.

use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use mezzo_http_server::query_value;
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::Type;

use super::endpoints::{only_get, script, wrap};
use super::operator::CallError;

/// Answers a request for `/files/…`; `path` is without prefixes.
pub(super) fn answer(path: &str, request: &Parts) -> Option<Response> {
    let name = path.strip_prefix("/files/")?;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Some(only_get(&request.method));
    }
    let query = request.uri.query();
    Some(match name.strip_suffix(".json").unwrap_or(name) {
        // Virtual paths, and where they lead.
        "debug" => match script(query) {
            Ok(script) => {
                let (answer, kind) = wrap(b"{}".to_vec().into(), script);
                ([(http::header::CONTENT_TYPE, kind)], answer.concat()).into_response()
            }
            Err(refusal) => refusal,
        },
        "browse" | "read" | "download" => {
            match query_value(query, "path").filter(|path| !path.is_empty()) {
                Some(path) => (StatusCode::NOT_FOUND, format!("{}\n", none(&path))).into_response(),
                None => {
                    let message = "Expecting 'path=value' in query.\n";
                    (StatusCode::BAD_REQUEST, message).into_response()
                }
            }
        }
        other => {
            let message = format!("no endpoint at '/files/{other}'\n");
            (StatusCode::NOT_FOUND, message).into_response()
        }
    })
}

/// What LIST_FILES and READ_FILE are answered with; `None` for other calls.
pub(crate) fn refusal(call: &Call) -> Option<CallError> {
    let (part, path) = match call.r#type() {
        Type::ListFiles => ("list_files", call.list_files.as_ref().map(|asked| &asked.path)),
        Type::ReadFile => ("read_file", call.read_file.as_ref().map(|asked| &asked.path)),
        _ => return None,
    };
    Some(match path {
        Some(path) => CallError { code: 404, message: none(path) },
        None => CallError { code: 400, message: format!("Expecting '{part}' to be present") },
    })
}

fn none(path: &str) -> String {
    format!(
        "the master has no file '{path}': its log goes to standard error, which the journal keeps \
         (journalctl -u mezzo-master); files of tasks are with their agents"
    )
}
