//! Accepting and serving.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::budget::Budget;
use crate::connection::Connection;
use crate::frames::Frames;
use crate::gate::{Admitted, Busy, Gate};
use crate::limits::{
    ACCEPT_PAUSE, CONNECTION_WINDOW, ERROR_RESETS, HEAD_BYTES, HEADERS, HTTP1_BUFFER, Limits,
    PENDING_RESETS, SEND_BUFFER, STREAM_WINDOW, STREAMS,
};

/// Told to a peer for whom there is no room.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nContent-Length: 44\r\n\r\n\
    too many connections are open; try it later\n";

/// Serves for ever: it ends when it is dropped, and with it all connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    gate: Gate,
    budget: Budget,
) -> Infallible {
    let builder = Arc::new(builder(limits.peer));
    // Aborts what it holds when it is dropped.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Both arms are cancel-safe.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The peer has gone before it was its turn.
            Err(error) if is_the_peers(&error) => continue,
            Err(error) => {
                // Somebody must go; what waits in the backlog waits. Without a pause this would spin: the
                // kernel does not tell when there is a descriptor again.
                gate.displace();
                gate.report_failure(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(admitted) = gate.admit() else {
            // As much as its socket takes at once; it is told or it is not.
            let _ = stream.try_write(FULL);
            continue;
        };
        if let Err(error) = prepare(&stream, limits.peer) {
            tracing::debug!(%error, "could not set the options of a connection");
        }
        let connection = Connection::new(stream, limits, Arc::clone(&admitted));
        let served = Served {
            router: router.clone(),
            limits,
            admitted: Arc::clone(&admitted),
            budget: budget.clone(),
        };
        let builder = Arc::clone(&builder);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| served.clone().answer(request));
            let serving = builder.serve_connection(TokioIo::new(connection), service);
            tokio::pin!(serving);
            loop {
                // A wait for a notice and a connection that goes on: neither loses anything.
                tokio::select! {
                    result = &mut serving => {
                        if let Err(error) = result {
                            tracing::debug!(error, "a connection was closed");
                        }
                        return;
                    }
                    () = admitted.told_to_leave() => {
                        if !admitted.is_busy() {
                            tracing::debug!("a connection without a request made room");
                            return;
                        }
                    }
                }
            }
        });
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// No delay: an event is one small write that somebody waits for. And whoever does not acknowledge what
/// is sent, or has vanished, is gone for the kernel, too.
fn prepare(stream: &TcpStream, peer: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(peer))?;
    // With both, the kernel ends a connection at the first probe that comes due when that time is over. It
    // counts in whole seconds.
    let interval = (peer / 3).max(Duration::from_secs(1));
    let probes = TcpKeepalive::new().with_time(peer).with_interval(interval).with_retries(3);
    socket.set_tcp_keepalive(&probes)
}

fn builder(peer: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // See `connection`.
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER)
        .max_headers(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(peer / 2)
        .keep_alive_timeout(peer / 2);
    builder
}

/// What answers the requests of one connection.
#[derive(Debug, Clone)]
struct Served {
    router: Router,
    limits: Limits,
    admitted: Arc<Admitted>,
    budget: Budget,
}

impl Served {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let busy = self.admitted.request();
        let grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let (limits, budget) = (self.limits, self.budget);
        let request = request.map(|body| match grpc {
            true => Body::new(Frames::new(body, limits, budget)),
            false => Body::new(body),
        });
        let response = self.router.oneshot(request).await?;
        Ok(response.map(|body| Body::new(Answer { body, _busy: busy })))
    }
}

/// The request is over when its answer has been sent or given up.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
