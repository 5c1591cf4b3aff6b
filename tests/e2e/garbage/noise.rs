//! What is no request, what is two, and what never was HTTP.

use mezzo_tests::fuzz::Dice;
use mezzo_tests::{Cluster, Options};

use super::{Baseline, check_service, exchange};
use crate::framework::Probe;

/// What an HTTP/2 connection begins with, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const POST: &str =
    "POST /api/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";

/// Memory that a daemon may keep of all the noise: its allocator does not give everything back.
const KEPT: u64 = 96 * 1024 * 1024;

fn status(answer: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(answer.get(..12)?).into_owned();
    line.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Requests that are wrong in a way that proxies and servers have disagreed about, and the answer.
fn wrong() -> Vec<(String, Option<u16>)> {
    let body = "{\"type\":\"GET_HEALTH\"}";
    let with = |headers: &str, body: &str| format!("{POST}{headers}\r\n\r\n{body}");
    vec![
        (with("Content-Length: 21\r\nContent-Length: 5", body), Some(400)),
        (with("Content-Length: 5, 21", body), Some(400)),
        (with("Content-Length: -1", body), Some(400)),
        (with("Content-Length: +21", body), Some(400)),
        (with("Content-Length: 99999999999999999999999", body), Some(400)),
        (with("Content-Length: 18446744073709551614", body), None),
        (with("Content-Length: 68719476736", body), Some(413)),
        (with("Transfer-Encoding: chunked", "zz\r\nabc\r\n0\r\n\r\n"), Some(400)),
        (with("Transfer-Encoding: chunked", "-1\r\n\r\n0\r\n\r\n"), Some(400)),
        (with("Transfer-Encoding: chunked", "ffffffffffffffff1\r\nabc"), Some(400)),
        (with("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), Some(400)),
        (with("Transfer-Encoding: gzip", "x"), Some(400)),
        (format!("POST /api/v1\0 HTTP/1.1\r\nHost: x\r\n\r\n{body}"), Some(400)),
        ("GET /health HTTP/1.1\r\nHost: x\0y\r\n\r\n".to_owned(), Some(400)),
        ("GET /health HTTP/1.1\r\nA B: x\r\n\r\n".to_owned(), Some(400)),
        ("GET /health HTTP/9.9\r\n\r\n".to_owned(), Some(400)),
        ("GET  /health\r\n\r\n".to_owned(), Some(400)),
        ("\r\n\r\n\r\n\r\nx".to_owned(), None),
        (format!("GET /health HTTP/1.1\r\nBig: {}\r\n\r\n", "x".repeat(1 << 20)), Some(431)),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)), None),
        (format!("GET /health HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200)), Some(431)),
        (with("Content-Length: 21", "{\"type\":\"GET_HEALTH\""), None),
        (with("Content-Length: 4", "\u{1}\u{2}\u{3}\u{4}"), Some(400)),
        (with("Content-Length: 200", &"[".repeat(200)), Some(400)),
    ]
}

/// Where both headers are there, the length is not believed: there must be one request, not two.
fn check_smuggling(address: &str) {
    let inner = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    let text = format!(
        "{POST}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let answer = exchange(address, text.as_bytes(), true);
    let answers = String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count();
    assert!(answers <= 1, "two answers: {}", String::from_utf8_lossy(&answer));
}

/// HTTP/2 that breaks its rules, or floods within them.
fn http2(dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut all = vec![
        PREFACE[..10].to_vec(),
        [PREFACE, &dice.bytes(5000)].concat(),
        // A frame as long as can be said, a window of nothing, settings of an odd size.
        [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        [PREFACE, &frame(8, 0, 0, &[0; 4])].concat(),
        [PREFACE, &frame(4, 0, 0, &[1, 2, 3])].concat(),
        // Data, a reset and a continuation on streams that are not there.
        [PREFACE, &frame(0, 1, 1, b"hello")].concat(),
        [PREFACE, &frame(3, 0, 7, &[0; 4])].concat(),
        [PREFACE, &frame(9, 4, 1, &[0x82])].concat(),
        // Headers that are no HPACK, and ones that never end.
        [PREFACE, &frame(1, 5, 1, &dice.bytes(100))].concat(),
        [PREFACE, &frame(1, 0, 1, &[0x82]), &frame(9, 0, 1, &[0x86; 16_000]).repeat(200)].concat(),
        // Floods: pings, settings, streams that are opened and reset.
        [PREFACE, &frame(6, 0, 0, &[7; 8]).repeat(50_000)].concat(),
        [PREFACE, &frame(4, 0, 0, &[]).repeat(50_000)].concat(),
    ];
    let mut resets = PREFACE.to_vec();
    for stream in (1..20_000).step_by(2) {
        // GET / by indices of the static table.
        resets.extend(frame(1, 5, stream, &[0x82, 0x84, 0x86]));
        resets.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    all.push(resets);
    all
}

#[tokio::test]
async fn noise_on_every_port_is_an_error_for_its_sender_alone() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    check_service(&mut probe, "before", 3).await;
    let baseline = Baseline::of(&cluster);
    let fresh = u64::from(std::process::id()) << 32 | u64::from(cluster.address().len() as u32);
    println!("seed of the noise: {fresh}");
    let addresses = [cluster.address().to_owned(), cluster.agent_address().to_owned()];
    let noise = addresses.map(|address| {
        tokio::task::spawn_blocking(move || {
            for (request, expected) in wrong() {
                // Where an answer is expected, the daemon closes.
                let answer = exchange(&address, request.as_bytes(), expected.is_none());
                if let Some(expected) = expected {
                    let shown = &request[..request.len().min(200)];
                    assert_eq!(status(&answer), Some(expected), "{address}: {shown:?}");
                }
            }
            check_smuggling(&address);
            for seed in [1, 2, 3, fresh] {
                let mut dice = Dice::new(seed);
                for bytes in http2(&mut dice) {
                    exchange(&address, &bytes, true);
                }
                for _ in 0..40 {
                    let length = dice.below(20_000);
                    exchange(&address, &dice.bytes(length), true);
                }
            }
        })
    });
    check_service(&mut probe, "during", 20).await;
    for noise in noise {
        noise.await.expect("as expected");
    }
    check_service(&mut probe, "after", 3).await;
    baseline.await_files(0);
    baseline.check_memory(KEPT);
}
