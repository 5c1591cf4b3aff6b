//! Executors of frameworks: pymesos' library, unmodified, and calls that are made by hand.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mezzo_proto::v1::executor::executor_client::ExecutorClient;
use mezzo_proto::v1::executor::{
    Call, ConnectRequest, ConnectResponse, Event as ExecutorEvent, call, connect_response, event,
};
use mezzo_sdk::v1::offer::{self, operation};
use mezzo_sdk::v1::task_status::Reason;
use mezzo_sdk::v1::{self, TaskState};
use mezzo_sdk::{Calls, Event, Events, Framework, Scheduler, is_terminal};
use mezzo_tests::{Cluster, Options, patience};
use prost::Message;

use crate::http::{Answer, JSON, PROTOBUF, request_to};

const PATIENCE_S: u64 = 120;
const EXECUTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/pymesos_executor.py");
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/pymesos/install.sh");
const PATH: &str = "/api/v1/executor";

/// What is made of the next offer, once its agent is known.
type Waiting = Box<dyn FnOnce(&v1::AgentId) -> offer::Operation + Send>;

/// A framework with an executor, and everything that it heard.
struct Rig {
    calls: Calls,
    events: Events,
    waiting: VecDeque<Waiting>,
    agent: Option<v1::AgentId>,
    updates: Vec<v1::TaskStatus>,
    messages: Vec<String>,
    /// (executor, status)
    failures: Vec<(String, Option<i32>)>,
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    }
}

fn executor(command: &str) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Custom as i32),
        executor_id: v1::ExecutorId { value: "puppet".to_owned() },
        name: Some("a puppet".to_owned()),
        command: Some(v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() }),
        resources: vec![scalar("cpus", 0.1), scalar("mem", 128.0), scalar("disk", 1.0)],
        ..v1::ExecutorInfo::default()
    }
}

/// A virtual environment with pymesos, kept beside the build for the next time.
fn environment() -> PathBuf {
    let own = std::env::current_exe().expect("the test's executable");
    let target = own.ancestors().nth(3).expect("the target directory");
    let directory = target.join("pymesos-0.3.15");
    let output = Command::new("bash").arg(INSTALL).arg(&directory).output().expect("bash");
    assert!(
        output.status.success(),
        "pymesos could not be installed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    directory
}

/// pymesos' library, installed once, with the puppet on it.
fn puppet() -> v1::ExecutorInfo {
    let python = environment().join("bin/python");
    executor(&format!("exec {} {EXECUTOR}", python.display()))
}

fn task(id: &str, how: &str, agent: &v1::AgentId) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        agent_id: agent.clone(),
        resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0)],
        data: Some(how.as_bytes().to_vec().into()),
        ..v1::TaskInfo::default()
    }
}

impl Rig {
    async fn connect(cluster: &Cluster) -> Self {
        let framework =
            Framework::new("puppeteer", "root").failover_timeout(Duration::from_secs(600));
        let (calls, events) =
            Scheduler::connect(cluster.address(), framework).await.expect("subscribes");
        Rig {
            calls,
            events,
            waiting: VecDeque::new(),
            agent: None,
            updates: Vec::new(),
            messages: Vec::new(),
            failures: Vec::new(),
        }
    }

    async fn launch(&mut self, of: &v1::ExecutorInfo, id: &str, how: &str) {
        let (of, id, how) = (of.clone(), id.to_owned(), how.to_owned());
        self.waiting.push_back(Box::new(move |agent| {
            let info = v1::TaskInfo { executor: Some(of), ..task(&id, &how, agent) };
            offer::Operation {
                r#type: Some(operation::Type::Launch as i32),
                launch: Some(operation::Launch { task_infos: vec![info] }),
                ..offer::Operation::default()
            }
        }));
        self.calls.revive(Vec::new()).await.expect("revives");
    }

