//! Paths as libprocess served them: an optional `/master` in front, no trailing slash, and the
//! longest known prefix (pymesos posts to `/api/v1/operator`, which is `/api/v1`).

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use mezzo_proto::internal::v1::agent_link_server::AgentLinkServer;

use super::{
    Context, MAX_MESSAGE_BYTES, agent_link, endpoints, files, legacy_orders, operator,
    operator_service::OperatorService, scheduler_grpc, scheduler_http,
    scheduler_service::SchedulerService,
};

/// The whole API of a leading master.
///
/// # Errors
/// The descriptor set for gRPC reflection does not parse, which is a fault of the build.
pub(crate) async fn router(context: Context) -> anyhow::Result<axum::Router> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mezzo_proto::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let scheduler = SchedulerService::new(scheduler_grpc::Api::new(context.clone()));
    let link = AgentLinkServer::new(agent_link::Api::new(context.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let operator = OperatorService::new(context.clone());
    health.set_serving::<SchedulerService>().await;
    health.set_serving::<OperatorService>().await;
    let mut routes = tonic::service::Routes::new(scheduler);
    routes = routes
        .add_service(link)
        .add_service(operator)
        .add_service(reflection)
        .add_service(health_service);
    let fallback = move |request: Request| dispatch(context.clone(), request);
    Ok(routes.prepare().into_axum_router().fallback(fallback))
}

async fn dispatch(context: Context, request: Request) -> Response {
    let full = request.uri().path().trim_end_matches('/').to_owned();
    let path = match full.strip_prefix("/master") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => &full,
    };
    match path {
        "/health" => health(&context),
        "/version" => json(operator::version_json().to_string(), &request),
        "/metrics" => text(context.metrics.render_prometheus()),
        "/metrics/snapshot" | "/metrics/snapshot.json" => {
            json(context.metrics.render_snapshot(), &request)
        }
        "/redirect" => redirect(&context),
        _ if under(path, "/api/v1/scheduler") => {
            post(request, |request| scheduler_http::handle(context, request)).await
        }
        _ if under(path, "/api/v1") => {
            post(request, |request| operator::handle(context, request)).await
        }
        _ if legacy_orders::is_one(path) => {
            let path = path.to_owned();
            legacy_orders::handle(context, path, request).await
        }
        _ => {
            let (head, _) = request.into_parts();
            if let Some(answer) = files::answer(path, &head) {
                return answer;
            }
            if let Some(answer) = endpoints::answer(&context, path, &head).await {
                return answer;
            }
            (StatusCode::NOT_FOUND, format!("no endpoint at '{full}'\n")).into_response()
        }
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

fn under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn post<F>(request: Request, then: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if request.method() == Method::POST {
        return then(request).await;
    }
    let message = format!("Expecting one of {{ 'POST' }}, but received '{}'", request.method());
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], message).into_response()
}

/// Where the leader is: here.
fn redirect(context: &Context) -> Response {
    let info = &context.master_info;
    let host = info.hostname.as_deref().unwrap_or("127.0.0.1");
    let location = format!("//{host}:{}", info.port);
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
}

fn json(text: String, request: &Request) -> Response {
    endpoints::json_or_script(text, request.uri().query()).unwrap_or_else(|refusal| refusal)
}

fn text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
