//! A master and an agent that speak the real protocol and run nothing: a task does what its
//! command says, `exit N`, `signal N` or `sleep` (until it is killed).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use mezzo_sdk::v1::scheduler::connect_response::Message;
use mezzo_sdk::v1::scheduler::scheduler_server::{Scheduler, SchedulerServer};
use mezzo_sdk::v1::scheduler::{
    Call, CallResult, ConnectRequest, ConnectResponse, Event, call, event,
};
use mezzo_sdk::v1::task_status::{Reason, Source, Termination};
use mezzo_sdk::v1::{self, TaskInfo, TaskState, TaskStatus};
use mezzo_sdk::v1::{agent, master};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What happened, for the test to look at.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Subscribed(v1::FrameworkInfo),
    Launched(Box<TaskInfo>),
    Declined,
    Killed(String),
    TornDown,
    /// The framework's stream ended.
    Left,
}

pub struct FakeCluster {
    pub master: String,
    pub seen: mpsc::UnboundedReceiver<Seen>,
}

impl FakeCluster {
    /// A cluster whose only agent offers so many CPUs.
    pub async fn start(cpus: f64) -> Self {
        let agent_address = serve(|mut server| {
            server.add_service(agent::operator_server::OperatorServer::new(FakeAgent::default()))
        })
        .await;
        let (sender, seen) = mpsc::unbounded_channel();
        let scheduler = FakeScheduler { cpus, seen: sender };
        let operator = FakeOperator { agent_address };
        let master = serve(|mut server| {
            server
                .add_service(SchedulerServer::new(scheduler))
                .add_service(master::operator_server::OperatorServer::new(operator))
        })
        .await;
        FakeCluster { master, seen }
    }

    /// Waits for the next thing seen that `pick` accepts.
    pub async fn wait_for<T>(&mut self, mut pick: impl FnMut(&Seen) -> Option<T>) -> T {
        loop {
            let seen = self.seen.recv().await.expect("the cluster runs");
            if let Some(picked) = pick(&seen) {
                return picked;
            }
        }
    }
}