    async fn launch_group(&mut self, of: &v1::ExecutorInfo, ids: &'static [&'static str]) {
        let of = of.clone();
        self.waiting.push_back(Box::new(move |agent| {
            let tasks = ids.iter().map(|id| task(id, "wait", agent)).collect();
            offer::Operation {
                r#type: Some(operation::Type::LaunchGroup as i32),
                launch_group: Some(Box::new(operation::LaunchGroup {
                    executor: of,
                    task_group: v1::TaskGroupInfo { tasks },
                })),
                ..offer::Operation::default()
            }
        }));
        self.calls.revive(Vec::new()).await.expect("revives");
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let run = async {
            while !done(self) {
                match self.events.next().await.expect("the subscription lives") {
                    Event::Offers(offers) => {
                        for offer in offers {
                            self.agent = Some(offer.agent_id.clone());
                            let operations = self.waiting.pop_front();
                            let operations = operations.map(|make| make(&offer.agent_id));
                            let operations: Vec<_> = operations.into_iter().collect();
                            // What is not needed is not offered again before the next launch.
                            let idle = operations.is_empty();
                            let refuse = Duration::from_secs(if idle { 3600 } else { 0 });
                            let refuse = Some(refuse);
                            let ids = vec![offer.id];
                            self.calls.accept(ids, operations, refuse).await.expect("accepts");
                        }
                    }
                    Event::Update(status) => self.updates.push(status),
                    Event::Message { data, .. } => {
                        self.messages.push(String::from_utf8(data).expect("a text"));
                    }
                    Event::Failure { executor_id: Some(id), status, .. } => {
                        self.failures.push((id.value, status));
                    }
                    _ => {}
                }
            }
        };
        if tokio::time::timeout(patience(PATIENCE_S), run).await.is_err() {
            panic!(
                "waited for {what}; updates: {:#?}; messages: {:?}; failures: {:?}",
                self.updates, self.messages, self.failures
            );
        }
    }

    async fn until_state(&mut self, task: &str, state: TaskState) -> v1::TaskStatus {
        let of = |status: &&v1::TaskStatus| status.task_id.value == task && status.state() == state;
        let what = format!("{task} to be {}", state.as_str_name());
        self.until(&what, |rig| rig.updates.iter().any(|status| of(&status))).await;
        self.updates.iter().find(of).cloned().expect("it was there")
    }

    async fn until_ended(&mut self, task: &str) -> v1::TaskStatus {
        let of =
            |status: &&v1::TaskStatus| status.task_id.value == task && is_terminal(status.state());
        let what = format!("{task} to end");
        self.until(&what, |rig| rig.updates.iter().any(|status| of(&status))).await;
        self.updates.iter().find(of).cloned().expect("it was there")
    }

    async fn until_said(&mut self, begin: &str) -> String {
        let of = |said: &&String| said.starts_with(begin);
        let what = format!("a message '{begin}'");
        self.until(&what, |rig| rig.messages.iter().any(|said| of(&said))).await;
        self.messages.iter().find(of).cloned().expect("it was there")
    }

    async fn say(&self, text: &str) {
        let agent = self.agent.clone().expect("an agent was offered");
        let executor = v1::ExecutorId { value: "puppet".to_owned() };
        self.calls.message(agent, executor, text.as_bytes().to_vec()).await.expect("sends");
    }
}

/// Ids of the containers that are there.
fn containers_of(cluster: &Cluster) -> BTreeSet<String> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    cluster.container_cgroups().iter().filter_map(name).collect()
}

/// Waits longer for executors that come back than Mesos does: pymesos sleeps between its attempts.
fn patient() -> Options {
    Options {
        agent_flags: vec!["--executor-reregistration-timeout=15secs".to_owned()],
        ..Options::default()
    }
}

