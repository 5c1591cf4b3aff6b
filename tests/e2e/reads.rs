//! Everything that readers see, asked of real processes: v1 calls, Mesos' first endpoints, and the stream of events.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mezzo_proto::recordio::Decoder;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::master::operator_client::OperatorClient;
use mezzo_proto::v1::master::{Call, Event, Response, SubscribeRequest, call, event};
use mezzo_tests::{Cluster, Options};
use prost::Message;
use serde_json::{Value, json};

/// An answer; its body is still to be read.
struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    reader: BufReader<TcpStream>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The next chunk of a chunked body; empty at its end.
    fn chunk(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a chunk");
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).expect("a chunk's bytes");
        chunk.truncate(size);
        chunk
    }

    fn body(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        if self.header("transfer-encoding") == "chunked" {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    return body;
                }
                body.extend(chunk);
            }
        }
        let length: usize = self.header("content-length").parse().expect("a length");
        body.resize(length, 0);
        self.reader.read_exact(&mut body).expect("the body");
        body
    }

    fn json(self) -> Value {
        assert_eq!(self.code, 200);
        assert_eq!(self.header("content-type"), "application/json");
        let body = self.body();
        serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body)))
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }
}

fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
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
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Answer { code, headers, reader }
}

fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path, &[], b"")
}

/// A v1 call in JSON.
fn call(address: &str, call: Value) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json")];
    ask(address, "POST", "/api/v1", &headers, call.to_string().as_bytes())
}