async fn serve(
    services: impl FnOnce(tonic::transport::Server) -> tonic::transport::server::Router,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let router = services(tonic::transport::Server::builder());
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

struct FakeScheduler {
    cpus: f64,
    seen: mpsc::UnboundedSender<Seen>,
}

type Answers = mpsc::Sender<Result<ConnectResponse, Status>>;

#[tonic::async_trait]
impl Scheduler for FakeScheduler {
    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (answers, stream) = mpsc::channel(1024);
        let mut calls = request.into_inner();
        let mut subscription = Subscription {
            cpus: self.cpus,
            seen: self.seen.clone(),
            answers,
            tasks: HashMap::new(),
        };
        tokio::spawn(async move {
            while let Ok(Some(request)) = calls.message().await {
                let call = request.call.expect("a call");
                subscription
                    .send(Message::Result(CallResult {
                        seq: request.seq,
                        code: 202,
                        message: String::new(),
                    }))
                    .await;
                subscription.handle(call).await;
            }
            subscription.saw(Seen::Left);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Subscription {
    cpus: f64,
    seen: mpsc::UnboundedSender<Seen>,
    answers: Answers,
    /// Tasks that run until they are killed.
    tasks: HashMap<String, TaskInfo>,
}

impl Subscription {
    fn saw(&self, seen: Seen) {
        // The test may be over.
        let _ = self.seen.send(seen);
    }

    async fn send(&self, message: Message) {
        let _ = self.answers.send(Ok(ConnectResponse { message: Some(message) })).await;
    }

    async fn event(&self, kind: event::Type, event: Event) {
        self.send(Message::Event(Box::new(Event { r#type: Some(kind as i32), ..event }))).await;
    }

    async fn handle(&mut self, call: Call) {
        match call.r#type() {
            call::Type::Subscribe => {
                let subscribe = call.subscribe.expect("body");
                self.saw(Seen::Subscribed(subscribe.framework_info));
                let subscribed = event::Subscribed {
                    framework_id: v1::FrameworkId { value: "framework-1".to_owned() },
                    ..Default::default()
                };
                let event = Event { subscribed: Some(Box::new(subscribed)), ..Default::default() };
                self.event(event::Type::Subscribed, event).await;
                self.offer().await;
            }
            call::Type::Accept => {
                for operation in call.accept.expect("body").operations {
                    for task in operation.launch.expect("LAUNCH").task_infos {
                        self.launch(task).await;
                    }
                }
                self.offer().await;
            }
            call::Type::Decline => self.saw(Seen::Declined),
            call::Type::Kill => {
                let id = call.kill.expect("body").task_id.value;
                self.saw(Seen::Killed(id.clone()));
                if let Some(task) = self.tasks.remove(&id) {
                    let ending = Termination { signal: Some(15), ..Default::default() };
                    self.update(&task, TaskState::TaskKilled, Some(ending), None).await;
                }
            }
            call::Type::Teardown => self.saw(Seen::TornDown),
            _ => {}
        }
    }

    async fn offer(&self) {
        let scalar = |name: &str, value: f64| v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        };
        let offer = v1::Offer {
            id: v1::OfferId { value: "offer".to_owned() },
            agent_id: v1::AgentId { value: "agent-1".to_owned() },
            hostname: "node1".to_owned(),
            resources: vec![scalar("cpus", self.cpus), scalar("mem", 4096.0)],
            ..Default::default()
        };
        let offers = Some(event::Offers { offers: vec![offer] });
        self.event(event::Type::Offers, Event { offers, ..Default::default() }).await;
    }

    async fn launch(&mut self, task: TaskInfo) {
        self.saw(Seen::Launched(Box::new(task.clone())));
        let arguments = task.command.clone().expect("command").arguments;
        let number = arguments.get(1).map(|number| number.parse().expect("a number"));
        self.update(&task, TaskState::TaskRunning, None, None).await;
        match arguments[0].as_str() {
            "exit" => {
                let ending = Termination { exit_code: number, ..Default::default() };
                let state = match number {
                    Some(0) => TaskState::TaskFinished,
                    _ => TaskState::TaskFailed,
                };
                let message = format!("Command exited with status {}", number.unwrap_or(0));
                self.update(&task, state, Some(ending), Some(message)).await;
            }
            "signal" => {
                let ending = Termination { signal: number, ..Default::default() };
                self.update(&task, TaskState::TaskFailed, Some(ending), None).await;
            }
            _ => {
                self.tasks.insert(task.task_id.value.clone(), task);
            }
        }
    }

    async fn update(
        &self,
        task: &TaskInfo,
        state: TaskState,
        termination: Option<Termination>,
        message: Option<String>,
    ) {
        let status = TaskStatus {
            task_id: task.task_id.clone(),
            agent_id: Some(task.agent_id.clone()),
            state: state as i32,
            source: Some(Source::Executor as i32),
            reason: message.is_some().then_some(Reason::CommandExecutorFailed as i32),
            uuid: Some(vec![1; 16].into()),
            termination,
            message,
            ..Default::default()
        };
        let update = Some(event::Update { status });
        self.event(event::Type::Update, Event { update, ..Default::default() }).await;
    }
}

struct FakeOperator {
    agent_address: String,
}

#[tonic::async_trait]
impl master::operator_server::Operator for FakeOperator {
    async fn invoke(
        &self,
        request: Request<master::Call>,
    ) -> Result<Response<master::Response>, Status> {
        if request.into_inner().r#type() != master::call::Type::GetAgents {
            return Err(Status::unimplemented("only GET_AGENTS here"));
        }
        let agent = master::response::get_agents::Agent {
            agent_info: v1::AgentInfo {
                id: Some(v1::AgentId { value: "agent-1".to_owned() }),
                hostname: "node1.invalid".to_owned(),
                ..Default::default()
            },
            active: true,
            pid: Some(format!("slave(1)@{}", self.agent_address)),
            ..Default::default()
        };
        let get_agents = master::response::GetAgents { agents: vec![agent], ..Default::default() };
        Ok(Response::new(master::Response { get_agents: Some(get_agents), ..Default::default() }))
    }

    async fn kill_task(
        &self,
        _: Request<master::KillTaskRequest>,
    ) -> Result<Response<master::KillTaskResponse>, Status> {
        Err(Status::not_found("no task here"))
    }

    type SubscribeStream = tokio_stream::Empty<Result<master::Event, Status>>;

    async fn subscribe(
        &self,
        _: Request<master::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("nothing changes here"))
    }
}

/// Breaks off its first reading of a `stdout` in the middle, as an agent that restarts does.
#[derive(Default)]
struct FakeAgent {
    has_broken: AtomicBool,
}

#[tonic::async_trait]
impl agent::operator_server::Operator for FakeAgent {
    type ReadFileStream = Pin<Box<dyn Stream<Item = Result<agent::FileChunk, Status>> + Send>>;

    async fn invoke(&self, _: Request<agent::Call>) -> Result<Response<agent::Response>, Status> {
        Err(Status::unimplemented("only ReadFile here"))
    }

    async fn statistics(
        &self,
        _: Request<agent::StatisticsRequest>,
    ) -> Result<Response<agent::StatisticsResponse>, Status> {
        Err(Status::unimplemented("only ReadFile here"))
    }

    async fn read_file(
        &self,
        request: Request<agent::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        let task = request.task_id.expect("task id").value;
        let content = format!("{} of {task}\n", request.path);
        let offset = usize::try_from(request.offset).expect("offset");
        let mut pieces: Vec<Result<agent::FileChunk, Status>> = content.as_bytes()[offset..]
            .chunks(5)
            .enumerate()
            .map(|(n, data)| {
                Ok(agent::FileChunk { offset: (offset + 5 * n) as u64, data: data.to_vec().into() })
            })
            .collect();
        if request.path == "stdout" && !self.has_broken.swap(true, Ordering::Relaxed) {
            pieces.truncate(1);
            pieces.push(Err(Status::unavailable("the agent restarts")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }
}