#[tokio::test]
async fn an_executor_of_pymesos_runs_tasks_and_outlives_the_agent() {
    let of = puppet();
    let mut cluster = Cluster::start(patient()).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    rig.launch(&of, "quick", "finish").await;
    let registered = rig.until_said("registered puppet").await;
    let status = rig.until_ended("quick").await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
    assert_eq!(status.executor_id.as_ref().map(|id| id.value.as_str()), Some("puppet"));
    // One container for all of it.
    rig.launch(&of, "long", "wait").await;
    rig.launch(&of, "longer", "wait").await;
    rig.until_state("long", TaskState::TaskRunning).await;
    rig.until_state("longer", TaskState::TaskRunning).await;
    assert_eq!(containers_of(&cluster).len(), 1);
    rig.say("hello there").await;
    rig.until_said("heard hello there").await;
    // It is shown, by its name and with what it uses.
    let containers = cluster.get(cluster.agent_address(), "/containers").expect("answers");
    let containers: serde_json::Value = serde_json::from_str(&containers).expect("JSON");
    assert_eq!(containers[0]["executor_id"], "puppet", "{containers}");
    assert_eq!(containers[0]["executor_name"], "a puppet");
    let limit = containers[0]["statistics"]["mem_limit_bytes"].as_u64().expect("a limit");
    assert_eq!(limit >> 20, 192, "the executor and two tasks");
    // Killed and started again: the executor goes on, and so do its tasks.
    cluster.kill_agent().expect("killed");
    cluster.start_agent().expect("starts again");
    let again = rig.until_said("reregistered").await;
    let pid = |said: &str| said.rsplit(' ').next().map(str::to_owned);
    assert_eq!(pid(&again), pid(&registered), "the same process");
    rig.say("finish long").await;
    let status = rig.until_ended("long").await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
    let longer = v1::TaskId { value: "longer".to_owned() };
    rig.calls.kill(longer, None, None).await.expect("kills");
    let status = rig.until_ended("longer").await;
    assert_eq!(status.state(), TaskState::TaskKilled, "{status:?}");
    let ended: Vec<_> = rig.updates.iter().filter(|status| is_terminal(status.state())).collect();
    assert_eq!(ended.len(), 3, "each task ends once: {ended:#?}");
    assert!(rig.failures.is_empty(), "the executor still runs");
}

#[tokio::test]
async fn a_group_goes_to_an_executor_of_pymesos_as_one() {
    let of = puppet();
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    rig.launch_group(&of, &["left", "right"]).await;
    assert_eq!(rig.until_said("group").await, "group left right");
    rig.until_state("left", TaskState::TaskRunning).await;
    rig.until_state("right", TaskState::TaskRunning).await;
    // Asked to end, it ends, and is told of.
    let agent = rig.agent.clone().expect("an agent");
    let id = v1::ExecutorId { value: "puppet".to_owned() };
    rig.calls.shutdown_executor(agent, id).await.expect("asks");
    rig.until("the executor's end", |rig| !rig.failures.is_empty()).await;
    assert_eq!(rig.failures[0].0, "puppet");
    for task in ["left", "right"] {
        let status = rig.until_ended(task).await;
        assert_eq!(status.reason(), Reason::ExecutorTerminated, "{status:?}");
    }
}

#[tokio::test]
async fn an_executor_that_crashes_takes_its_tasks_with_it() {
    let of = puppet();
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    rig.launch(&of, "bystander", "wait").await;
    rig.until_state("bystander", TaskState::TaskRunning).await;
    rig.launch(&of, "culprit", "crash").await;
    for task in ["bystander", "culprit"] {
        let status = rig.until_ended(task).await;
        assert_eq!(status.state(), TaskState::TaskFailed, "{status:?}");
        assert_eq!(status.reason(), Reason::ExecutorTerminated);
        assert_eq!(status.message(), "Executor terminated: Command exited with status 7");
    }
    rig.until("the executor's end", |rig| !rig.failures.is_empty()).await;
    assert_eq!(rig.failures, [("puppet".to_owned(), Some(7 << 8))]);
    // Its place is free for another run of it.
    rig.launch(&of, "next", "finish").await;
    assert_eq!(rig.until_ended("next").await.state(), TaskState::TaskFinished);
}

