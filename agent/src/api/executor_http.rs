//! `POST /api/v1/executor`: the v1 HTTP executor API, byte for byte as Mesos' executors expect it.
//!
//! Order of checks, codes and texts: Mesos 1.11, `src/slave/http.cpp`. Every record of the event stream is one chunk of
//! the answer; some clients rely on it.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::{StatusCode, header};
use mezzo_agent_core::{ExecutorRefusal, validate_call};
use mezzo_http_server::read_body;
use mezzo_proto::v1::executor::{Call, call};
use mezzo_proto::{json, recordio};

use super::encoding::{Encoding, Refusal};
use super::{Context, MAX_EXECUTOR_BYTES, executor};
use crate::executors::{Gone, Subscription};

/// Answers one POST.
pub(super) async fn handle(context: Context, request: Request) -> Response {
    answer(context, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(context: Context, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of_body(&parts.headers)?;
    let read =
        read_body(&parts.headers, body, MAX_EXECUTOR_BYTES, &context.limits, &context.budget);
    let received = read
        .await
        .map_err(|refusal| Refusal { code: refusal.status(), message: refusal.to_string() })?;
    let call: Result<Call, String> = match encoding {
        Encoding::Json => json::from_slice(&received.bytes).map_err(|error| error.to_string()),
        Encoding::Protobuf => {
            mezzo_proto::decode_checked(&received.bytes).map_err(|error| error.to_string())
        }
    };
    let call = call.map_err(|error| {
        Refusal::bad(format!("Failed to parse body into Call protobuf: {error}"))
    })?;
    validate_call(&call)
        .map_err(|error| Refusal::bad(format!("Failed to validate Executor::Call: {error}")))?;
    if call.r#type == Some(call::Type::Subscribe as i32) {
        let accepted = Encoding::accepted(&parts.headers)?;
        let subscription = context.executors.subscribe(call).await.map_err(gone)?;
        return Ok(stream(subscription.map_err(refused)?, accepted));
    }
    let taken = context.executors.call(call).await.map_err(gone)?;
    taken.map_err(refused)?;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn gone(gone: Gone) -> Refusal {
    Refusal { code: StatusCode::SERVICE_UNAVAILABLE, message: gone.to_string() }
}

fn refused(refusal: ExecutorRefusal) -> Refusal {
    let code = StatusCode::from_u16(refusal.http_code()).unwrap_or(StatusCode::BAD_REQUEST);
    Refusal { code, message: refusal.to_string() }
}

/// The answer to SUBSCRIBE: events as RecordIO, each record one chunk, until either side closes.
fn stream(subscription: Subscription, encoding: Encoding) -> Response {
    let records = executor::events(subscription).map(move |event| {
        Ok::<Bytes, std::convert::Infallible>(recordio::encode(&executor::encode(&event, encoding)))
    });
    let headers = [
        (header::CONTENT_TYPE, encoding.mime().to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::OK, headers, Body::from_stream(records)).into_response()
}
