//! Listens in on a client of the v1 HTTP API: a relay in front of a daemon that writes down what is said.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// What was said, in the order in which it was begun.
#[derive(Debug, Clone)]
pub enum Said {
    /// By the client: method and path, the body if it is JSON, and the code of the answer once there is one.
    Call { what: String, body: Option<Value>, code: Option<u16>, answer: String },
    /// By the daemon, on a stream.
    Event(Value),
}

type Record = Arc<Mutex<Vec<Said>>>;

/// A relay to a daemon. Connections are relayed until either side closes.
pub struct Wiretap {
    address: String,
    record: Record,
}

impl Wiretap {
    /// Listens on a port of its own, and relays to `daemon`.
    pub fn before(daemon: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let record = Record::default();
        let (of_all, daemon) = (Arc::clone(&record), daemon.to_owned());
        // Ends with the process: the listener is waited on for as long.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&daemon) else { continue };
                relay(&client, &upstream, &of_all);
            }
        });
        Self { address, record }
    }

    /// `host:port` for the client.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All that was said so far.
    pub fn said(&self) -> Vec<Said> {
        lock(&self.record).clone()
    }
}

fn lock(record: &Record) -> std::sync::MutexGuard<'_, Vec<Said>> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Relays both ways, on two threads; the calls of the connection are shared by both, oldest first.
fn relay(client: &TcpStream, upstream: &TcpStream, record: &Record) {
    let calls: Arc<Mutex<Vec<usize>>> = Arc::default();
    let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    for (mut from, mut to, of_client) in
        [(clone(client), clone(upstream), true), (clone(upstream), clone(client), false)]
    {
        let (record, calls) = (Arc::clone(record), Arc::clone(&calls));
        std::thread::spawn(move || {
            let mut heard = Vec::new();
            let mut buffer = [0; 64 * 1024];
            let mut chunked = false;
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..count]);
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                if of_client {
                    hear_calls(&mut heard, &record, &mut calls);
                } else {
                    hear_answers(&mut heard, &mut chunked, &record, &mut calls);
                }
                drop(calls);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            // The other direction ends by itself once its reader is told.
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

/// The head of a message if it is whole: its lines, and where the body begins.
fn head(heard: &[u8]) -> Option<(Vec<String>, usize)> {
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&heard[..end]);
    Some((text.split("\r\n").map(str::to_owned).collect(), end + 4))
}

fn header<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
}

fn length(lines: &[String]) -> usize {
    header(lines, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn hear_calls(heard: &mut Vec<u8>, record: &Record, calls: &mut Vec<usize>) {
    while let Some((lines, begin)) = head(heard) {
        let end = begin + length(&lines);
        if heard.len() < end {
            return;
        }
        let body = serde_json::from_slice(&heard[begin..end]).ok();
        let what = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
        let mut record = lock(record);
        calls.push(record.len());
        record.push(Said::Call { what, body, code: None, answer: String::new() });
        drop(record);
        heard.drain(..end);
    }
}

fn hear_answers(heard: &mut Vec<u8>, chunked: &mut bool, record: &Record, calls: &mut Vec<usize>) {
    loop {
        if *chunked {
            // Each chunk is one record of the stream, and an empty one ends it.
            let Some(line) = heard.windows(2).position(|two| two == b"\r\n") else { return };
            let size = usize::from_str_radix(&String::from_utf8_lossy(&heard[..line]), 16);
            let size = size.expect("the size of a chunk");
            let end = line + 2 + size + 2;
            if heard.len() < end {
                return;
            }
            let chunk = &heard[line + 2..end - 2];
            if let Some(begin) = chunk.iter().position(|byte| *byte == b'\n') {
                let event = serde_json::from_slice(&chunk[begin + 1..]).expect("an event in JSON");
                lock(record).push(Said::Event(event));
            }
            *chunked = size > 0;
            heard.drain(..end);
            continue;
        }
        let Some((lines, begin)) = head(heard) else { return };
        let end = begin + length(&lines);
        if heard.len() < end {
            return;
        }
        *chunked = header(&lines, "transfer-encoding") == Some("chunked");
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok());
        let text = String::from_utf8_lossy(&heard[begin..end]).into_owned();
        if !calls.is_empty()
            && let Some(Said::Call { code, answer, .. }) = lock(record).get_mut(calls.remove(0))
        {
            *code = status;
            *answer = text;
        }
        heard.drain(..end);
    }
}