#[tokio::test]
async fn an_executor_that_never_speaks_is_ended() {
    let options = Options {
        agent_flags: vec!["--executor-registration-timeout=500ms".to_owned()],
        ..Options::default()
    };
    let mut cluster = Cluster::start(options).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    rig.launch(&executor("sleep 1000"), "unheard", "wait").await;
    let status = rig.until_ended("unheard").await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert_eq!(status.reason(), Reason::ExecutorRegistrationTimeout);
    assert_eq!(status.message(), "Executor did not register within 500ms");
    let gone = |cluster: &Cluster| containers_of(cluster).is_empty().then_some(());
    let gone = cluster.wait("its container to go", gone);
    gone.expect("nothing is left of it");
}

/// What the agent knows of executors.
fn executors(cluster: &Cluster) -> serde_json::Value {
    let body = br#"{"type":"GET_EXECUTORS"}"#;
    let answer = request_to(cluster.agent_address(), "POST", "/api/v1", &[JSON], body);
    serde_json::from_str(&answer.body()).expect("JSON")
}

fn by_hand(rig: &Rig, kind: call::Type) -> Call {
    Call {
        executor_id: v1::ExecutorId { value: "puppet".to_owned() },
        framework_id: rig.calls.framework_id().clone(),
        r#type: Some(kind as i32),
        ..Call::default()
    }
}

fn send(cluster: &Cluster, call: &Call) -> Answer {
    let body = call.encode_to_vec();
    request_to(cluster.agent_address(), "POST", PATH, &[PROTOBUF], &body)
}

