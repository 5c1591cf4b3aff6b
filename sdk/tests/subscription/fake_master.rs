//! A master that says what the test tells it to, over the real protocols.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as HttpResponse};
use mezzo_proto::{json, recordio};
use mezzo_sdk::v1::scheduler::connect_response::Message;
use mezzo_sdk::v1::scheduler::scheduler_server::{Scheduler, SchedulerServer};
use mezzo_sdk::v1::scheduler::{
    Call, CallResult, ConnectRequest, ConnectResponse, Event, call, event,
};
use mezzo_sdk::v1::{self, TaskState};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Speaks gRPC and HTTP on one port, as a master does.
pub struct FakeMaster {
    pub address: String,
    sessions: mpsc::Receiver<Session>,
}

/// One connection of the framework under test.
pub struct Session {
    calls: Calls,
    events: Events,
}

enum Calls {
    Grpc(Streaming<ConnectRequest>),
    Http(mpsc::Receiver<Posted>),
}

enum Events {
    Grpc(mpsc::Sender<Result<ConnectResponse, Status>>),
    Http { records: mpsc::Sender<Event>, unanswered: Unanswered },
}

/// Who waits for the answers to POSTs, by their sequence.
type Unanswered = Arc<Mutex<HashMap<u64, oneshot::Sender<(u16, String)>>>>;

/// A call over HTTP.
struct Posted {
    sequence: u64,
    call: Call,
}

#[derive(Clone)]
struct Service {
    sessions: mpsc::Sender<Session>,
    /// Subscriptions over HTTP by stream id.
    streams: Arc<Mutex<HashMap<String, Stream>>>,
}

#[derive(Clone)]
struct Stream {
    calls: mpsc::Sender<Posted>,
    unanswered: Unanswered,
    sequence: Arc<std::sync::atomic::AtomicU64>,
}

