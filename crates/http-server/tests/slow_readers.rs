//! Peers that ask for much and take little: what is made for them is bounded, and who takes nothing is
//! dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use mezzo_http_server::{Budget, Gate, Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const PIECE: usize = 64 * 1024;
/// What both kernel buffers of a connection may hold (`tcp_wmem`, `tcp_rmem`: 4 and 6 MiB), and the server.
const ON_THE_WAY: usize = 12 * 1024 * 1024;

/// A server whose `/endless` makes pieces for as long as they are taken, and drops peers that take none
/// for `peer`.
struct Server {
    address: SocketAddr,
    made: Arc<AtomicUsize>,
    gate: Gate,
}

impl Server {
    async fn start(peer: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let endless = move || async move {
            let pieces = futures::stream::repeat_with(move || {
                count.fetch_add(PIECE, Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; PIECE]))
            });
            Body::from_stream(pieces)
        };
        let router =
            Router::new().route("/endless", get(endless)).route("/", get(|| async { "here" }));
        let gate = Gate::new(8);
        let limits = Limits { peer, ..Limits::new(8) };
        tokio::spawn(serve(listener, router, limits, gate.clone(), Budget::new(1 << 20)));
        Server { address, made, gate }
    }

    async fn ask(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    async fn await_end_of_all(&self) {
        let end = Instant::now() + PATIENCE;
        while self.gate.open() > 0 {
            assert!(Instant::now() < end, "{} connections are open", self.gate.open());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn check_others(&self) {
        let mut other = self.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let mut said = String::new();
        timeout(PATIENCE, other.read_to_string(&mut said)).await.unwrap().unwrap();
        assert!(said.ends_with("here"), "{said}");
    }
}

#[tokio::test]
async fn who_takes_nothing_is_dropped_and_little_is_made_for_him() {
    let server = Server::start(Duration::from_millis(300)).await;
    let request = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n";
    let lazy = [server.ask(request).await, server.ask(request).await];
    server.check_others().await;
    server.await_end_of_all().await;
    let made = server.made();
    assert!((PIECE..2 * ON_THE_WAY).contains(&made), "{made} bytes were made");
    server.check_others().await;
    assert_eq!(server.made(), made, "nothing is made for those who are gone");
    drop(lazy);
}

/// Such a peer takes bytes off the connection, so that it stays; it gets what it has a window for.
#[tokio::test]
async fn an_http2_stream_without_a_window_costs_one_buffer() {
    let server = Server::start(PATIENCE).await;
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // GET http://x/endless, by the static table but for the path and the authority.
    let head = [&[0x82, 0x86, 0x04, 8][..], b"/endless", &[0x01, 1], b"x"].concat();
    request.extend([0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    request.extend(&head);
    let mut peer = server.ask(&request).await;
    // The window that a stream has unless more is given, and the heads of frames.
    let mut taken = 0;
    let mut buffer = vec![0; PIECE];
    while taken < 65_535 {
        let length = timeout(PATIENCE, peer.read(&mut buffer)).await.unwrap().unwrap();
        assert!(length > 0, "closed after {taken} bytes");
        taken += length;
    }
    server.check_others().await;
    assert!(server.made() <= 65_535 + 3 * PIECE, "{} bytes were made", server.made());
    assert_eq!(server.gate.open(), 1);
    drop(peer);
    server.await_end_of_all().await;
}
