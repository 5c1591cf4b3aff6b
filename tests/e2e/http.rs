//! The v1 HTTP API as Mesos clients see it: codes, headers, chunks, both encodings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, Event, call};
use mezzo_tests::{Cluster, Options};
use prost::Message;

pub(crate) struct Answer {
    pub(crate) code: u16,
    headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// One chunk of a chunked body.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a chunk");
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).expect("a chunk's bytes");
        chunk.truncate(size);
        chunk
    }

    /// One record, which must be exactly one chunk.
    pub(crate) fn record(&mut self) -> Vec<u8> {
        let chunk = self.chunk();
        let end = chunk.iter().position(|b| *b == b'\n').expect("a length");
        let length: usize =
            std::str::from_utf8(&chunk[..end]).expect("digits").parse().expect("a number");
        assert_eq!(chunk.len() - end - 1, length, "a record is one chunk");
        chunk[end + 1..].to_vec()
    }

    pub(crate) fn body(mut self) -> String {
        let length = self.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).expect("the body");
        String::from_utf8_lossy(&body).into_owned()
    }
}

pub(crate) fn request(
    cluster: &Cluster,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    request_to(cluster.address(), method, path, headers, body)
}

pub(crate) fn request_to(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(body).expect("sends");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let code = line.split(' ').nth(1).expect("a code").parse().expect("a number");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Answer { code, headers, reader }
}

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
pub(crate) const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
pub(crate) const SCHEDULER: &str = "/api/v1/scheduler";

#[test]
fn the_scheduler_endpoint_refuses_in_mesos_order() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let check = |method: &str, headers: &[(&str, &str)], body: &str, code: u16, part: &str| {
        let answer = request(&cluster, method, SCHEDULER, headers, body.as_bytes());
        assert_eq!(answer.code, code, "{method} {headers:?} {body}");
        let text = answer.body();
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    };
    check("GET", &[], "", 405, "POST");
    check("POST", &[], "{}", 400, "Expecting 'Content-Type' to be present");
    check("POST", &[("Content-Type", "text/plain")], "{}", 415, "application/json");
    check("POST", &[JSON], "{", 400, "Failed to parse");
    check("POST", &[JSON], "{}", 400, "Expecting 'type' to be present");
    check("POST", &[PROTOBUF], "\u{1}garbage", 400, "Failed to parse");
    check(
        "POST",
        &[JSON],
        r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u"}}}"#,
        400,
        "name",
    );
    let subscribe =
        r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}"#;
    check("POST", &[JSON, ("Accept", "text/html")], subscribe, 406, "Accept");
    check("POST", &[JSON, ("Mesos-Stream-Id", "x")], subscribe, 400, "Mesos-Stream-Id");
    let revive = r#"{"type":"REVIVE","framework_id":{"value":"nobody"}}"#;
    check("POST", &[JSON], revive, 400, "Framework cannot be found");
}