#[tonic::async_trait]
impl Scheduler for Service {
    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let calls = Calls::Grpc(request.into_inner());
        let session = Session { calls, events: Events::Grpc(answers) };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn post(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> HttpResponse {
    let json = headers["content-type"] == "application/json";
    assert_eq!(headers["accept"], headers["content-type"]);
    let call: Call = match json {
        true => json::from_slice(&body).expect("JSON"),
        false => Call::decode(body).expect("protobuf"),
    };
    if call.r#type != Some(call::Type::Subscribe as i32) {
        let id = headers["mesos-stream-id"].to_str().expect("text").to_owned();
        let stream = service.streams.lock().unwrap().get(&id).cloned().expect("a known stream");
        let sequence = stream.sequence.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (code, message) = stream.ask(sequence, call).await;
        return (StatusCode::from_u16(code).expect("a code"), message).into_response();
    }
    assert!(headers.get("mesos-stream-id").is_none());
    let (calls, posted) = mpsc::channel(64);
    let (records, stream_of_records) = mpsc::channel(64);
    let unanswered = Unanswered::default();
    let stream = Stream {
        calls,
        unanswered: unanswered.clone(),
        sequence: Arc::new(std::sync::atomic::AtomicU64::new(2)),
    };
    let session =
        Session { calls: Calls::Http(posted), events: Events::Http { records, unanswered } };
    service.sessions.send(session).await.expect("the test runs");
    let (code, message) = stream.ask(1, call).await;
    if code != 200 {
        return (StatusCode::from_u16(code).expect("a code"), message).into_response();
    }
    let id = {
        let mut streams = service.streams.lock().unwrap();
        let id = format!("stream-{}", streams.len());
        streams.insert(id.clone(), stream);
        id
    };
    let encode = move |event: Event| match json {
        true => recordio::encode(&json::to_vec(&event)),
        false => recordio::encode(&event.encode_to_vec()),
    };
    let body = ReceiverStream::new(stream_of_records)
        .map(move |event| Ok::<_, std::convert::Infallible>(encode(event)));
    ([("mesos-stream-id", id)], Body::from_stream(body)).into_response()
}

impl Stream {
    /// Hands the call to the test and waits for its answer; for ever if the test gives none.
    async fn ask(&self, sequence: u64, call: Call) -> (u16, String) {
        let (sender, answer) = oneshot::channel();
        self.unanswered.lock().unwrap().insert(sequence, sender);
        let posted = self.calls.send(Posted { sequence, call }).await;
        match (posted, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            _ => std::future::pending().await,
        }
    }
}

/// An HTTP server that sends everybody elsewhere.
pub async fn start_pointing_to(leader: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let location = format!("//{leader}");
    let grpc_location = location.clone();
    let point = move || async move {
        (StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response()
    };
    let status = move || async move {
        let mut status = Status::unavailable("another one leads");
        status.metadata_mut().insert("location", grpc_location.parse().expect("ASCII"));
        status.into_http::<Body>()
    };
    let app = axum::Router::new()
        .route("/api/v1/scheduler", axum::routing::post(point))
        .route("/mezzo.v1.scheduler.Scheduler/Connect", axum::routing::post(status));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

impl FakeMaster {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        Self::serve(listener)
    }

    /// At a given address, where nothing listens yet.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::serve(TcpListener::bind(address).await.expect("bind"))
    }

    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("address").to_string();
        let (sender, sessions) = mpsc::channel(8);
        let service = Service { sessions: sender, streams: Arc::default() };
        let http = axum::Router::new()
            .route("/api/v1/scheduler", axum::routing::post(post))
            .with_state(service.clone());
        let routes = tonic::service::Routes::from(http).add_service(SchedulerServer::new(service));
        tokio::spawn(
            tonic::transport::Server::builder()
                .accept_http1(true)
                .add_routes(routes)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        FakeMaster { address, sessions }
    }

    /// The next connection.
    pub async fn accept(&mut self) -> Session {
        self.sessions.recv().await.expect("the server runs")
    }

    /// The next connection, subscribed as framework `id`; the SUBSCRIBE call comes along.
    pub async fn accept_subscription(&mut self, id: &str) -> (Session, call::Subscribe) {
        let mut session = self.accept().await;
        let (seq, call) = session.next_call().await;
        assert_eq!(call.r#type, Some(call::Type::Subscribe as i32), "first call");
        session.answer(seq, 200, "").await;
        session.subscribed(id).await;
        (session, *call.subscribe.expect("body of SUBSCRIBE"))
    }
}

impl Session {
    pub async fn next_call(&mut self) -> (u64, Call) {
        self.try_next_call().await.expect("a call")
    }

    /// None when the framework has closed the stream.
    pub async fn try_next_call(&mut self) -> Option<(u64, Call)> {
        match (&mut self.calls, &self.events) {
            (Calls::Grpc(calls), _) => {
                let request = calls.message().await.ok()??;
                Some((request.seq, request.call.expect("a call in the request")))
            }
            (Calls::Http(calls), Events::Http { records, .. }) => tokio::select! {
                Some(posted) = calls.recv() => Some((posted.sequence, posted.call)),
                () = records.closed() => None,
            },
            (Calls::Http(_), Events::Grpc(_)) => unreachable!("they are made together"),
        }
    }

    /// The next call, which has to be of this type; answers it with 202.
    pub async fn expect(&mut self, kind: call::Type) -> Call {
        let (seq, call) = self.next_call().await;
        assert_eq!(call.r#type, Some(kind as i32), "{call:?}");
        self.answer(seq, 202, "").await;
        call
    }

    pub async fn answer(&self, seq: u64, code: u32, message: &str) {
        let message = message.to_owned();
        match &self.events {
            Events::Grpc(answers) => {
                let result = CallResult { seq, code, message };
                let response = ConnectResponse { message: Some(Message::Result(result)) };
                // A framework that has left does not hear it.
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
                let response = ConnectResponse { message: Some(Message::Event(Box::new(event))) };
                let _ = answers.send(Ok(response)).await;
            }
            Events::Http { records, .. } => {
                let _ = records.send(event).await;
            }
        }
    }

    pub async fn subscribed(&self, id: &str) {
        self.subscribed_with_heartbeats(id, 15.0).await;
    }

    pub async fn subscribed_with_heartbeats(&self, id: &str, seconds: f64) {
        let subscribed = event::Subscribed {
            framework_id: v1::FrameworkId { value: id.to_owned() },
            heartbeat_interval_seconds: Some(seconds),
            ..Default::default()
        };
        let event = Event { subscribed: Some(Box::new(subscribed)), ..Default::default() };
        self.event(event::Type::Subscribed, event).await;
    }

    pub async fn offer(&self, id: &str, cpus: f64, mem: f64) {
        let offer = v1::Offer {
            id: v1::OfferId { value: id.to_owned() },
            framework_id: v1::FrameworkId { value: "framework-1".to_owned() },
            agent_id: v1::AgentId { value: "agent-1".to_owned() },
            hostname: "host".to_owned(),
            resources: vec![
                mezzo_sdk::resource::scalar("cpus", cpus),
                mezzo_sdk::resource::scalar("mem", mem),
            ],
            ..Default::default()
        };
        let offers = event::Offers { offers: vec![offer] };
        self.event(event::Type::Offers, Event { offers: Some(offers), ..Default::default() }).await;
    }

    pub async fn update(&self, task: &str, state: TaskState, uuid: Option<u8>) {
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state as i32,
            agent_id: Some(v1::AgentId { value: "agent-1".to_owned() }),
            uuid: uuid.map(|byte| vec![byte; 16].into()),
            ..Default::default()
        };
        let update = event::Update { status };
        self.event(event::Type::Update, Event { update: Some(update), ..Default::default() }).await;
    }
}
