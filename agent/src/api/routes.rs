//! Paths as libprocess served them: an optional `/slave(1)` in front, no trailing slash, and the
//! longest known prefix.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use mezzo_proto::v1::agent::operator_server::OperatorServer;

use super::browse::answer_text;
use super::executor_service::ExecutorService;
use super::statistics::off_the_loop;
use super::{
    Context, MAX_MESSAGE_BYTES, browse, executor_grpc, executor_http, logging, operator,
    operator_grpc, state, statistics,
};

/// The descriptors for gRPC reflection are damaged: a fault of the build.
#[derive(Debug, thiserror::Error)]
#[error("could not set up gRPC reflection")]
pub struct RoutesError(#[from] tonic_reflection::server::Error);

/// The whole API of an agent.
pub(crate) async fn router(context: Context) -> Result<axum::Router, RoutesError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mezzo_proto::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let operator = OperatorServer::new(operator_grpc::Api::new(context.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX);
    health.set_serving::<OperatorServer<operator_grpc::Api>>().await;
    let executor = ExecutorService::new(executor_grpc::Api::new(context.clone()));
    health.set_serving::<ExecutorService>().await;
    let routes = tonic::service::Routes::new(operator)
        .add_service(executor)
        .add_service(reflection)
        .add_service(health_service);
    let routes = routes.prepare().into_axum_router().with_state(());
    Ok(routes.fallback_service(axum::routing::any(dispatch).with_state(context)))
}

async fn dispatch(State(context): State<Context>, request: Request) -> Response {
    let full = request.uri().path().trim_end_matches('/').to_owned();
    let path = match full.strip_prefix("/slave(1)") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => &full,
    };
    let query = request.uri().query().map(str::to_owned);
    let json = |text: String| {
        answer_text(query.as_deref(), &text).unwrap_or_else(IntoResponse::into_response)
    };
    match path {
        "/health" => health(&context),
        "/version" => json(operator::version_json()),
        "/metrics" => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let metrics = context.metrics.clone();
            // Tasks are measured for it.
            match off_the_loop(move || metrics.render_prometheus()).await {
                Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
                Err(refusal) => refusal.into_response(),
            }
        }
        "/state" | "/state.json" => state::answer(&context, query).await,
        "/containers" => statistics::containers_json(&context, query.as_deref()).await,
        "/monitor/statistics" | "/monitor/statistics.json" => {
            statistics::statistics_json(&context, query.as_deref()).await
        }
        "/logging/toggle" => logging::toggle(query.as_deref()),
        "/flags" => json(flags(&context)),
        "/metrics/snapshot" => json(context.metrics.render_snapshot()),
        _ if under(path, "/api/v1/executor") => match request.method() {
            &Method::POST => executor_http::handle(context, request).await,
            other => not_allowed(other),
        },
        _ if under(path, "/api/v1/resource_provider") => {
            let message = format!("'{full}' is not served by this version of Mezzo\n");
            (StatusCode::NOT_IMPLEMENTED, message).into_response()
        }
        _ if under(path, "/api/v1") => match request.method() {
            &Method::POST => operator::handle(context, request).await,
            other => not_allowed(other),
        },
        _ if under(path, "/files") => {
            browse::handle(&context.files, path, &request.method().clone(), query).await
        }
        _ => (StatusCode::NOT_FOUND, format!("no endpoint at '{full}'\n")).into_response(),
    }
}

/// Alive, and a sentence each if nothing new is taken and if the disk is slow. A restart would not help, so the code is
/// 200 all the same.
fn health(context: &Context) -> Response {
    let shortage = context.store.check_room().err().map(|shortage| format!("{shortage}\n"));
    let slowness = context.store.slowness().map(|slowness| format!("{slowness}\n"));
    let body = Vec::from_iter(shortage.into_iter().chain(slowness)).concat();
    (StatusCode::OK, body).into_response()
}

/// Every flag that is set, by name.
fn flags(context: &Context) -> String {
    let flags = context
        .flags
        .iter()
        .map(|flag| (flag.name.clone(), flag.value.clone().unwrap_or_default()));
    let flags: std::collections::BTreeMap<String, String> = flags.collect();
    serde_json::json!({ "flags": flags }).to_string()
}

