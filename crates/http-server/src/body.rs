//! Reading a request's body, and giving an answer's, within limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::budget::{Budget, Busy, Charge};
use crate::limits::Limits;

/// A body that was read.
#[derive(Debug)]
pub struct Received {
    pub bytes: Bytes,
    /// Keep it as long as anything made of the body is kept.
    pub charge: Charge,
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyRefusal {
    #[error("the body has more than {limit} bytes, which is the limit")]
    TooLong { limit: usize },
    #[error("the body took too long: {received} bytes arrived in {} s", .time.as_secs())]
    TooSlow { received: usize, time: Duration },
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the body could not be read: {0}")]
    Broken(axum::Error),
}

impl BodyRefusal {
    /// The code that the peer is told.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyRefusal::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyRefusal::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            BodyRefusal::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            BodyRefusal::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a body to its end.
///
/// # Errors
/// It has more than `limit` bytes, does not arrive in time, there is no memory for it, or the peer broke
/// off; see [`BodyRefusal::status`].
pub async fn read_body(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    limits: &Limits,
    budget: &Budget,
) -> Result<Received, BodyRefusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(BodyRefusal::TooLong { limit });
    }
    let begun = Instant::now();
    let mut charge = Charge::default();
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let received = first.as_ref().map_or(whole.len(), Bytes::len);
        let time = limits.body_time(received as u64);
        // Cancel-safe: a frame is received or it is not.
        let Ok(frame) = timeout_at(begun + time, body.frame()).await else {
            return Err(BodyRefusal::TooSlow { received, time });
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(BodyRefusal::Broken)?.into_data() else { continue };
        let length = received + data.len();
        if length > limit {
            return Err(BodyRefusal::TooLong { limit });
        }
        charge.grow(budget, length)?;
        // Most bodies are one piece, which need not be copied.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            before => {
                whole.extend_from_slice(&before.unwrap_or_default());
                whole.extend_from_slice(&data);
            }
        }
    }
    let bytes = first.unwrap_or_else(|| whole.freeze());
    Ok(Received { bytes, charge })
}

/// An answer that counts as memory until it has been sent.
///
/// # Errors
/// It is large, and others hold too much.
pub fn answer_body(bytes: Bytes, budget: &Budget) -> Result<Body, Busy> {
    let charge = budget.charge(bytes.len())?;
    Ok(Body::new(Charged { bytes: Some(bytes), _charge: charge }))
}

struct Charged {
    bytes: Option<Bytes>,
    _charge: Charge,
}

/// Pieces of an answer: hyper keeps a piece until all of it has been sent.
const PIECE: usize = 64 * 1024;

impl HttpBody for Charged {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.bytes.as_mut().map(|rest| rest.split_to(rest.len().min(PIECE)));
        if self.bytes.as_ref().is_some_and(Bytes::is_empty) {
            self.bytes = None;
        }
        Poll::Ready(piece.filter(|piece| !piece.is_empty()).map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { body: Duration::from_millis(50), body_rate: 1024, ..Limits::new(8) };

    async fn read(body: Body, limit: usize) -> Result<Bytes, BodyRefusal> {
        let budget = Budget::new(256 * 1024);
        let read = read_body(&HeaderMap::new(), body, limit, &LIMITS, &budget).await;
        read.map(|received| received.bytes)
    }

    fn pieces(count: usize) -> Body {
        let piece = || Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b'x'; 1000])));
        let frames = (0..count).map(move |_| piece());
        Body::new(http_body_util::StreamBody::new(tokio_stream_of(frames)))
    }

    fn tokio_stream_of<T>(
        items: impl Iterator<Item = T> + Unpin,
    ) -> impl futures::Stream<Item = T> + Unpin {
        futures::stream::iter(items)
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        assert_eq!(read(Body::empty(), 0).await.unwrap(), "");
        assert_eq!(read(Body::from("hello"), 5).await.unwrap(), "hello");
        assert_eq!(read(pieces(3), 3000).await.unwrap().len(), 3000);
        let error = read(pieces(3), 2999).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(error.to_string().contains("2999 bytes"), "{error}");
        let error = read(pieces(1000), 2_000_000).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE, "{error}");
    }

    #[tokio::test]
    async fn what_is_announced_too_long_is_not_even_read() {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "101".parse().unwrap())]);
        let body = Body::from("never looked at");
        let read = read_body(&headers, body, 100, &LIMITS, &Budget::new(0)).await;
        assert!(matches!(read, Err(BodyRefusal::TooLong { limit: 100 })), "{read:?}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let error = read(Body::new(http_body_util::StreamBody::new(never)), 10).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT, "{error}");
    }

    #[tokio::test]
    async fn a_large_answer_is_charged_until_it_is_sent() {
        let budget = Budget::new(300_000);
        let bytes = Bytes::from(vec![b'y'; 200_000]);
        let first = answer_body(bytes.clone(), &budget).unwrap();
        answer_body(bytes.clone(), &budget).unwrap_err();
        assert_eq!(first.collect().await.unwrap().to_bytes(), bytes);
        drop(answer_body(bytes, &budget).unwrap());
        assert!(answer_body(Bytes::new(), &budget).unwrap().is_end_stream());
    }
}
