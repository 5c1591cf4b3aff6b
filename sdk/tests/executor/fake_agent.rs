//! An agent that says what the test tells it to, over both protocols of the executor API.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as HttpResponse};
use mezzo_proto::{json, recordio};
use mezzo_sdk::v1;
use mezzo_sdk::v1::executor::connect_response::Message;
use mezzo_sdk::v1::executor::executor_server::{Executor, ExecutorServer};
use mezzo_sdk::v1::executor::{
    Call, CallResult, ConnectRequest, ConnectResponse, Event, call, event,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub struct FakeAgent {
    pub address: String,
    sessions: mpsc::Receiver<Session>,
    server: tokio::task::JoinHandle<()>,
}

/// One connection of the executor under test.
pub struct Session {
    /// Of the request, over HTTP.
    pub authorization: Option<String>,
    calls: mpsc::Receiver<(u64, Call)>,
    events: Events,
}

enum Events {
    Grpc(mpsc::Sender<Result<ConnectResponse, Status>>),
    Http { records: mpsc::Sender<Event>, unanswered: Unanswered },
}

type Unanswered = Arc<Mutex<HashMap<u64, oneshot::Sender<(u16, String)>>>>;

#[derive(Clone)]
struct Service {
    sessions: mpsc::Sender<Session>,
    /// The one subscription over HTTP: an agent's calls name no stream.
    stream: Arc<Mutex<Option<Stream>>>,
    sequence: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Stream {
    calls: mpsc::Sender<(u64, Call)>,
    unanswered: Unanswered,
}

#[tonic::async_trait]
impl Executor for Service {
    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let (sender, calls) = mpsc::channel(64);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if sender.send((request.seq, request.call.expect("a call"))).await.is_err() {
                    return;
                }
            }
        });
        let session = Session { authorization: None, calls, events: Events::Grpc(answers) };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn post(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> HttpResponse {
    let json = headers["content-type"] == "application/json";
    let call: Call = match json {
        true => json::from_slice(&body).expect("JSON"),
        false => Call::decode(body).expect("protobuf"),
    };
    let sequence = service.sequence.fetch_add(1, Ordering::SeqCst);
    if call.r#type != Some(call::Type::Subscribe as i32) {
        let stream = service.stream.lock().unwrap().clone().expect("a subscription");
        let (code, message) = stream.ask(sequence, call).await;
        return (StatusCode::from_u16(code).expect("a code"), message).into_response();
    }
    let (calls, receiver) = mpsc::channel(64);
    let (records, stream_of_records) = mpsc::channel(64);
    let unanswered = Unanswered::default();
    let stream = Stream { calls, unanswered: unanswered.clone() };
    let authorization = headers.get("authorization");
    let authorization = authorization.map(|value| value.to_str().expect("text").to_owned());
    let events = Events::Http { records, unanswered };
    let session = Session { authorization, calls: receiver, events };
    service.sessions.send(session).await.expect("the test runs");
    *service.stream.lock().unwrap() = Some(stream.clone());
    let (code, message) = stream.ask(sequence, call).await;
    if code != 200 {
        return (StatusCode::from_u16(code).expect("a code"), message).into_response();
    }
    let encode = move |event: Event| match json {
        true => recordio::encode(&json::to_vec(&event)),
        false => recordio::encode(&event.encode_to_vec()),
    };
    let body = ReceiverStream::new(stream_of_records)
        .map(move |event| Ok::<_, std::convert::Infallible>(encode(event)));
    Body::from_stream(body).into_response()
}

impl Stream {
    /// Hands the call to the test and waits for its answer; for ever if the test gives none.
    async fn ask(&self, sequence: u64, call: Call) -> (u16, String) {
        let (sender, answer) = oneshot::channel();
        self.unanswered.lock().unwrap().insert(sequence, sender);
        let posted = self.calls.send((sequence, call)).await;
        match (posted, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            _ => std::future::pending().await,
        }
    }
}