fn under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn not_allowed(method: &Method) -> Response {
    let message = format!("Expecting one of {{ 'POST' }}, but received '{method}'");
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], message).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;
    use crate::view::View;

    async fn router() -> axum::Router {
        let context = Context::idle(View::default());
        context.metrics.counter("slave/tasks_finished").inc();
        super::router(context).await.unwrap()
    }

    async fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = router().await.oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    const JSON: (&str, &str) = ("Content-Type", "application/json");

    #[tokio::test]
    async fn what_tools_ask_is_answered_with_and_without_the_prefix() {
        for prefix in ["", "/slave(1)"] {
            let get = async |path: &str| ask("GET", &format!("{prefix}{path}"), &[], "").await;
            assert_eq!(get("/health").await, (200, String::new()));
            assert!(get("/version").await.1.contains(r#""version":"1.11.0""#));
            assert!(get("/metrics/snapshot").await.1.contains(r#""slave/tasks_finished":1"#));
            assert!(get("/metrics").await.1.contains("mezzo_slave_tasks_finished_total 1"));
            assert!(
                get("/state").await.1.contains(r#""start_time":12.5,"id":"","pid":"slave(1)@"#)
            );
            assert_eq!(get("/containers").await, (200, "[]".into()));
            assert_eq!(get("/monitor/statistics").await, (200, "[]".into()));
            assert_eq!(get("/nowhere").await.0, 404);
            assert_eq!(get("/api/v1").await.0, 405);
        }
    }

    #[tokio::test]
    async fn json_comes_as_a_script_where_that_is_asked_for() {
        for path in [
            "/version",
            "/flags",
            "/metrics/snapshot",
            "/state",
            "/containers",
            "/monitor/statistics",
            "/files/debug",
        ] {
            let get = |query: &str| {
                let request = http::Request::builder().uri(format!("{path}{query}"));
                request.body(Body::empty()).unwrap()
            };
            let kind = |response: &Response| response.headers()[header::CONTENT_TYPE].clone();
            let plain = router().await.oneshot(get("")).await.unwrap();
            assert_eq!(kind(&plain), "application/json", "{path}");
            let script = router().await.oneshot(get("?jsonp=show")).await.unwrap();
            assert_eq!(kind(&script), "text/javascript", "{path}");
            let script = to_bytes(script.into_body(), 1 << 20).await.unwrap();
            assert!(script.starts_with(b"show(") && script.ends_with(b");"), "{path}");
            let bad = router().await.oneshot(get("?jsonp=alert(1)")).await.unwrap();
            assert_eq!(bad.status(), StatusCode::BAD_REQUEST, "{path}");
        }
        let get = async |path: &str| ask("GET", path, &[], "").await;
        assert_eq!(get("/containers?executor_id=e").await.0, 400);
        assert_eq!(get("/monitor/statistics?executor_id=e").await.0, 200);
    }

    #[tokio::test]
    async fn the_log_is_toggled_as_by_the_call() {
        let get = async |query: &str| ask("GET", &format!("/logging/toggle{query}"), &[], "").await;
        assert_eq!(get("").await, (200, "0\n".into()));
        let lacking = (400, "Expecting 'duration=value' in query.\n".into());
        assert_eq!(get("?level=1").await, lacking);
        // Tests have no log of their own.
        assert_eq!(get("?level=1&duration=5secs").await.0, 501);
    }

    #[tokio::test]
    async fn executor_calls_are_checked_in_mesos_order() {
        let call = async |headers: &[(&str, &str)], body: &str| {
            ask("POST", "/slave(1)/api/v1/executor", headers, body).await
        };
        assert_eq!(ask("GET", "/api/v1/executor", &[], "").await.0, 405);
        assert_eq!(call(&[], "{}").await.0, 400);
        assert_eq!(call(&[("Content-Type", "text/plain")], "{}").await.0, 415);
        assert_eq!(call(&[JSON], "{").await.0, 400);
        let ids = r#""framework_id":{"value":"f"},"executor_id":{"value":"e"}"#;
        let lacking = call(&[JSON], &format!("{{{ids}}}")).await;
        let sentence = "Failed to validate Executor::Call: Expecting 'type' to be present";
        assert_eq!(lacking, (400, sentence.into()));
        let subscribe = format!(r#"{{{ids},"type":"SUBSCRIBE","subscribe":{{}}}}"#);
        assert_eq!(call(&[JSON, ("Accept", "text/html")], &subscribe).await.0, 406);
        // Nobody is there to take it.
        assert_eq!(call(&[JSON], &subscribe).await, (503, "the agent is shutting down".into()));
    }

    #[tokio::test]
    async fn operator_calls_are_answered_or_say_what_is_wrong() {
        let call = async |headers: &[(&str, &str)], body: &str| {
            ask("POST", "/api/v1/", headers, body).await
        };
        let health = call(&[JSON], r#"{"type":"GET_HEALTH"}"#).await;
        assert_eq!(health, (200, r#"{"type":"GET_HEALTH","get_health":{"healthy":true}}"#.into()));
        assert_eq!(call(&[], "{}").await.0, 400);
        assert_eq!(call(&[("Content-Type", "text/plain")], "{}").await.0, 415);
        assert_eq!(call(&[JSON], "{").await.0, 400);
        assert_eq!(call(&[JSON], "{}").await, (400, "Expecting 'type' to be present".into()));
        assert_eq!(call(&[JSON, ("Accept", "text/html")], r#"{"type":"GET_HEALTH"}"#).await.0, 406);
        let later = call(&[JSON], r#"{"type":"PRUNE_IMAGES","prune_images":{}}"#).await;
        assert_eq!(later.0, 501, "{}", later.1);
    }
}
