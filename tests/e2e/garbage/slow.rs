//! Peers that take their time.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mezzo_tests::{Cluster, Options};

use super::{Baseline, PATIENCE, check_service, connect, read_to_end};
use crate::framework::Probe;

const HEAD: &str =
    "POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// Sends a byte now and then until the daemon has had enough; returns what it said.
fn drip(address: &str, text: &str) -> String {
    let mut stream = connect(address);
    let end = Instant::now() + PATIENCE;
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    for byte in text.as_bytes().iter().cycle() {
        assert!(Instant::now() < end, "the connection stays open");
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn slow_heads_and_bodies_and_silence_run_out_of_time() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let baseline = Baseline::of(&cluster);
    let mut peers = Vec::new();
    for address in [cluster.address().to_owned(), cluster.agent_address().to_owned()] {
        let silent = address.clone();
        peers.push(tokio::task::spawn_blocking(move || {
            let said = read_to_end(&mut connect(&silent));
            assert!(said.is_empty(), "silence is answered with {said:?}");
        }));
        let head = address.clone();
        peers.push(tokio::task::spawn_blocking(move || {
            let said = drip(&head, "GET /health HTTP/1.1\r\nX: ");
            assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
        }));
        let preface = address.clone();
        peers.push(tokio::task::spawn_blocking(move || {
            // HTTP/2 that begins and then neither answers pings nor asks for anything.
            let mut stream = connect(&preface);
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .expect("sends");
            read_to_end(&mut stream);
        }));
        peers.push(tokio::task::spawn_blocking(move || {
            let path = address.clone();
            let mut stream = connect(&path);
            let request = HEAD.replace("/api/v1/scheduler", "/api/v1");
            write!(stream, "{request}Content-Length: 1000\r\n\r\n{{").expect("sends");
            let said = String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned();
            assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
            assert!(said.contains("1 bytes arrived"), "{said:?}");
        }));
    }
    check_service(&mut probe, "during", 5).await;
    for peer in peers {
        peer.await.expect("as expected");
    }
    baseline.await_files(0);
}

/// A framework that subscribes and does not read, while there is much to tell it.
#[tokio::test]
async fn a_slow_reader_of_events_is_disconnected_with_a_reason() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    check_service(&mut probe, "before", 1).await;
    let baseline = Baseline::of(&cluster);
    let address = cluster.address().to_owned();
    let slow = tokio::task::spawn_blocking(move || {
        let subscribe =
            r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"slow"}}}"#;
        let mut stream = connect(&address);
        write!(
            stream,
            "{HEAD}Connection: close\r\nContent-Length: {}\r\n\r\n{subscribe}",
            subscribe.len()
        )
        .expect("sends");
        // As far as the framework's id, which calls need.
        let mut said = String::new();
        let mut buffer = [0; 1];
        while !said.contains("\"framework_id\":{\"value\":\"") || !said.ends_with("\"}") {
            stream.read_exact(&mut buffer).expect("SUBSCRIBED");
            said.push(char::from(buffer[0]));
        }
        let after = |mark: &str| {
            let at = said.find(mark).expect("is there") + mark.len();
            said[at..].split(['"', '\r']).next().expect("a value").to_owned()
        };
        let id = after("\"framework_id\":{\"value\":\"");
        let lowercase = said.to_lowercase();
        let at = lowercase.find("mesos-stream-id: ").expect("a stream id") + 17;
        let name = said[at..].split('\r').next().expect("a value").to_owned();
        // Each task that nobody knows is an event.
        let tasks: Vec<String> = (0..4000)
            .map(|n| format!(r#"{{"task_id":{{"value":"{n}-{}"}}}}"#, "x".repeat(100)))
            .collect();
        let call = format!(
            r#"{{"type":"RECONCILE","framework_id":{{"value":"{id}"}},"reconcile":{{"tasks":[{}]}}}}"#,
            tasks.join(",")
        );
        let mut refused = false;
        for _ in 0..40 {
            let mut caller = connect(&address);
            write!(
                caller,
                "{HEAD}Connection: close\r\nMesos-Stream-Id: {name}\r\nContent-Length: {}\r\n\r\n{call}",
                call.len()
            )
            .expect("sends");
            let answer = String::from_utf8_lossy(&read_to_end(&mut caller)).into_owned();
            // Its stream is gone, and with it, at once, the framework, which has no time to come back.
            if answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400") {
                refused = true;
                break;
            }
            assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        }
        assert!(refused, "forty times four thousand events fit somewhere");
        let rest = String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned();
        assert!(
            rest.contains("the scheduler reads too slowly"),
            "no reason in {} bytes",
            rest.len()
        );
    });
    slow.await.expect("as expected");
    check_service(&mut probe, "after", 3).await;
    baseline.await_files(0);
    // The queue, what it was made of, and what the allocator keeps of both.
    baseline.check_memory(96 * 1024 * 1024);
}
