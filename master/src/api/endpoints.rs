//! Mesos' first read endpoints over HTTP: `/state`, `/state-summary`, `/slaves`, `/frameworks`, `/tasks`, `/roles`.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode, header};
use mezzo_http_server::query_value;

use super::Context;
use super::scheduler_http::refuse;
use crate::view::{Answer, TasksQuery, View};

/// Tasks in one answer of `/tasks`, unless the caller says (Mesos: 100).
const TASKS: usize = 100;

/// What is asked for.
#[derive(Debug, Clone)]
enum Endpoint {
    State,
    Summary,
    Slaves { id: Option<String> },
    Frameworks { id: Option<String> },
    Tasks(TasksQuery),
    Roles,
}

/// Answers a request if it is for one of these endpoints; `path` is without prefixes.
pub(super) async fn answer(context: &Context, path: &str, request: &Parts) -> Option<Response> {
    let query = request.uri.query();
    let endpoint = endpoint(path, query)?;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Some(only_get(&request.method));
    }
    Some(give(context, endpoint, query, request).await.unwrap_or_else(|refusal| refusal))
}

fn endpoint(path: &str, query: Option<&str>) -> Option<Endpoint> {
    let id = |name: &str| query_value(query, name);
    Some(match path {
        // Mesos 0.x had the suffix; old tools ask with it.
        "/state" | "/state.json" => Endpoint::State,
        "/state-summary" => Endpoint::Summary,
        "/slaves" => Endpoint::Slaves { id: id("slave_id") },
        "/frameworks" => Endpoint::Frameworks { id: id("framework_id") },
        "/tasks" | "/tasks.json" => Endpoint::Tasks(tasks_query(query)),
        "/roles" | "/roles.json" => Endpoint::Roles,
        _ => return None,
    })
}

/// What is no number counts as nothing, as in Mesos. A negative one is without bound: Mesos' command line asks for
/// `limit=-1`.
fn tasks_query(query: Option<&str>) -> TasksQuery {
    let number = |name: &str| query_value(query, name)?.trim().parse::<i64>().ok();
    let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    TasksQuery {
        limit: number("limit").map_or(TASKS, count),
        offset: number("offset").map_or(0, count),
        ascending: query_value(query, "order").is_some_and(|order| order == "asc"),
        framework_id: query_value(query, "framework_id"),
        task_id: query_value(query, "task_id"),
    }
}

async fn give(
    context: &Context,
    endpoint: Endpoint,
    query: Option<&str>,
    request: &Parts,
) -> Result<Response, Response> {
    let script = script(query)?;
    let master = std::sync::Arc::clone(&context.master_facts);
    let make = move |view: &View| match &endpoint {
        Endpoint::State => view.snapshot().state(&master),
        Endpoint::Summary => view.snapshot().summary(&master),
        Endpoint::Slaves { id } => view.snapshot().slaves(id.as_deref()),
        Endpoint::Frameworks { id } => view.snapshot().frameworks(id.as_deref()),
        Endpoint::Tasks(query) => view.snapshot().tasks(query),
        Endpoint::Roles => view.snapshot_with_roles().roles(),
    };
    let answer = context.readers.make(make).await?;
    let (answer, kind) = wrap(answer, script);
    Ok(context.readers.send(answer, kind, &request.headers, &context.budget))
}

/// The name of a function that is to be called with the answer, if there is to be one.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
pub(super) fn script(query: Option<&str>) -> Result<Option<String>, Response> {
    let Some(function) = query_value(query, "jsonp") else { return Ok(None) };
    // It becomes part of a script.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if function.is_empty() || !function.chars().all(allowed) {
        let message = format!(
            "jsonp is '{function}', which cannot be the name of a function: letters, digits, '_', \
             '$' and '.' can"
        );
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    }
    Ok(Some(function))
}

/// The answer, or a script that calls a function with it; and its type.
pub(super) fn wrap(mut answer: Answer, script: Option<String>) -> (Answer, &'static str) {
    let Some(function) = script else { return (answer, "application/json") };
    let head = Bytes::from(format!("{function}("));
    let tail = Bytes::from_static(b");");
    answer.bytes += head.len() + tail.len();
    answer.parts.insert(0, head);
    answer.parts.push(tail);
    (answer, "text/javascript")
}

/// A short answer in JSON, or a script that calls a function with it.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
pub(super) fn json_or_script(json: String, query: Option<&str>) -> Result<Response, Response> {
    let (answer, kind) = wrap(json.into_bytes().into(), script(query)?);
    Ok(([(header::CONTENT_TYPE, kind)], answer.concat()).into_response())
}

pub(super) fn only_get(method: &Method) -> Response {
    let message = format!("Expecting one of {{ 'GET' }}, but received '{method}'");
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_mesos_reads_them() {
        let query = tasks_query(Some("limit=5&offset=x&order=asc&task_id=a%2Fb"));
        assert_eq!((query.limit, query.offset, query.ascending), (5, 0, true));
        assert_eq!(query.task_id.as_deref(), Some("a/b"));
        let query = tasks_query(Some("limit=-1&order=des"));
        assert_eq!((query.limit, query.ascending, query.framework_id), (usize::MAX, false, None));
        assert_eq!(tasks_query(Some("limit=many")).limit, TASKS);
    }

    #[test]
    fn a_script_gets_no_more_than_a_call() {
        assert_eq!(script(None).expect("none"), None);
        let name = script(Some("jsonp=jQuery1_2.cb")).expect("a name");
        let (answer, kind) = wrap(b"{}".to_vec().into(), name);
        assert_eq!((&*answer.concat(), kind), (&b"jQuery1_2.cb({});"[..], "text/javascript"));
        for bad in ["jsonp=alert(1)//", "jsonp=", "jsonp=a%3Cb"] {
            script(Some(bad)).expect_err(bad);
        }
    }
}