#[tokio::test]
async fn the_executor_endpoint_answers_as_mesos_does() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    let refused = |headers: &[(&str, &str)], method: &str, body: &str, code: u16, part: &str| {
        for path in [PATH, "/slave(1)/api/v1/executor"] {
            let address = cluster.agent_address();
            let answer = request_to(address, method, path, headers, body.as_bytes());
            assert_eq!(answer.code, code, "{method} {headers:?} {body}");
            let text = answer.body();
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    };
    let ids = r#""framework_id":{"value":"f"},"executor_id":{"value":"e"}"#;
    refused(&[], "GET", "", 405, "POST");
    refused(&[], "POST", "{}", 400, "Expecting 'Content-Type' to be present");
    refused(&[("Content-Type", "text/plain")], "POST", "{}", 415, "application/json");
    refused(&[JSON], "POST", "{", 400, "Failed to parse");
    refused(&[JSON], "POST", "{}", 400, "framework_id");
    refused(&[JSON], "POST", &format!("{{{ids}}}"), 400, "Expecting 'type' to be present");
    refused(
        &[JSON],
        "POST",
        &format!(r#"{{"type":"SUBSCRIBE",{ids}}}"#),
        400,
        "Expecting 'subscribe' to be present",
    );
    let subscribe = format!(r#"{{"type":"SUBSCRIBE",{ids},"subscribe":{{}}}}"#);
    refused(&[JSON, ("Accept", "text/html")], "POST", &subscribe, 406, "Accept");
    refused(&[JSON], "POST", &subscribe, 400, "Framework cannot be found");
    refused(&[JSON], "POST", &format!(r#"{{"type":"HEARTBEAT",{ids}}}"#), 202, "");

    rig.launch(&executor("sleep 1000"), "t", "wait").await;
    let mut shown = false;
    while !shown {
        rig.until("the launch", |rig| rig.waiting.is_empty()).await;
        shown = cluster
            .wait("the executor", |c| {
                let known = executors(c)["get_executors"]["executors"].clone();
                (known[0]["executor_info"]["executor_id"]["value"] == "puppet").then_some(true)
            })
            .expect("the agent knows of it");
    }
    let message = Call {
        message: Some(call::Message { data: b"hi".to_vec().into() }),
        ..by_hand(&rig, call::Type::Message)
    };
    let answer = send(&cluster, &message);
    assert_eq!(answer.code, 403);
    assert_eq!(answer.body(), "Executor is not subscribed");
    let other =
        Call { executor_id: v1::ExecutorId { value: "nobody".to_owned() }, ..message.clone() };
    let answer = send(&cluster, &other);
    assert_eq!((answer.code, answer.body().as_str()), (400, "Executor cannot be found"));

    let subscribe = Call {
        subscribe: Some(call::Subscribe::default()),
        ..by_hand(&rig, call::Type::Subscribe)
    };
    let body = subscribe.encode_to_vec();
    let headers = [PROTOBUF, ("Accept", "application/x-protobuf")];
    let mut stream = request_to(cluster.agent_address(), "POST", PATH, &headers, &body);
    assert_eq!(stream.code, 200);
    assert_eq!(stream.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(stream.header("transfer-encoding"), Some("chunked"));
    assert_eq!(stream.header("mesos-stream-id"), None, "executors have none");
    let mut next = || ExecutorEvent::decode(stream.record().as_slice()).expect("an event");
    let first = next();
    assert_eq!(first.r#type(), event::Type::Subscribed);
    let subscribed = first.subscribed.expect("its body");
    assert_eq!(subscribed.executor_info.name(), "a puppet");
    assert_eq!(subscribed.framework_info.id.as_ref(), Some(rig.calls.framework_id()));
    assert!(subscribed.agent_info.id.is_some() && subscribed.container_id.is_some());
    let second = next();
    assert_eq!(second.launch.expect("LAUNCH").task.task_id.value, "t");

    assert_eq!(send(&cluster, &message).code, 202);
    assert_eq!(rig.until_said("hi").await, "hi");
    let mut update = by_hand(&rig, call::Type::Update);
    let mut status = v1::TaskStatus {
        task_id: v1::TaskId { value: "t".to_owned() },
        uuid: Some(vec![7; 16].into()),
        source: Some(v1::task_status::Source::Executor as i32),
        ..v1::TaskStatus::default()
    };
    status.set_state(TaskState::TaskFinished);
    let mut bad = status.clone();
    bad.uuid = Some(vec![7; 3].into());
    update.update = Some(call::Update { status: bad });
    let answer = send(&cluster, &update);
    assert_eq!(answer.code, 400);
    assert!(answer.body().contains("3 bytes"));
    update.update = Some(call::Update { status });
    let answer = send(&cluster, &update);
    assert_eq!((answer.code, answer.body().as_str()), (202, ""));
    let acknowledged = next().acknowledged.expect("ACKNOWLEDGED");
    assert_eq!((acknowledged.task_id.value.as_str(), acknowledged.uuid[0]), ("t", 7));
    assert_eq!(rig.until_ended("t").await.state(), TaskState::TaskFinished);

    // A second stream takes the first one's place.
    let second = request_to(cluster.agent_address(), "POST", PATH, &headers, &body);
    assert_eq!(second.code, 200);
    assert_eq!(stream.chunk(), b"", "the first one ends");
}

#[tokio::test]
async fn an_executor_leaves_its_sandbox_where_mesos_has_it() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    rig.launch(&executor("echo $MESOS_DIRECTORY; exit 3"), "t", "wait").await;
    let status = rig.until_ended("t").await;
    assert_eq!(status.reason(), Reason::ExecutorTerminated, "{status:?}");
    let agent = rig.agent.clone().expect("an agent").value;
    let framework = &rig.calls.framework_id().value;
    let runs = format!("slaves/{agent}/frameworks/{framework}/executors/puppet/runs/latest");
    let said = std::fs::read_to_string(cluster.agent_work_dir().join(runs).join("stdout"));
    let said = said.expect("what it wrote");
    assert!(Path::new(said.trim()).is_absolute(), "{said}");
    assert!(said.contains("/executors/puppet/runs/"), "{said}");
}

/// What a stream of the gRPC API tells next.
async fn next(stream: &mut tonic::Streaming<ConnectResponse>) -> Option<connect_response::Message> {
    let read = tokio::time::timeout(patience(PATIENCE_S), stream.message()).await;
    read.expect("an answer in time").expect("the stream holds").and_then(|read| read.message)
}

#[tokio::test]
async fn the_same_calls_travel_over_grpc() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut rig = Rig::connect(&cluster).await;
    rig.launch(&executor("sleep 1000"), "t", "wait").await;
    rig.until("the launch", |rig| rig.waiting.is_empty()).await;
    let address = format!("http://{}", cluster.agent_address());
    let endpoint = tonic::transport::Endpoint::from_shared(address).expect("an address");
    let mut client = ExecutorClient::new(endpoint.connect().await.expect("connects"));
    let subscribe = Call {
        subscribe: Some(call::Subscribe::default()),
        ..by_hand(&rig, call::Type::Subscribe)
    };
    let request = |seq, call: &Call| ConnectRequest { seq, call: Some(call.clone()) };
    // The launch is on its way: until the agent has it, nobody may subscribe.
    let mut opened = None;
    for _ in 0..patience(PATIENCE_S).as_secs() * 10 {
        let (first, rest) = tokio::sync::mpsc::channel(8);
        first.send(request(1, &subscribe)).await.expect("room");
        match client.connect(tokio_stream::wrappers::ReceiverStream::new(rest)).await {
            Ok(stream) => {
                opened = Some((first, stream.into_inner()));
                break;
            }
            Err(status) => assert!(status.message().contains("cannot be found"), "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (calls, mut stream) = opened.expect("it is let in");
    let (mut results, mut events) = (Vec::new(), Vec::new());
    while results.is_empty() || events.len() < 2 {
        match next(&mut stream).await.expect("more") {
            connect_response::Message::Result(result) => results.push(result),
            connect_response::Message::Event(event) => events.push(event),
        }
    }
    assert_eq!((results[0].seq, results[0].code), (1, 200));
    assert_eq!(events[0].r#type(), event::Type::Subscribed);
    assert_eq!(events[1].launch.as_ref().expect("LAUNCH").task.task_id.value, "t");
    let mut bad = by_hand(&rig, call::Type::Update);
    bad.update = Some(call::Update::default());
    calls.send(request(2, &bad)).await.expect("sends");
    let Some(connect_response::Message::Result(result)) = next(&mut stream).await else {
        panic!("a call is answered")
    };
    assert_eq!((result.seq, result.code), (2, 400));
    assert!(result.message.contains("'uuid'"), "{}", result.message);
    let mut good = by_hand(&rig, call::Type::Update);
    let mut status = v1::TaskStatus {
        task_id: v1::TaskId { value: "t".to_owned() },
        uuid: Some(vec![7; 16].into()),
        source: Some(v1::task_status::Source::Executor as i32),
        ..v1::TaskStatus::default()
    };
    status.set_state(TaskState::TaskFailed);
    good.update = Some(call::Update { status });
    calls.send(request(3, &good)).await.expect("sends");
    let (mut acknowledged, mut answered) = (false, false);
    while !(acknowledged && answered) {
        match next(&mut stream).await.expect("more") {
            connect_response::Message::Result(result) => {
                assert_eq!((result.seq, result.code), (3, 202));
                answered = true;
            }
            connect_response::Message::Event(event) => {
                assert_eq!(event.r#type(), event::Type::Acknowledged);
                acknowledged = true;
            }
        }
    }
    assert_eq!(rig.until_ended("t").await.state(), TaskState::TaskFailed);
}
