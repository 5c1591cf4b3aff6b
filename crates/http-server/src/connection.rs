//! A socket that does not wait for its peer for ever.
//!
//! hyper's own time limit for heads is not used: it runs between requests as well, and not before
//! the protocol is known, so that a peer which sends nothing at all would never be overdue.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::gate::Admitted;
use crate::limits::Limits;

/// What HTTP/2 connections begin with: enough of it to tell.
const HTTP2: &[u8] = b"PRI * H";

/// Told to an HTTP/1.1 peer whose request does not come to an end.
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 36\r\n\r\n\
    the request took too long to arrive\n";

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    limits: Limits,
    admitted: Arc<Admitted>,
    reading: Reading,
    read_deadline: Deadline,
    write_deadline: Deadline,
}

#[derive(Debug)]
struct Reading {
    /// Bytes since the last request, or since the beginning; for telling only whether there were any.
    head: usize,
    /// As much of the first bytes as is needed to tell the protocol.
    first: [u8; HTTP2.len()],
    length: usize,
    /// Requests when this was looked at last.
    requests: u64,
}

/// A timer that exists while it is needed.
#[derive(Debug, Default)]
struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    runs: bool,
}

impl Deadline {
    fn start(&mut self, at: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
        self.runs = true;
    }

    fn stop(&mut self) {
        self.runs = false;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) if self.runs => sleep.as_mut().poll(context),
            _ => Poll::Pending,
        }
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, limits: Limits, admitted: Arc<Admitted>) -> Connection {
        let reading = Reading { head: 0, first: [0; HTTP2.len()], length: 0, requests: 0 };
        let mut read_deadline = Deadline::default();
        read_deadline.start(Instant::now() + limits.head);
        let write_deadline = Deadline::default();
        Connection { stream, limits, admitted, reading, read_deadline, write_deadline }
    }

    fn is_http2(&self) -> bool {
        self.reading.length == HTTP2.len() && self.reading.first == HTTP2
    }

    /// Sets the deadline that follows from where the connection stands.
    fn watch(&mut self) {
        let requests = self.admitted.requests();
        if self.admitted.is_busy() {
            self.read_deadline.stop();
        } else if self.reading.requests != requests {
            self.reading.requests = requests;
            self.reading.head = 0;
            self.read_deadline.start(Instant::now() + self.limits.idle);
        }
    }

    fn overdue(&mut self, context: &mut Context<'_>, what: &'static str) -> io::Error {
        self.admitted.gate().count_overdue();
        if self.reading.head > 0 && !self.is_http2() && !self.admitted.is_busy() {
            // A courtesy: nothing has been answered, so that this is not in the middle of anything.
            let _ = Pin::new(&mut self.stream).poll_write(context, TIMEOUT);
        }
        io::Error::new(io::ErrorKind::TimedOut, what)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.watch();
        if this.read_deadline.poll(context).is_ready() {
            return Poll::Ready(Err(
                this.overdue(context, "the peer did not send a request in time")
            ));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return read;
        }
        let reading = &mut this.reading;
        let part = new.len().min(HTTP2.len() - reading.length);
        reading.first[reading.length..][..part].copy_from_slice(&new[..part]);
        reading.length += part;
        let first = reading.head == 0;
        reading.head = reading.head.saturating_add(new.len());
        // On HTTP/2 there is more than heads: answers to pings, for one.
        let begins = first && this.admitted.requests() > 0 && !this.is_http2();
        if begins && !this.admitted.is_busy() {
            this.read_deadline.start(Instant::now() + this.limits.head);
        }
        read
    }
}

impl Connection {
    /// What a write came to: a peer that takes nothing runs out of time.
    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline.stop();
            return result;
        }
        if !self.write_deadline.runs {
            self.write_deadline.start(Instant::now() + self.limits.peer);
        }
        if self.write_deadline.poll(context).is_ready() {
            self.admitted.gate().count_overdue();
            let error = io::Error::new(io::ErrorKind::TimedOut, "the peer does not read");
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::gate::Gate;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_runs_out_of_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let gate = Gate::new(8);
        let limits = Limits { peer: Duration::from_millis(100), ..Limits::new(8) };
        let mut connection = Connection::new(stream, limits, gate.admit().unwrap());
        // Without the kernel's own limit on this socket: the one under test is alone.
        let error = loop {
            match connection.write(&[7; 64 * 1024]).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the peer does not read");
        assert_eq!(gate.overdue(), 1);
        drop(peer);
    }
}
