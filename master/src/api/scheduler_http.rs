//! `POST /api/v1/scheduler`: the v1 HTTP scheduler API, byte for byte as Mesos clients expect it.
//!
//! Order of checks, codes and headers: Mesos 1.11, `src/master/http.cpp`. Every record of the event
//! stream is one chunk of the answer; some clients rely on it.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use mezzo_http_server::{Charge, Received, read_body};
use mezzo_master_core::Answer;
use mezzo_proto::v1::scheduler::call::Type;
use mezzo_proto::v1::scheduler::{Call, Event};
use mezzo_proto::{DecodeError, json, recordio};
use prost::Message;

use super::{Context, MAX_MESSAGE_BYTES};
use crate::handle::Subscription;

const STREAM_ID: &str = "Mesos-Stream-Id";

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub(crate) fn mime(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// What the request's body is written in.
    #[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Self, Response> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "Expecting 'Content-Type' to be present".to_owned(),
            ));
        };
        let value = String::from_utf8_lossy(value.as_bytes());
        match value.split(';').next().unwrap_or_default().trim() {
            "application/json" => Ok(Self::Json),
            "application/x-protobuf" => Ok(Self::Protobuf),
            _ => Err(refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!(
                    "Expecting 'Content-Type' of application/json or application/x-protobuf, but \
                     received '{value}'"
                ),
            )),
        }
    }

    /// What the caller can read; JSON is preferred, and meant where nothing is said.
    #[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Response> {
        let mut said = false;
        let mut protobuf = false;
        for value in headers.get_all(header::ACCEPT) {
            said = true;
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            for range in value.split(',') {
                match range.split(';').next().unwrap_or_default().trim() {
                    "application/json" | "*/*" | "application/*" => return Ok(Self::Json),
                    "application/x-protobuf" => protobuf = true,
                    _ => {}
                }
            }
        }
        match (said, protobuf) {
            (false, _) => Ok(Self::Json),
            (true, true) => Ok(Self::Protobuf),
            (true, false) => Err(refuse(
                StatusCode::NOT_ACCEPTABLE,
                "Expecting 'Accept' to allow application/json or application/x-protobuf".to_owned(),
            )),
        }
    }
}

pub(crate) fn refuse(code: StatusCode, message: String) -> Response {
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], message).into_response()
}

/// Answers one POST.
pub(crate) async fn handle(context: Context, request: Request) -> Response {
    match answer(context, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn answer(context: Context, request: Request) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let encoding = Encoding::of_body(&headers)?;
    let received = receive(&context, &headers, body).await?;
    let (call, task_infos, _charge) = decode(&context, encoding, received)?;
    mezzo_master_core::validation::scheduler_call(&call).map_err(|error| {
        refuse(StatusCode::BAD_REQUEST, format!("Failed to validate scheduler::Call: {error}"))
    })?;
    let stream_name = headers.get(STREAM_ID).map(|v| String::from_utf8_lossy(v.as_bytes()));
    if call.r#type == Some(Type::Subscribe as i32) {
        let accepted = Encoding::accepted(&headers)?;
        if stream_name.is_some() {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "Subscribe calls should not include the 'Mesos-Stream-Id' header".to_owned(),
            ));
        }
        context.may_subscribe(&call).map_err(|shortage| unavailable(&shortage))?;
        let subscription =
            context.handle.subscribe(call, None).await.map_err(|gone| unavailable(&gone))?;
        return Ok(stream(subscription, accepted));
    }
    // Mesos looks at `Accept` of this call as well, though its answer is empty by now.
    if call.r#type == Some(Type::ReconcileOperations as i32) {
        Encoding::accepted(&headers)?;
    }
    let result = context
        .handle
        .call_named(stream_name.as_deref(), call, task_infos)
        .await
        .map_err(|gone| unavailable(&gone))?;
    match result {
        Ok(Answer::Done) => Ok(StatusCode::OK.into_response()),
        Ok(_) => Ok(StatusCode::ACCEPTED.into_response()),
        Err(refusal) => {
            let code = StatusCode::from_u16(refusal.http_code()).unwrap_or(StatusCode::BAD_REQUEST);
            Err(refuse(code, refusal.to_string()))
        }
    }
}

pub(crate) fn unavailable(error: &dyn std::error::Error) -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// Reads the body of a call.
pub(crate) async fn receive(
    context: &Context,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received, Response> {
    let read = read_body(headers, body, MAX_MESSAGE_BYTES, &context.limits, &context.budget);
    read.await.map_err(|refusal| refuse(refusal.status(), refusal.to_string()))
}

/// The call, its tasks as they were received, and what to keep as long as the call.
#[expect(clippy::result_large_err, reason = "the refusal is the whole answer, made once")]
fn decode(
    context: &Context,
    encoding: Encoding,
    received: Received,
) -> Result<(Call, Vec<Bytes>, Charge), Response> {
    let bad = |error: &dyn std::error::Error| {
        let message = format!("Failed to parse body into scheduler::Call: {error}");
        refuse(StatusCode::BAD_REQUEST, message)
    };
    let Received { bytes, charge } = received;
    match encoding {
        Encoding::Json => {
            let call = json::from_slice::<Call>(&bytes).map_err(|error| bad(&error))?;
            Ok((call, Vec::new(), charge))
        }
        Encoding::Protobuf => {
            let size = mezzo_proto::decoded_size::<Call>(&bytes).map_err(|error| bad(&error))?;
            let charge = context.budget.charge(size).map_err(|busy| unavailable(&busy))?;
            let call =
                Call::decode(bytes.clone()).map_err(|error| bad(&DecodeError::from(error)))?;
            let tasks = mezzo_proto::raw::task_infos(&bytes).map_err(|error| bad(&error))?;
            Ok((call, tasks, charge))
        }
    }
}

/// The answer to SUBSCRIBE: events as RecordIO, each record one chunk, until either side closes.
fn stream(subscription: Subscription, encoding: Encoding) -> Response {
    let name = subscription.name.clone();
    let records = futures::stream::unfold(subscription, move |mut subscription| async move {
        let event = subscription.events.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(record(&event, encoding)), subscription))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), encoding.mime().to_owned()),
        (STREAM_ID, name),
        (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
    ];
    (StatusCode::OK, headers, Body::from_stream(records)).into_response()
}

fn record(event: &Event, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => recordio::encode(&json::to_vec(event)),
        Encoding::Protobuf => recordio::encode(&event.encode_to_vec()),
    }
}