impl FakeAgent {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let (sender, sessions) = mpsc::channel(8);
        let service =
            Service { sessions: sender, stream: Arc::default(), sequence: Arc::default() };
        let http = axum::Router::new()
            .route("/api/v1/executor", axum::routing::post(post))
            .with_state(service.clone());
        let routes = tonic::service::Routes::from(http).add_service(ExecutorServer::new(service));
        let serve = tonic::transport::Server::builder()
            .accept_http1(true)
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.expect("serves") });
        FakeAgent { address, sessions, server }
    }

    /// Nobody listens any more.
    pub fn stop_listening(&self) {
        self.server.abort();
    }

    /// The next connection and its SUBSCRIBE, not answered yet.
    pub async fn accept(&mut self) -> (Session, u64, call::Subscribe) {
        let mut session = self.sessions.recv().await.expect("the server runs");
        let (seq, call) = session.next_call().await;
        assert_eq!(call.r#type, Some(call::Type::Subscribe as i32), "first call");
        assert_eq!(call.executor_id.value, "executor-1");
        assert_eq!(call.framework_id.value, "framework-1");
        (session, seq, call.subscribe.expect("body of SUBSCRIBE"))
    }

    /// The next connection, subscribed.
    pub async fn accept_subscription(&mut self) -> (Session, call::Subscribe) {
        let (session, seq, subscribe) = self.accept().await;
        session.subscribed(seq).await;
        (session, subscribe)
    }
}

impl Session {
    pub async fn next_call(&mut self) -> (u64, Call) {
        self.calls.recv().await.expect("a call")
    }

    /// The status in the next call, which is an UPDATE; not answered yet.
    pub async fn next_update(&mut self) -> (u64, v1::TaskStatus) {
        let (seq, call) = self.next_call().await;
        assert_eq!(call.r#type, Some(call::Type::Update as i32), "{call:?}");
        (seq, call.update.expect("body of UPDATE").status)
    }

    pub async fn answer(&self, seq: u64, code: u32, message: &str) {
        let message = message.to_owned();
        match &self.events {
            Events::Grpc(answers) => {
                let result = CallResult { seq, code, message };
                let response = ConnectResponse { message: Some(Message::Result(result)) };
                // An executor that has left does not hear it.
                let _ = answers.send(Ok(response)).await;
            }
            Events::Http { unanswered, .. } => {
                let waiting = unanswered.lock().unwrap().remove(&seq).expect("such a call");
                let _ = waiting.send((u16::try_from(code).expect("a code"), message));
            }
        }
    }

    pub async fn event(&self, kind: event::Type, event: Event) {
        let event = Event { r#type: Some(kind as i32), ..event };
        match &self.events {
            Events::Grpc(answers) => {
                let response = ConnectResponse { message: Some(Message::Event(event)) };
                let _ = answers.send(Ok(response)).await;
            }
            Events::Http { records, .. } => {
                let _ = records.send(event).await;
            }
        }
    }

    pub async fn subscribed(&self, seq: u64) {
        self.answer(seq, 200, "").await;
        let subscribed = event::Subscribed {
            executor_info: v1::ExecutorInfo {
                executor_id: v1::ExecutorId { value: "executor-1".to_owned() },
                ..Default::default()
            },
            framework_info: v1::FrameworkInfo {
                name: "f".to_owned(),
                user: "u".to_owned(),
                ..Default::default()
            },
            agent_info: v1::AgentInfo { hostname: "h".to_owned(), ..Default::default() },
            container_id: None,
        };
        let event = Event { subscribed: Some(subscribed), ..Default::default() };
        self.event(event::Type::Subscribed, event).await;
    }

    pub async fn launch(&self, task: &str) {
        let task = v1::TaskInfo {
            name: task.to_owned(),
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: v1::AgentId { value: "agent-1".to_owned() },
            ..Default::default()
        };
        let launch = Some(event::Launch { task });
        self.event(event::Type::Launch, Event { launch, ..Default::default() }).await;
    }

    pub async fn acknowledge(&self, status: &v1::TaskStatus) {
        let acknowledged = event::Acknowledged {
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("a uuid"),
        };
        let event = Event { acknowledged: Some(acknowledged), ..Default::default() };
        self.event(event::Type::Acknowledged, event).await;
    }
}
