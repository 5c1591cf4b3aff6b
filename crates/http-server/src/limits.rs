//! Every limit of a port. `docs/limits.md` shows them to operators.

use std::time::Duration;

/// Headers together on HTTP/2. Mesos' clients send a few hundred bytes, a token a few thousand.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
/// Request line and headers together on HTTP/1.1. hyper also writes so much of an answer at a time: with 64 KiB the
/// state of a large cluster took a third longer.
pub(crate) const HTTP1_BUFFER: usize = 256 * 1024;
/// Headers of one request.
pub(crate) const HEADERS: usize = 100;

/// Requests at a time on one HTTP/2 connection: a process may carry many frameworks or agents.
pub(crate) const STREAMS: u32 = 1024;
/// Bytes that a peer may send on one HTTP/2 stream, and on all of a connection, before they are read.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for an HTTP/2 peer to read; the rest is not made before.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a peer opened and reset before they were looked at; more end the connection.
pub(crate) const PENDING_RESETS: usize = 32;
/// Streams that were reset because the peer broke the protocol; more end the connection.
pub(crate) const ERROR_RESETS: usize = 64;

/// How long a peer that is silent is believed to be there, unless an operator says otherwise. Later than the
/// master's own pings find an agent unreachable (75 s): to it, a broken connection is better news.
const PEER: Duration = Duration::from_secs(120);
/// The least that an operator may say: below, a busy machine is taken for a dead one.
pub const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Bytes of a request or answer that count for nothing: with this, small requests are served
/// however much memory large ones hold.
pub const FREE_BYTES: usize = 64 * 1024;
/// Memory that all larger requests and answers of a port hold at a time: two of the largest decoded.
pub const MEMORY_BYTES: usize = 512 * 1024 * 1024;

/// Waits of the accept loop when the process or the kernel has no more descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines of the log about connections that cannot be accepted, are turned away, or are closed to
/// make room.
pub(crate) const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// Limits that differ between ports, or that tests make smaller.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// From a connection's beginning to its first complete request head, and from the first byte of a
    /// later head to its end.
    pub head: Duration,
    /// Between requests on a connection that has had one.
    pub idle: Duration,
    /// For a body, or one message of a gRPC stream: this, and what [`body_rate`](Self::body_rate) adds.
    pub body: Duration,
    /// Bytes a second that are fast enough for a large body.
    pub body_rate: u32,
    /// A peer that takes or acknowledges nothing of what is sent for so long is gone, and so is one that
    /// answers no ping (HTTP/2, asked after half of it) or probe (TCP, up to as long again).
    pub peer: Duration,
}

impl Limits {
    /// The usual limits for so many connections.
    pub const fn new(connections: usize) -> Limits {
        Limits {
            connections,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            body: Duration::from_secs(30),
            body_rate: 64 * 1024,
            peer: PEER,
        }
    }

    /// How long `bytes` of a body may take.
    pub(crate) fn body_time(&self, bytes: u64) -> Duration {
        self.body + Duration::from_secs(bytes / u64::from(self.body_rate))
    }
}
