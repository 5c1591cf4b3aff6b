//! Making answers out of the readers' copy, off the loop and few at a time, and sending them.

use std::sync::Arc;
use std::thread::available_parallelism;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, StatusCode, header};
use mezzo_http_server::{Budget, Leases};
use std::io::Write;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::scheduler_http::{refuse, unavailable};
use crate::view::{Answer, View};

/// What those who read slowly may hold of what others have replaced since, in bytes: some states of a large cluster.
const SLOW_BYTES: usize = 1024 * 1024 * 1024;
/// Answers that are compressed at a time. Beyond it answers are sent as they are, which is always right.
const PACKERS: usize = 4;
/// An answer below is not worth compressing (libprocess has the same number).
const PACK_MIN: usize = 1024;
/// Bytes of an answer that are given to the compressor, and to the connection, at a time.
const PACK_PIECE: usize = 64 * 1024;
/// Compressed pieces that wait for the connection.
const PACKED_AHEAD: usize = 4;

/// What all readers share.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    view: View,
    /// Answers that are made at a time: who waits finds done what those before made, and half of the machine stays
    /// for the loop.
    makers: Arc<Semaphore>,
    packers: Arc<Semaphore>,
    leases: Leases,
}

impl Readers {
    pub(crate) fn new(view: View) -> Readers {
        let cores = available_parallelism().map_or(1, usize::from);
        Readers {
            view,
            makers: Arc::new(Semaphore::new((cores / 2).max(1))),
            packers: Arc::new(Semaphore::new(PACKERS)),
            leases: Leases::new(SLOW_BYTES),
        }
    }

    /// Makes an answer of the state as it is when its turn has come.
    ///
    /// # Errors
    /// The answer to give instead.
    pub(crate) async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce(&View) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let failed = || {
            let message = "the answer could not be made; the master's log says why".to_owned();
            refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
        };
        let turn = Arc::clone(&self.makers).acquire_owned().await.map_err(|_| failed())?;
        let view = self.view.clone();
        let made = tokio::task::spawn_blocking(move || {
            let made = make(&view);
            drop(turn);
            made
        });
        made.await.map_err(|_| failed())
    }

    /// Sends an answer, compressed if the caller can read that and it is worth it.
    pub(crate) fn send(
        &self,
        answer: Answer,
        kind: &str,
        headers: &HeaderMap,
        budget: &Budget,
    ) -> Response {
        let kind = [(header::CONTENT_TYPE, kind)];
        if answer.bytes >= PACK_MIN
            && takes_gzip(headers)
            && let Ok(turn) = Arc::clone(&self.packers).try_acquire_owned()
        {
            let encoding = [(header::CONTENT_ENCODING, "gzip"), (header::VARY, "Accept-Encoding")];
            return (kind, encoding, packed(answer.parts, turn)).into_response();
        }
        match self.leases.body(answer.parts, budget) {
            Ok(body) => (kind, body).into_response(),
            Err(busy) => unavailable(&busy),
        }
    }
}

/// A body that is compressed as it is read.
fn packed(parts: Vec<Bytes>, turn: OwnedSemaphorePermit) -> Body {
    let (sender, pieces) = mpsc::channel::<std::io::Result<Bytes>>(PACKED_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut packer = GzEncoder::new(Vec::with_capacity(PACK_PIECE), Compression::fast());
        let pack = |packer: &mut GzEncoder<Vec<u8>>| -> std::io::Result<()> {
            for piece in parts.iter().flat_map(|part| part.chunks(PACK_PIECE)) {
                packer.write_all(piece)?;
                if packer.get_ref().len() >= PACK_PIECE {
                    let full = std::mem::take(packer.get_mut());
                    if sender.blocking_send(Ok(full.into())).is_err() {
                        // The peer is gone.
                        return Err(std::io::ErrorKind::BrokenPipe.into());
                    }
                }
            }
            Ok(())
        };
        if pack(&mut packer).is_ok() {
            let last = packer.finish().map(Bytes::from);
            // The peer may be gone.
            sender.blocking_send(last).ok();
        }
        drop(turn);
    });
    Body::from_stream(ReceiverStream::new(pieces))
}

/// Whether the caller can read gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().any(|value| {
        let value = String::from_utf8_lossy(value.as_bytes());
        value.split(',').any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let refused = parts.any(|parameter| {
                let weight =
                    parameter.strip_prefix("q=").and_then(|q| q.trim().parse::<f64>().ok());
                weight == Some(0.0)
            });
            named && !refused
        })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("body").to_vec()
    }

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().expect("value"))])
    }

    #[test]
    fn gzip_is_for_those_who_ask() {
        for (value, takes) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("deflate", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&headers(value)), takes, "{value}");
        }
    }

    #[tokio::test]
    async fn answers_are_the_same_with_and_without_gzip() {
        let readers = Readers::new(View::default());
        let budget = Budget::new(1 << 20);
        let parts: Vec<Bytes> =
            (0..300_u32).map(|at| Bytes::from(at.to_string().repeat(1000))).collect();
        let whole = parts.concat();
        let answer = Answer { bytes: whole.len(), parts };
        let plain = readers.send(answer.clone(), "application/json", &HeaderMap::new(), &budget);
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        assert_eq!(body(plain).await, whole);
        let packed = readers.send(answer, "application/json", &headers("gzip"), &budget);
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*body(packed).await)
            .read_to_end(&mut unpacked)
            .expect("gzip");
        assert_eq!(unpacked, whole);
        let small = readers.send(vec![b'x'; 10].into(), "text/plain", &headers("gzip"), &budget);
        assert!(small.headers().get(header::CONTENT_ENCODING).is_none());
    }
}