/// The same call in protobuf.
fn call_protobuf(address: &str, kind: call::Type) -> Response {
    let call = Call { r#type: Some(kind as i32), ..Call::default() };
    let kind = "application/x-protobuf";
    let headers = [("Content-Type", kind), ("Accept", kind)];
    let answer = ask(address, "POST", "/api/v1", &headers, &call.encode_to_vec());
    assert_eq!((answer.code, answer.header("content-type")), (200, kind));
    Response::decode(&*answer.body()).expect("a response")
}

/// A cluster on which the task `web` runs.
fn cluster() -> Cluster {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    run(&cluster, "web");
    await_state(&mut cluster, "web", TaskState::TaskRunning);
    cluster
}

fn run(cluster: &Cluster, name: &str) {
    let arguments =
        ["run", "--detach", "--cpus", "0.5", "--mem", "32", "--name", name, "--", "sleep", "1000"];
    let output = cluster.mezzo(&arguments).expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn await_state(cluster: &mut Cluster, name: &str, state: TaskState) {
    let reached = |cluster: &Cluster| {
        let tasks = call_protobuf(cluster.address(), call::Type::GetTasks).get_tasks?;
        let all = tasks.tasks.iter().chain(&tasks.completed_tasks);
        all.into_iter()
            .any(|task| task.task_id.value == name && task.state() == state)
            .then_some(())
    };
    cluster.wait("the task to get there", reached).expect("it does");
}

#[test]
fn every_read_of_the_master_is_answered_in_both_encodings() {
    let cluster = cluster();
    let address = cluster.address();
    for (kind, field) in [
        (call::Type::GetState, "get_state"),
        (call::Type::GetTasks, "get_tasks"),
        (call::Type::GetAgents, "get_agents"),
        (call::Type::GetFrameworks, "get_frameworks"),
        (call::Type::GetExecutors, "get_executors"),
        (call::Type::GetOperations, "get_operations"),
        (call::Type::GetRoles, "get_roles"),
    ] {
        let name = kind.as_str_name();
        let answer = call(address, json!({"type": name})).json();
        assert_eq!(answer["type"], name);
        assert!(answer[field].is_object(), "{name}: {answer}");
        // What changes while a test looks is left out by looking at the parts that do not.
        let protobuf = call_protobuf(address, kind);
        assert_eq!(protobuf.r#type().as_str_name(), name);
    }
    let state = call(address, json!({"type": "GET_STATE"})).json()["get_state"].clone();
    let task = &state["get_tasks"]["tasks"][0];
    assert_eq!(task["task_id"]["value"], "web");
    assert_eq!(task["state"], "TASK_RUNNING");
    assert_eq!(task["status_update_state"], "TASK_RUNNING");
    assert!(task["statuses"].as_array().is_some_and(|list| !list.is_empty()), "{task}");
    let agent = &state["get_agents"]["agents"][0];
    assert_eq!(agent["allocated_resources"][0]["scalar"]["value"], 0.5);
    assert!(agent["registered_time"]["nanoseconds"].as_i64().is_some_and(|time| time > 0));
    let framework = &state["get_frameworks"]["frameworks"][0];
    assert!(framework["registered_time"]["nanoseconds"].as_i64().is_some_and(|time| time > 0));
    let role = &call(address, json!({"type": "GET_ROLES"})).json()["get_roles"]["roles"][0];
    assert_eq!((&role["name"], &role["weight"]), (&json!("*"), &json!(1.0)));
    let files = call(address, json!({"type": "LIST_FILES", "list_files": {"path": "/master/log"}}));
    assert_eq!(files.code, 404);
    assert!(files.text().contains("standard error"));
}

#[test]
fn the_first_endpoints_of_mesos_are_answered() {
    let cluster = cluster();
    let address = cluster.address();
    for prefix in ["", "/master"] {
        for path in ["/state", "/state.json", "/state/"] {
            let state = get(address, &format!("{prefix}{path}")).json();
            assert_eq!(state["activated_slaves"], 1, "{path}");
            assert_eq!(state["leader"], state["pid"]);
            let task = &state["frameworks"][0]["tasks"][0];
            assert_eq!((&task["id"], &task["state"]), (&json!("web"), &json!("TASK_RUNNING")));
            assert_eq!(task["resources"]["cpus"], 0.5);
            assert_eq!(task["slave_id"], state["slaves"][0]["id"]);
            assert_eq!(state["slaves"][0]["resources"]["ports"], "[31000-31999]");
        }
        let get = |path: &str| get(address, &format!("{prefix}{path}"));
        let summary = get("/state-summary").json();
        assert_eq!(summary["slaves"][0]["TASK_RUNNING"], 1);
        assert_eq!(summary["frameworks"][0]["slave_ids"][0], summary["slaves"][0]["id"]);
        let slaves = get("/slaves").json();
        let id = slaves["slaves"][0]["id"].as_str().expect("an id").to_owned();
        let full = &slaves["slaves"][0]["used_resources_full"];
        assert_eq!(full[0]["scalar"]["value"], 0.5);
        let one = get(&format!("/slaves?slave_id={id}")).json();
        assert_eq!(one["slaves"].as_array().map(Vec::len), Some(1));
        let none = get("/slaves?slave_id=nobody").json();
        assert_eq!(none["slaves"], json!([]));
        let frameworks = get("/frameworks").json();
        let id = frameworks["frameworks"][0]["id"].as_str().expect("an id").to_owned();
        let one = get(&format!("/frameworks?framework_id={id}")).json();
        assert_eq!(one["frameworks"][0]["tasks"][0]["id"], "web");
        for query in ["", "?limit=1", "?task_id=web", "?order=asc&offset=0"] {
            assert_eq!(get(&format!("/tasks{query}")).json()["tasks"][0]["id"], "web", "{query}");
        }
        assert_eq!(get("/tasks?offset=1").json()["tasks"], json!([]));
        assert_eq!(get("/roles").json()["roles"][0]["name"], "*");
        assert_eq!(get("/redirect").code, 307);
        assert_eq!(get("/files/debug").json(), json!({}));
        assert_eq!(get("/files/read").code, 400);
        assert_eq!(get("/files/browse?path=/master/log").code, 404);
    }
    let script = get(address, "/state?jsonp=show");
    assert_eq!(script.header("content-type"), "text/javascript");
    let script = script.text();
    assert!(script.starts_with("show({") && script.ends_with("});"), "{script}");
    assert_eq!(get(address, "/state?jsonp=alert(1)").code, 400);
    assert_eq!(ask(address, "POST", "/state", &[], b"").code, 405);
    let packed = ask(address, "GET", "/state", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body().starts_with(&[0x1f, 0x8b]));
}

#[test]
fn the_agent_answers_reads() {
    let cluster = cluster();
    let address = cluster.agent_address();
    for (name, field) in [
        ("GET_HEALTH", "get_health"),
        ("GET_FLAGS", "get_flags"),
        ("GET_VERSION", "get_version"),
        ("GET_METRICS", "get_metrics"),
        ("GET_STATE", "get_state"),
        ("GET_TASKS", "get_tasks"),
        ("GET_EXECUTORS", "get_executors"),
        ("GET_FRAMEWORKS", "get_frameworks"),
        ("GET_CONTAINERS", "get_containers"),
        ("GET_OPERATIONS", "get_operations"),
        ("GET_AGENT", "get_agent"),
        ("GET_RESOURCE_PROVIDERS", "get_resource_providers"),
    ] {
        let answer = call(address, json!({"type": name})).json();
        assert_eq!(answer["type"], name);
        assert!(answer[field].is_object(), "{name}: {answer}");
    }
    for path in ["/state", "/slave(1)/state", "/state.json"] {
        let state = get(address, path).json();
        let executor = &state["frameworks"][0]["executors"][0];
        assert_eq!(executor["id"], "web", "{path}: {state}");
        assert_eq!(executor["tasks"][0]["state"], "TASK_RUNNING");
        let directory = executor["directory"].as_str().expect("a directory");
        assert!(std::path::Path::new(directory).is_dir(), "{directory}");
        assert_eq!(state["unreserved_resources_allocated"]["cpus"], 0.5);
        assert_eq!(state["resources"]["ports"], "[31000-31999]");
    }
    assert!(get(address, "/state?jsonp=show").text().starts_with("show({"));
    assert_eq!(get(address, "/containers").json()[0]["executor_id"], "web");
    assert_eq!(get(address, "/monitor/statistics").json()[0]["executor_id"], "web");
}

/// Tasks by id, as a subscriber knows them.
#[derive(Default)]
struct Mirror {
    tasks: BTreeMap<String, TaskState>,
    kinds: Vec<event::Type>,
}

impl Mirror {
    fn note(&mut self, event: Event) {
        self.kinds.push(event.r#type());
        if let Some(state) = event.subscribed.and_then(|subscribed| subscribed.get_state) {
            for task in state.get_tasks.map(|tasks| tasks.tasks).unwrap_or_default() {
                self.tasks.insert(task.task_id.value.clone(), task.state());
            }
        }
        if let Some(added) = event.task_added {
            let before = self.tasks.insert(added.task.task_id.value.clone(), added.task.state());
            assert_eq!(before, None, "added once");
        }
        if let Some(updated) = event.task_updated {
            let state = updated.state();
            let known = self.tasks.get_mut(&updated.status.task_id.value).expect("added before");
            *known = state;
        }
    }

    fn is(&self, name: &str, state: TaskState) -> bool {
        self.tasks.get(name) == Some(&state)
    }
}

#[test]
fn subscribers_see_what_happens_in_either_encoding_and_over_grpc() {
    let mut cluster = cluster();
    let address = cluster.address().to_owned();
    let streams = ["application/json", "application/x-protobuf"].map(|kind| {
        let headers = [("Content-Type", "application/json"), ("Accept", kind)];
        let stream = ask(&address, "POST", "/api/v1", &headers, br#"{"type":"SUBSCRIBE"}"#);
        assert_eq!((stream.code, stream.header("content-type")), (200, kind));
        assert_eq!(stream.header("transfer-encoding"), "chunked");
        stream
    });
    let subscribers = cluster.master_metric("master/operator_event_stream_subscribers");
    assert_eq!(subscribers.expect("a metric"), 2.0);
    run(&cluster, "db");
    await_state(&mut cluster, "db", TaskState::TaskRunning);
    let output = cluster.mezzo(&["kill", "db"]).expect("kills");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for mut stream in streams {
        let json = stream.header("content-type") == "application/json";
        let (mut decoder, mut mirror) = (Decoder::new(1 << 20), Mirror::default());
        while !mirror.is("db", TaskState::TaskKilled) {
            decoder.push(&stream.chunk());
            while let Some(record) = decoder.next_record().expect("RecordIO") {
                mirror.note(match json {
                    true => mezzo_proto::json::from_slice(&record).expect("JSON"),
                    false => Event::decode(record).expect("protobuf"),
                });
            }
        }
        assert_eq!(mirror.kinds[0], event::Type::Subscribed);
        assert!(mirror.is("web", TaskState::TaskRunning));
        for kind in [event::Type::TaskAdded, event::Type::TaskUpdated, event::Type::FrameworkAdded]
        {
            assert!(mirror.kinds.contains(&kind), "{kind:?} in {:?}", mirror.kinds);
        }
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    runtime.block_on(async {
        let mut client =
            OperatorClient::connect(format!("http://{address}")).await.expect("connects");
        let request = Call { r#type: Some(call::Type::GetTasks as i32), ..Call::default() };
        let response = client.invoke(request).await.expect("answers").into_inner();
        let tasks = response.get_tasks.expect("tasks").tasks;
        assert!(tasks.iter().any(|task| task.task_id.value == "web"));
        let mut events =
            client.subscribe(SubscribeRequest::default()).await.expect("streams").into_inner();
        let mut mirror = Mirror::default();
        mirror.note(events.message().await.expect("goes on").expect("an event"));
        assert_eq!(mirror.kinds, [event::Type::Subscribed]);
        assert!(mirror.is("web", TaskState::TaskRunning));
        let killed = cluster.mezzo(&["kill", "web"]).expect("kills");
        assert!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
        while !mirror.is("web", TaskState::TaskKilled) {
            mirror.note(events.message().await.expect("goes on").expect("an event"));
        }
    });
}

#[test]
fn one_subscriber_too_many_ends_the_oldest() {
    let options = Options {
        master_flags: vec!["--max-operator-event-stream-subscribers=1".to_owned()],
        ..Options::default()
    };
    let cluster = Cluster::start(options).expect("a cluster");
    let subscribe = || {
        let headers = [("Content-Type", "application/json")];
        let body = br#"{"type":"SUBSCRIBE"}"#;
        let mut stream = ask(cluster.address(), "POST", "/api/v1", &headers, body);
        assert!(String::from_utf8_lossy(&stream.chunk()).contains("SUBSCRIBED"));
        stream
    };
    let mut first = subscribe();
    let _second = subscribe();
    // Nothing happens meanwhile but its end.
    assert!(first.chunk().is_empty(), "the first stream ended");
}
