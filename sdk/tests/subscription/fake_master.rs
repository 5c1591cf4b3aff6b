//! A master that says what the test tells it to, over the real protocol.

use std::net::SocketAddr;

use mezzo_sdk::v1::scheduler::connect_response::Message;
use mezzo_sdk::v1::scheduler::scheduler_server::{Scheduler, SchedulerServer};
use mezzo_sdk::v1::scheduler::{
    Call, CallResult, ConnectRequest, ConnectResponse, Event, call, event,
};
use mezzo_sdk::v1::{self, TaskState};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub struct FakeMaster {
    pub address: String,
    sessions: mpsc::Receiver<Session>,
}

/// One connection of the framework under test.
pub struct Session {
    calls: Streaming<ConnectRequest>,
    answers: mpsc::Sender<Result<ConnectResponse, Status>>,
}

struct Service {
    sessions: mpsc::Sender<Session>,
}

#[tonic::async_trait]
impl Scheduler for Service {
    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let session = Session { calls: request.into_inner(), answers };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
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
        let service = SchedulerServer::new(Service { sessions: sender });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
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
        (session, call.subscribe.expect("body of SUBSCRIBE"))
    }
}

impl Session {
    pub async fn next_call(&mut self) -> (u64, Call) {
        self.try_next_call().await.expect("a call")
    }

    /// None when the framework has closed the stream.
    pub async fn try_next_call(&mut self) -> Option<(u64, Call)> {
        let request = self.calls.message().await.ok()??;
        Some((request.seq, request.call.expect("a call in the request")))
    }

    /// The next call, which has to be of this type; answers it with 202.
    pub async fn expect(&mut self, kind: call::Type) -> Call {
        let (seq, call) = self.next_call().await;
        assert_eq!(call.r#type, Some(kind as i32), "{call:?}");
        self.answer(seq, 202, "").await;
        call
    }

    pub async fn answer(&self, seq: u64, code: u32, message: &str) {
        let result = CallResult { seq, code, message: message.to_owned() };
        self.send(Ok(ConnectResponse { message: Some(Message::Result(result)) })).await;
    }

    pub async fn event(&self, kind: event::Type, event: Event) {
        let event = Event { r#type: Some(kind as i32), ..event };
        self.send(Ok(ConnectResponse { message: Some(Message::Event(event)) })).await;
    }

    pub async fn fail(&self, status: Status) {
        self.send(Err(status)).await;
    }

    async fn send(&self, response: Result<ConnectResponse, Status>) {
        // A framework that has left does not hear it.
        let _ = self.answers.send(response).await;
    }

    pub async fn subscribed(&self, id: &str) {
        let subscribed = event::Subscribed {
            framework_id: v1::FrameworkId { value: id.to_owned() },
            heartbeat_interval_seconds: Some(15.0),
            ..Default::default()
        };
        let event = Event { subscribed: Some(subscribed), ..Default::default() };
        self.event(event::Type::Subscribed, event).await;
    }

    pub async fn offer(&self, id: &str, cpus: f64, mem: f64) {
        let scalar = |name: &str, value: f64| v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        };
        let offer = v1::Offer {
            id: v1::OfferId { value: id.to_owned() },
            agent_id: v1::AgentId { value: "agent-1".to_owned() },
            resources: vec![scalar("cpus", cpus), scalar("mem", mem)],
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