#[test]
fn a_json_subscription_streams_records_as_chunks_and_calls_are_accepted() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let subscribe = br#"{"type":"SUBSCRIBE","subscribe":{"framework_info":
        {"user":"root","name":"n","failover_timeout":604800,"id":null}}}"#;
    let headers = [JSON, ("Accept", "application/json"), ("Connection", "close")];
    let path = "/master/api/v1/scheduler/";
    let mut stream = request(&cluster, "POST", path, &headers, subscribe);
    assert_eq!(stream.code, 200);
    assert_eq!(stream.header("content-type"), Some("application/json"));
    assert_eq!(stream.header("transfer-encoding"), Some("chunked"));
    let id = stream.header("mesos-stream-id").expect("a stream id").to_owned();
    let event: serde_json::Value = serde_json::from_slice(&stream.record()).expect("JSON");
    assert_eq!(event["type"], "SUBSCRIBED");
    assert_eq!(event["subscribed"]["heartbeat_interval_seconds"], 15.0);
    let framework =
        event["subscribed"]["framework_id"]["value"].as_str().expect("an id").to_owned();
    let event: serde_json::Value = serde_json::from_slice(&stream.record()).expect("JSON");
    assert_eq!(event["type"], "OFFERS");
    let offer = &event["offers"]["offers"][0];
    let call = serde_json::json!({
        "framework_id": {"value": framework},
        "type": "ACCEPT",
        "accept": {
            "offer_ids": [offer["id"]],
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": [{
                "name": "t",
                "task_id": {"value": "t"},
                "agent_id": offer["agent_id"],
                "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                              {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
                "command": {"value": "exit 4"},
            }]}}],
        },
    });
    let post = |id: &str, call: &serde_json::Value| {
        let headers = [JSON, ("Mesos-Stream-Id", id)];
        request(&cluster, "POST", SCHEDULER, &headers, call.to_string().as_bytes())
    };
    let wrong = post("11111111-1111-1111-1111-111111111111", &call);
    assert_eq!(wrong.code, 400);
    let answer = post(&id, &call);
    assert_eq!(answer.code, 202);
    assert_eq!(answer.body(), "", "202 has no body");
    let mut states = Vec::new();
    while states.last().map(String::as_str) != Some("TASK_FAILED") {
        let event: serde_json::Value = serde_json::from_slice(&stream.record()).expect("JSON");
        if event["type"] != "UPDATE" {
            continue;
        }
        let status = &event["update"]["status"];
        states.push(status["state"].as_str().expect("a state").to_owned());
        let acknowledge = serde_json::json!({
            "framework_id": {"value": framework},
            "type": "ACKNOWLEDGE",
            "acknowledge": {"agent_id": status["agent_id"], "task_id": status["task_id"],
                            "uuid": status["uuid"]},
        });
        assert_eq!(post(&id, &acknowledge).code, 202);
    }
    assert_eq!(states.iter().filter(|s| *s == "TASK_RUNNING").count(), 1, "{states:?}");
    let teardown = serde_json::json!({"framework_id": {"value": framework}, "type": "TEARDOWN"});
    assert_eq!(post(&id, &teardown).code, 202);
    // The stream ends: what is left is events and the last chunk.
    let mut rest = Vec::new();
    stream.reader.read_to_end(&mut rest).expect("the end");
    assert!(rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_protobuf_subscription_speaks_protobuf() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let call = Call {
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(Box::new(call::Subscribe {
            framework_info: v1::FrameworkInfo {
                user: "root".to_owned(),
                name: "n".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        })),
        ..Default::default()
    };
    let headers = [PROTOBUF, ("Accept", "application/x-protobuf")];
    let mut stream = request(&cluster, "POST", SCHEDULER, &headers, &call.encode_to_vec());
    assert_eq!(stream.code, 200);
    assert_eq!(stream.header("content-type"), Some("application/x-protobuf"));
    let event = Event::decode(stream.record().as_slice()).expect("an event");
    assert!(event.subscribed.is_some_and(|s| !s.framework_id.value.is_empty()));
}

#[test]
fn both_daemons_tell_health_version_and_metrics() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let get = |address: &str, path: &str| {
        let mut stream = TcpStream::connect(address).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("sends");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200"), "{address} {path}: {text}");
        text
    };
    for (address, prefix) in [(cluster.address(), "master"), (cluster.agent_address(), "slave")] {
        get(address, "/health");
        let version = get(address, "/version");
        assert!(version.contains("\"version\":\"1.11.0\""), "{version}");
        let snapshot = get(address, "/metrics/snapshot");
        assert!(snapshot.contains(&format!("\"{prefix}/uptime_secs\":")), "{snapshot}");
        let text = get(address, "/metrics");
        assert!(text.contains(&format!("{prefix}_uptime_secs")), "{text}");
    }
    // The id of the process in front, as libprocess had it.
    get(cluster.address(), "/master/health");
    get(cluster.agent_address(), "/slave(1)/health");
}

#[test]
fn a_principal_is_held_to_its_rate_and_told_when_it_oversteps_its_capacity() {
    let limits = r#"{"limits":[{"principal":"slow","qps":0.2,"capacity":1}]}"#;
    let master_flags = vec![format!("--rate-limits={limits}")];
    let mut cluster =
        Cluster::start(Options { master_flags, ..Options::default() }).expect("a cluster");
    let subscribe = br#"{"type":"SUBSCRIBE","subscribe":{"framework_info":
        {"user":"root","name":"n","principal":"slow"}}}"#;
    let headers = [JSON, ("Accept", "application/json")];
    let mut stream = request(&cluster, "POST", SCHEDULER, &headers, subscribe);
    let id = stream.header("mesos-stream-id").expect("a stream id").to_owned();
    let event: serde_json::Value = serde_json::from_slice(&stream.record()).expect("JSON");
    let suppress = serde_json::json!({
        "framework_id": event["subscribed"]["framework_id"], "type": "SUPPRESS",
    });
    let post = |cluster: &Cluster| {
        let headers = [JSON, ("Mesos-Stream-Id", id.as_str())];
        request(cluster, "POST", SCHEDULER, &headers, suppress.to_string().as_bytes())
    };
    assert_eq!(post(&cluster).code, 202, "the first finds nobody before it");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| post(&cluster).code);
        let name = "frameworks/slow/messages_received";
        while cluster.master_metric(name).expect("a metric") < 2.0 {
            std::thread::yield_now();
        }
        let third = post(&cluster);
        assert_eq!(third.code, 503);
        let sentence = third.body();
        assert!(sentence.starts_with("Call SUPPRESS dropped: capacity(1) exceeded"), "{sentence}");
        let error = loop {
            let event: serde_json::Value = serde_json::from_slice(&stream.record()).expect("JSON");
            if event["type"] == "ERROR" {
                break event;
            }
        };
        assert_eq!(error["error"]["message"], sentence.as_str());
        assert_eq!(second.join().expect("answered"), 202, "it waits for its turn");
    });
    cluster
        .wait("all that waited to be counted", |cluster| {
            let processed = cluster.master_metric("frameworks/slow/messages_processed").ok()?;
            (processed >= 2.0).then_some(())
        })
        .expect("counted");
    assert_eq!(cluster.master_metric("frameworks/slow/messages_received").ok(), Some(3.0));
}
