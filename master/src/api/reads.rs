//! GET_STATE and its like, and SUBSCRIBE, over HTTP.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::Type;

use super::Context;
use super::scheduler_http::Encoding;
use crate::view::{Read, Snapshot, View, Watch};

/// What a call reads, if it is one of those that read the state.
pub(crate) fn read_of(call: &Call) -> Option<Read> {
    Some(match call.r#type() {
        Type::GetState => Read::State,
        Type::GetAgents => Read::Agents,
        Type::GetFrameworks => Read::Frameworks,
        Type::GetExecutors => Read::Executors,
        Type::GetOperations => Read::Operations,
        Type::GetTasks => Read::Tasks,
        Type::GetRoles => Read::Roles,
        _ => return None,
    })
}

/// The state as it is now, with what `read` needs.
pub(crate) fn snapshot(view: &View, read: Read) -> Snapshot {
    match read {
        Read::Roles => view.snapshot_with_roles(),
        _ => view.snapshot(),
    }
}

/// Answers a call that reads the state, or subscribes; others are none of its business.
pub(crate) async fn answer(
    context: &Context,
    call: &Call,
    headers: &HeaderMap,
    encoding: Encoding,
) -> Option<Result<Response, Response>> {
    if call.r#type() == Type::Subscribe {
        return Some(subscribe(context, encoding).await);
    }
    let read = read_of(call)?;
    let made = context.readers.make(move |view| snapshot(view, read).response(read, encoding));
    let send = |answer| context.readers.send(answer, encoding.mime(), headers, &context.budget);
    Some(made.await.map(send))
}

/// The answer to SUBSCRIBE: events as RecordIO until either side closes. A record is one chunk, unless it is very
/// long or many come at a time.
async fn subscribe(context: &Context, encoding: Encoding) -> Result<Response, Response> {
    let (watch, first) = begin(context, encoding).await?;
    let stream = futures::stream::unfold(
        (watch, first.parts.into_iter()),
        |(mut watch, mut pieces)| async move {
            loop {
                if let Some(piece) = pieces.next() {
                    return Some((Ok::<Bytes, std::convert::Infallible>(piece), (watch, pieces)));
                }
                match watch.records().await {
                    Ok(records) => pieces = records.into_iter(),
                    Err(cut) => {
                        tracing::info!(subscriber = watch.id, reason = %cut, "closing a stream of operator events");
                        return None;
                    }
                }
            }
        },
    );
    let headers = [(header::CONTENT_TYPE, encoding.mime()), (header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, headers, Body::from_stream(stream)).into_response())
}

/// A watch, and what its stream begins with.
pub(crate) async fn begin(
    context: &Context,
    encoding: Encoding,
) -> Result<(Watch, crate::view::Answer), Response> {
    context
        .readers
        .make(move |view| {
            let mut watch = view.watch(encoding);
            let first = watch.subscribed();
            (watch, first)
        })
        .await
}
