//! A master in a small world in which anybody may say anything that the `.proto` files can say.
//!
//! Frameworks, agents and operators speak in turn, as the bytes have it; links break, time passes, masters fail
//! over. It never panics, its invariants hold, each request is answered once, and each subscription begins with
//! SUBSCRIBED or ERROR.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mezzo_master_allocator::{AllocatorConfig, DrfAllocator};
use mezzo_master_core::{
    CallRate, CallRates, Config, Effect, Input, LinkId, Master, Registry, RequestId, Statistics,
    StreamId,
};
use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{
    AgentOperation, AgentTask, AgentToMaster, LaunchPosition, OperationUpdate, Register,
    StatusUpdate,
};
use mezzo_proto::storage::v1::Counters;
use mezzo_proto::v1::scheduler::{Call, call, event};
use mezzo_proto::{decode_checked, raw, v1};
use mezzo_types::{Now, Resource, ResourceOperation, Resources, is_terminal};
use prost::Message;

use super::plausible::{Known, Tape, message};

const START: Now = Now { mono_ns: 1_000_000_000, unix_ns: 1_700_000_000_000_000_000 };
/// What happens in one input.
const STEPS: usize = 200;
const FRAMEWORKS: usize = 4;
const AGENTS: usize = 3;

/// Whatever is said, in whatever order.
pub(super) fn anything(data: &[u8]) {
    let mut tape = Tape::new(data);
    let mut world = World::new(tape.byte().is_multiple_of(4));
    for _ in 0..STEPS {
        if tape.is_empty() {
            break;
        }
        world.step(&mut tape);
    }
    world.finish();
}

/// Any operations on offers that are there.
pub(super) fn operations(data: &[u8]) {
    let mut world = World::new(false);
    world.register();
    world.subscribe(&mut Tape::new(&[]));
    world.pass(Duration::from_secs(1));
    let mut tape = Tape::new(data);
    for _ in 0..STEPS {
        if tape.is_empty() {
            break;
        }
        world.accept(&mut tape);
        world.pass(Duration::from_secs(u64::from(tape.byte() % 8)));
        world.agent_speaks(&mut tape);
    }
    world.finish();
}

#[derive(Default)]
struct Framework {
    stream: Option<StreamId>,
    id: Option<v1::FrameworkId>,
    info: v1::FrameworkInfo,
    offers: Vec<v1::Offer>,
}

struct Agent {
    link: Option<LinkId>,
    id: Option<String>,
    last_launch: LaunchPosition,
    /// With the newest state that the agent told.
    tasks: BTreeMap<(String, String), (v1::TaskInfo, v1::TaskState)>,
    total: Resources,
    operations: BTreeMap<Vec<u8>, AgentOperation>,
    /// What it has to say, oldest first; forgotten when the link breaks.
    says: VecDeque<ToMaster>,
}

fn configured() -> Resources {
    let resources = "cpus:8;mem:4096;disk:4096;ports:[31000-31009];cpus(web):2";
    Resources::parse(resources, "*").expect("valid")
}

struct World {
    master: Master,
    config: Config,
    term: u64,
    now: Now,
    registry: Registry,
    next: u64,
    frameworks: Vec<Framework>,
    agents: Vec<Agent>,
    /// Requests without an answer yet.
    waiting: BTreeSet<RequestId>,
    /// Streams on which nothing was said yet.
    silent: BTreeSet<StreamId>,
    known: Known,
    /// What masters before this one counted.
    past: Vec<Statistics>,
}

fn allocator() -> Box<DrfAllocator> {
    Box::new(DrfAllocator::new(AllocatorConfig::default()))
}

fn encoded(values: &[impl Message]) -> Vec<Vec<u8>> {
    values.iter().map(Message::encode_to_vec).collect()
}

fn ids(prefix: &str, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("{prefix}{n}").into_bytes()).collect()
}

impl World {
    fn new(throttled: bool) -> Self {
        let mut config = Config::new(v1::MasterInfo { id: "m".to_owned(), ..Default::default() });
        if throttled {
            let slow = CallRate { per_second: 3.0, capacity: Some(5) };
            config.call_rates = CallRates {
                by_principal: BTreeMap::from([("slow".to_owned(), Some(slow))]),
                others: None,
            };
        }
        let counters = Counters { cluster_id: "c".to_owned(), ..Counters::default() };
        let registry = Registry { counters, ..Registry::default() };
        let master = Master::recover(config.clone(), 1, &registry, allocator(), START);
        let mut known = Known::default();
        let texts = |values: &[&str]| values.iter().map(|text| text.as_bytes().to_vec()).collect();
        for (field, values) in [
            ("user", texts(&["nobody", "daemon"])),
            ("name", texts(&["cpus", "mem", "disk", "ports", "n"])),
            ("role", texts(&["*", "web", "web/x", "db"])),
            ("roles", texts(&["*", "web", "db"])),
            ("principal", texts(&["slow", "p"])),
            ("uuid", vec![vec![1; 16], vec![2; 16], vec![3; 4]]),
            ("status_uuid", vec![vec![1; 16]]),
            ("operation_uuid", vec![vec![1; 16]]),
        ] {
            known.texts.insert(field, values);
        }
        let task_ids: Vec<v1::TaskId> =
            (0..6).map(|n| v1::TaskId { value: format!("t{n}") }).collect();
        let executors: Vec<v1::ExecutorId> =
            (0..3).map(|n| v1::ExecutorId { value: format!("e{n}") }).collect();
        let operations: Vec<v1::OperationId> =
            (0..3).map(|n| v1::OperationId { value: format!("o{n}") }).collect();
        known.messages.insert(".mezzo.v1.TaskID", encoded(&task_ids));
        known.messages.insert(".mezzo.v1.ExecutorID", encoded(&executors));
        known.messages.insert(".mezzo.v1.OperationID", encoded(&operations));
        let command = v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() };
        known.messages.insert(".mezzo.v1.CommandInfo", encoded(&[command]));
        known.texts.insert("task_id", ids("t", 6));
        known.texts.insert("executor_id", ids("e", 3));
        let mut world = Self {
            master,
            config,
            term: 1,
            now: START,
            registry,
            next: 1000,
            frameworks: Vec::new(),
            agents: Vec::new(),
            waiting: BTreeSet::new(),
            silent: BTreeSet::new(),
            known,
            past: Vec::new(),
        };
        world.settle();
        world
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(effect) = self.master.poll_effect() {
            self.carry_out(effect);
        }
        if let Err(violation) = self.master.check_invariants() {
            panic!("{violation}");
        }
        assert!(self.silent.is_empty(), "neither SUBSCRIBED nor ERROR on {:?}", self.silent);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(command) => self.registry.apply(&command),
            Effect::Reply { request, .. } => {
                assert!(
                    self.waiting.remove(&request),
                    "{request:?} was answered twice, or never asked"
                );
            }
            Effect::Event { stream, event, .. } => {
                if self.silent.remove(&stream) {
                    let greeting = event.r#type();
                    let good = matches!(greeting, event::Type::Subscribed | event::Type::Error);
                    assert!(good, "a subscription begins with {greeting:?}");
                }
                let framework = self.frameworks.iter_mut().find(|f| f.stream == Some(stream));
                let Some(framework) = framework else { return };
                // It was removed, say: another comes in its place.
                if event.error.is_some() {
                    framework.id = None;
                }
                if let Some(subscribed) = event.subscribed {
                    framework.id = Some(subscribed.framework_id);
                }
                framework.offers.extend(event.offers.into_iter().flat_map(|offers| offers.offers));
            }
            Effect::CloseStream { stream, .. } => {
                for framework in self.frameworks.iter_mut().filter(|f| f.stream == Some(stream)) {
                    framework.stream = None;
                    framework.offers.clear();
                }
            }
            Effect::Agent { link, message, .. } => {
                let agent = self.agents.iter_mut().find(|agent| agent.link == Some(link));
                if let (Some(agent), Some(message)) = (agent, message.message) {
                    hear(agent, message);
                }
            }
            Effect::CloseLink { link, .. } => {
                for agent in self.agents.iter_mut().filter(|agent| agent.link == Some(link)) {
                    agent.link = None;
                }
            }
            _ => {}
        }
    }

    /// Lets time pass, stopping wherever the master wants to be called.
    fn pass(&mut self, by: Duration) {
        let end = self.now.plus(by);
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= end) {
            self.now =
                self.now.advanced(Duration::from_nanos(due.saturating_sub(self.now.mono_ns)));
            self.master.handle_timeout(self.now);
            self.settle();
        }
        self.now = self.now.advanced(Duration::from_nanos(end.saturating_sub(self.now.mono_ns)));
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.below(16) {
            0 => self.pass(Duration::from_millis(u64::from(tape.byte()) * 20)),
            1 if tape.byte() < 64 => self.pass(Duration::from_secs(u64::from(tape.byte()) * 8)),
            1 => self.pass(Duration::from_secs(u64::from(tape.byte() % 32))),
            2 | 3 => self.subscribe(tape),
            4 => self.register(),
            5 => self.hang_up(tape),
            6..=8 => self.agent_speaks(tape),
            9 => self.operator_speaks(tape),
            10 if tape.byte() < 32 => self.fail_over(),
            10..=12 => self.accept(tape),
            _ => self.call(tape),
        }
    }

    /// SUBSCRIBE of a new framework, or of one that is known: with anything besides what it needs.
    fn subscribe(&mut self, tape: &mut Tape<'_>) {
        let at = tape.below(FRAMEWORKS);
        while self.frameworks.len() <= at {
            self.frameworks.push(Framework::default());
        }
        let sane = v1::FrameworkInfo {
            user: "nobody".to_owned(),
            name: "n".to_owned(),
            failover_timeout: Some(60.0),
            principal: Some(["p", "slow"][at % 2].to_owned()),
            ..v1::FrameworkInfo::default()
        };
        let framework = &self.frameworks[at];
        let mut info = match (tape.below(4), &framework.id) {
            (0 | 1, Some(_)) => framework.info.clone(),
            (2 | 3, _) => {
                let bytes = message(".mezzo.v1.FrameworkInfo", &self.known, tape);
                decode_checked(&bytes).unwrap_or(sane)
            }
            _ => sane,
        };
        if tape.byte() < 224 {
            info.id = framework.id.clone();
        }
        let bytes = message(".mezzo.v1.scheduler.Call.Subscribe", &self.known, tape);
        let mut subscribe: call::Subscribe = decode_checked(&bytes).unwrap_or_default();
        subscribe.framework_info = info.clone();
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(subscribe)),
            ..Call::default()
        };
        if mezzo_master_core::validation::scheduler_call(&call).is_err() {
            return;
        }
        let stream = StreamId(self.id());
        let old = self.frameworks[at].stream.replace(stream);
        self.frameworks[at].info = info;
        self.frameworks[at].offers.clear();
        self.silent.insert(stream);
        self.input(Input::Subscribe { stream, call: Box::new(call), principal: None });
        if let Some(old) = old {
            self.input(Input::StreamClosed { stream: old });
        }
    }

    /// An honest agent comes, or comes back with all its tasks.
    fn register(&mut self) {
        let away = self.agents.iter().position(|agent| agent.link.is_none());
        let at = match away {
            Some(at) => at,
            None if self.agents.len() < AGENTS => {
                self.agents.push(Agent {
                    link: None,
                    id: None,
                    last_launch: LaunchPosition::default(),
                    tasks: BTreeMap::new(),
                    total: configured(),
                    operations: BTreeMap::new(),
                    says: VecDeque::new(),
                });
                self.agents.len() - 1
            }
            None => return,
        };
        let link = LinkId(self.id());
        let agent = &mut self.agents[at];
        agent.link = Some(link);
        agent.says.clear();
        let agent_info = v1::AgentInfo {
            hostname: "host".to_owned(),
            resources: configured().to_proto(),
            id: agent.id.clone().map(|value| v1::AgentId { value }),
            ..v1::AgentInfo::default()
        };
        let tasks = agent.tasks.iter().map(|((framework_id, task), (info, state))| {
            let status = v1::TaskStatus {
                task_id: v1::TaskId { value: task.clone() },
                state: *state as i32,
                ..v1::TaskStatus::default()
            };
            AgentTask {
                framework_id: framework_id.clone(),
                task_info: info.encode_to_vec().into(),
                latest: Some(status),
            }
        });
        let register = Register {
            agent_info: Some(agent_info),
            boot_id: "boot".to_owned(),
            last_launch: Some(agent.last_launch),
            tasks: tasks.collect(),
            total_resources: agent.total.to_proto(),
            operations: agent.operations.values().cloned().collect(),
            ..Register::default()
        };
        let message =
            Box::new(AgentToMaster { message: Some(ToMaster::Register(Box::new(register))) });
        self.input(Input::AgentMessage { link, message });
        let ids: Vec<v1::AgentId> = self
            .agents
            .iter()
            .filter_map(|agent| agent.id.clone())
            .map(|value| v1::AgentId { value })
            .collect();
        self.known.messages.insert(".mezzo.v1.AgentID", encoded(&ids));
    }

    fn hang_up(&mut self, tape: &mut Tape<'_>) {
        let (at, of_framework) = (tape.byte(), tape.byte().is_multiple_of(2));
        if of_framework {
            let streams: Vec<StreamId> = self.frameworks.iter().filter_map(|f| f.stream).collect();
            let Some(stream) = streams.get(usize::from(at) % streams.len().max(1)) else { return };
            for framework in self.frameworks.iter_mut().filter(|f| f.stream == Some(*stream)) {
                framework.stream = None;
                framework.offers.clear();
            }
            self.input(Input::StreamClosed { stream: *stream });
        } else {
            let links: Vec<LinkId> = self.agents.iter().filter_map(|agent| agent.link).collect();
            let Some(link) = links.get(usize::from(at) % links.len().max(1)) else { return };
            for agent in self.agents.iter_mut().filter(|agent| agent.link == Some(*link)) {
                agent.link = None;
            }
            self.input(Input::LinkClosed { link: *link });
        }
    }

    /// An agent reports the state of a task, or says anything but who it is.
    fn agent_speaks(&mut self, tape: &mut Tape<'_>) {
        let at = tape.below(self.agents.len());
        let Some(agent) = self.agents.get_mut(at) else { return };
        let Some(link) = agent.link else { return };
        let said = if let Some(said) = agent.says.pop_front() {
            said
        } else if tape.byte() < 160 && !agent.tasks.is_empty() {
            let which = tape.below(agent.tasks.len());
            let Some(((framework_id, task), (_, state))) = agent.tasks.iter_mut().nth(which) else {
                return;
            };
            let next = v1::TaskState::try_from(i32::from(tape.byte() % 14));
            // What has ended stays so.
            if !is_terminal(*state) {
                *state = next.unwrap_or(v1::TaskState::TaskRunning);
            }
            let uuid = 1 + tape.byte() % 2;
            status_update(framework_id, task, *state, uuid)
        } else if let Some(operation) = agent.operations.values().next() {
            operation_update(operation)
        } else {
            let bytes = message(".mezzo.internal.v1.AgentToMaster", &self.known, tape);
            match decode_checked::<AgentToMaster>(&bytes).map(|message| message.message) {
                // What an agent says of itself, and of the tasks that it has, is believed.
                Ok(Some(ToMaster::Register(_) | ToMaster::StatusUpdate(_)) | None) | Err(_) => {
                    return;
                }
                Ok(Some(said)) => said,
            }
        };
        let message = Box::new(AgentToMaster { message: Some(said) });
        self.input(Input::AgentMessage { link, message });
    }

    fn operator_speaks(&mut self, tape: &mut Tape<'_>) {
        let request = RequestId(self.id());
        let framework = self.frameworks.get(tape.below(self.frameworks.len()));
        let framework = framework.and_then(|f| f.id.as_ref()).map(Into::into);
        let input = match tape.below(12) {
            8.. => return self.operate(request, tape),
            0 => Input::Teardown { request, framework: framework.unwrap_or_else(|| "f".into()) },
            1 => {
                let agent = self.agents.get(tape.below(self.agents.len()));
                let agent = agent.and_then(|agent| agent.id.clone()).unwrap_or_default();
                Input::MarkAgentGone { request, agent: agent.into() }
            }
            _ => {
                let task = format!("t{}", tape.below(6)).into();
                let framework = framework.filter(|_| tape.byte().is_multiple_of(2));
                Input::KillTask { request, framework, task, policy: None }
            }
        };
        self.waiting.insert(request);
        self.input(input);
    }

    /// An operator wants resources of an agent reserved, made a volume, or the reverse.
    fn operate(&mut self, request: RequestId, tape: &mut Tape<'_>) {
        let bytes = message(".mezzo.v1.Offer.Operation", &self.known, tape);
        let Ok(operation) = decode_checked::<v1::offer::Operation>(&bytes) else { return };
        let agent = self.agents.get(tape.below(self.agents.len()));
        let agent = agent.and_then(|agent| agent.id.clone()).unwrap_or_default().into();
        self.waiting.insert(request);
        let principal = None;
        self.input(Input::Operate { request, agent, operation: Box::new(operation), principal });
    }

    /// The master dies; another takes over from the log. Whoever waited for an answer gets none.
    fn fail_over(&mut self) {
        self.term += 1;
        self.waiting.clear();
        self.past.push(self.master.statistics());
        self.master =
            Master::recover(self.config.clone(), self.term, &self.registry, allocator(), self.now);
        for framework in &mut self.frameworks {
            framework.stream = None;
            framework.offers.clear();
        }
        self.agents.iter_mut().for_each(|agent| agent.link = None);
        self.settle();
    }

    /// Any call of a framework.
    fn call(&mut self, tape: &mut Tape<'_>) {
        let at = tape.below(self.frameworks.len());
        self.know_offers_of(at);
        let bytes = message(".mezzo.v1.scheduler.Call", &self.known, tape);
        self.send_call(at, bytes, tape);
    }

    /// ACCEPT of what a framework was offered, with any operations on it.
    fn accept(&mut self, tape: &mut Tape<'_>) {
        let at = tape.below(self.frameworks.len());
        self.know_offers_of(at);
        let Some(framework) = self.frameworks.get_mut(at) else { return };
        let Some(offer) = framework.offers.pop() else { return };
        // Half of them mean well, or the world would hold too few tasks for anything to happen to.
        let sane = tape.byte() < 128;
        let mut accept = if sane {
            call::Accept {
                operations: vec![plausible_launch(&offer, tape.below(6))],
                filters: Some(v1::Filters { refuse_seconds: Some(0.0) }),
                ..call::Accept::default()
            }
        } else {
            let bytes = message(".mezzo.v1.scheduler.Call.Accept", &self.known, tape);
            let Ok(accept) = decode_checked::<call::Accept>(&bytes) else { return };
            accept
        };
        accept.offer_ids = vec![offer.id.clone()];
        for operation in &mut accept.operations {
            for task in operation.launch.iter_mut().flat_map(|launch| &mut launch.task_infos) {
                task.agent_id = offer.agent_id.clone();
            }
        }
        if !sane && tape.byte() < 144 {
            accept.operations.push(plausible_launch(&offer, tape.below(6)));
        }
        let call = Call {
            framework_id: framework.id.clone(),
            r#type: Some(call::Type::Accept as i32),
            accept: Some(accept),
            ..Call::default()
        };
        self.send_call(at, call.encode_to_vec(), tape);
    }

    fn send_call(&mut self, at: usize, bytes: Vec<u8>, tape: &mut Tape<'_>) {
        let Ok(mut call) = decode_checked::<Call>(&bytes) else { return };
        if call.r#type == Some(call::Type::Subscribe as i32) {
            return;
        }
        let own = self.frameworks.get(at);
        if let Some(id) = own.and_then(|f| f.id.clone()).filter(|_| tape.byte() < 240) {
            call.framework_id = Some(id);
        }
        let stream = match tape.byte() {
            0..=239 => own.and_then(|f| f.stream),
            240..=247 => Some(StreamId(0)),
            _ => None,
        };
        let task_infos = raw::task_infos(&bytes.into()).unwrap_or_default();
        let request = RequestId(self.id());
        self.waiting.insert(request);
        self.input(Input::Call { request, stream, call: Box::new(call), task_infos });
    }

    /// What a framework knows best: its offers, and pieces of them.
    fn know_offers_of(&mut self, at: usize) {
        let Some(framework) = self.frameworks.get(at) else { return };
        let offers: Vec<v1::OfferId> = framework.offers.iter().map(|o| o.id.clone()).collect();
        let mut pieces: Vec<v1::Resource> = Vec::new();
        for resource in framework.offers.iter().flat_map(|offer| &offer.resources).take(8) {
            pieces.push(resource.clone());
            for part in [1.0, 0.25] {
                let mut piece = resource.clone();
                piece.scalar.iter_mut().for_each(|scalar| scalar.value = scalar.value.min(part));
                pieces.push(piece);
            }
            let mut reserved = resource.clone();
            reserved.scalar.iter_mut().for_each(|scalar| scalar.value = scalar.value.min(1.0));
            reserved.reservations.push(v1::resource::ReservationInfo {
                r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
                role: Some("web".to_owned()),
                principal: framework.info.principal.clone(),
                ..Default::default()
            });
            let mut volume = reserved.clone();
            pieces.push(reserved);
            volume.disk = Some(Box::new(v1::resource::DiskInfo {
                persistence: Some(v1::resource::disk_info::Persistence {
                    id: "v".to_owned(),
                    principal: None,
                }),
                volume: Some(v1::Volume {
                    container_path: "data".to_owned(),
                    mode: v1::volume::Mode::Rw as i32,
                    ..Default::default()
                }),
                ..Default::default()
            }));
            if volume.name == "disk" {
                pieces.push(volume);
            }
        }
        let own: Vec<v1::FrameworkId> = framework.id.iter().cloned().collect();
        let own_text = own.iter().map(|id| id.value.clone().into_bytes()).collect();
        self.known.messages.insert(".mezzo.v1.OfferID", encoded(&offers));
        self.known.messages.insert(".mezzo.v1.Resource", encoded(&pieces));
        self.known.messages.insert(".mezzo.v1.FrameworkID", encoded(&own));
        self.known.texts.insert("framework_id", own_text);
    }

    /// Whoever waits for an answer gets it in time, and a successor comes up.
    fn finish(&mut self) {
        self.pass(Duration::from_secs(60));
        assert!(self.waiting.is_empty(), "never answered: {:?}", self.waiting);
        self.fail_over();
        self.pass(Duration::from_secs(10_000));
    }
}

fn status_update(framework: &str, task: &str, state: v1::TaskState, uuid: u8) -> ToMaster {
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: state as i32,
        uuid: Some(vec![uuid; 16].into()),
        ..v1::TaskStatus::default()
    };
    let latest_state = state as i32;
    let framework_id = framework.to_owned();
    ToMaster::StatusUpdate(Box::new(StatusUpdate {
        framework_id,
        status: Some(status),
        latest_state,
    }))
}

fn operation_update(operation: &AgentOperation) -> ToMaster {
    ToMaster::OperationUpdate(Box::new(OperationUpdate {
        framework_id: operation.framework_id.clone(),
        operation_uuid: operation.operation_uuid.clone(),
        status: operation.latest.clone(),
    }))
}

/// Whether an operation destroys a volume of a task that runs.
fn is_used(agent: &Agent, operation: &ResourceOperation) -> bool {
    let ResourceOperation::Destroy { volumes } = operation else { return false };
    let running = agent.tasks.values().filter(|(_, state)| !is_terminal(*state));
    running.into_iter().any(|(task, _)| {
        let resources = Resources::from_proto(&task.resources).unwrap_or_default().unallocated();
        volumes.iter().any(|volume| resources.contains_resource(volume))
    })
}

fn hear(agent: &mut Agent, said: ToAgent) {
    match said {
        ToAgent::Registered(registered) => agent.id = Some(registered.agent_id),
        // Barred: what comes next is a new agent.
        ToAgent::Refused(refused) if refused.shutdown => {
            agent.id = None;
            agent.tasks.clear();
            agent.operations.clear();
        }
        ToAgent::RunTask(run) => {
            agent.last_launch = run.position.unwrap_or_default();
            let framework = run.framework_info.and_then(|info| info.id);
            let task = v1::TaskInfo::decode(run.task_info);
            let (Some(framework), Ok(task)) = (framework, task) else { return };
            let resources = Resources::from_proto(&task.resources).unwrap_or_default();
            let made = resources.unallocated().filter(Resource::is_made_by_operation);
            if made.iter().any(|resource| !agent.total.contains_resource(resource)) {
                let state = v1::TaskState::TaskDropped;
                agent.says.push_back(status_update(
                    &framework.value,
                    &task.task_id.value,
                    state,
                    1,
                ));
                return;
            }
            let key = (framework.value, task.task_id.value.clone());
            agent.tasks.insert(key, (task, v1::TaskState::TaskStaging));
        }
        ToAgent::ApplyOperation(apply) => {
            agent.last_launch = apply.position.unwrap_or_default();
            let info = apply.info.unwrap_or_default();
            let read =
                ResourceOperation::from_proto(&info).map(|operation| operation.unallocated());
            let result = read.ok().filter(|operation| !is_used(agent, operation));
            let total = result.and_then(|o| agent.total.convert(&o.conversions()).ok());
            let state = match total {
                Some(total) => {
                    agent.total = total;
                    v1::OperationState::OperationFinished
                }
                None => v1::OperationState::OperationFailed,
            };
            let status = v1::OperationStatus {
                operation_id: info.id.clone(),
                state: state as i32,
                uuid: Some(v1::Uuid { value: vec![1; 16].into() }),
                ..v1::OperationStatus::default()
            };
            let operation = AgentOperation {
                operation_uuid: apply.operation_uuid.clone(),
                framework_id: apply.framework_id,
                info: Some(info),
                latest: Some(status),
            };
            agent.says.push_back(operation_update(&operation));
            agent.operations.insert(apply.operation_uuid.to_vec(), operation);
        }
        ToAgent::AcknowledgeOperation(acknowledged) => {
            agent.operations.remove(&acknowledged.operation_uuid[..]);
        }
        ToAgent::Acknowledge(acknowledged) => {
            let key = (acknowledged.framework_id, acknowledged.task_id);
            if agent.tasks.get(&key).is_some_and(|(_, state)| is_terminal(*state)) {
                agent.tasks.remove(&key);
            }
        }
        ToAgent::ShutdownFramework(shutdown) => {
            agent.tasks.retain(|(framework, _), _| *framework != shutdown.framework_id);
        }
        _ => {}
    }
}

/// A LAUNCH with which nothing is wrong, as long as its task's id is free.
fn plausible_launch(offer: &v1::Offer, number: usize) -> v1::offer::Operation {
    let open = offer.resources.iter().find(|r| r.name == "cpus" && r.reservations.is_empty());
    let part = open.cloned().map(|mut resource| {
        resource.scalar = Some(v1::value::Scalar { value: 0.1 });
        resource
    });
    let command = v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() };
    let task = v1::TaskInfo {
        name: "n".to_owned(),
        task_id: v1::TaskId { value: format!("t{number}") },
        agent_id: offer.agent_id.clone(),
        resources: part.into_iter().collect(),
        command: Some(command),
        ..v1::TaskInfo::default()
    };
    v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch as i32),
        launch: Some(v1::offer::operation::Launch { task_infos: vec![task] }),
        ..v1::offer::Operation::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Dice;

    /// The world reaches what it is there for: else its silence would say nothing.
    #[test]
    fn tapes_lead_to_tasks_and_to_every_call() {
        let (mut accepted, mut updates, mut states) = (0, 0, BTreeSet::new());
        let mut refused = 0;
        for seed in 0..100 {
            let tape = Dice::new(seed).bytes(20_000);
            let mut tape = Tape::new(&tape);
            let mut world = World::new(false);
            while !tape.is_empty() {
                world.step(&mut tape);
            }
            for statistics in world.past.iter().chain([&world.master.statistics()]) {
                accepted += statistics.offers_accepted;
                updates += statistics.updates_valid;
                refused += statistics.acknowledgements_invalid;
                let reached = statistics.tasks_reached.iter().enumerate();
                states.extend(reached.filter(|(_, count)| **count > 0).map(|(state, _)| state));
            }
        }
        let reached = format!(
            "{accepted} accepted, {updates} updates, {refused} acknowledgements of nothing, states \
             {states:?}"
        );
        println!("{reached}");
        assert!(accepted > 600 && updates > 400 && refused > 50 && states.len() > 12, "{reached}");
    }

    #[test]
    fn every_call_is_made() {
        let mut kinds = BTreeSet::new();
        for seed in 0..400 {
            let tape = Dice::new(seed).bytes(400);
            let bytes =
                message(".mezzo.v1.scheduler.Call", &Known::default(), &mut Tape::new(&tape));
            let call: Call = decode_checked(&bytes).expect("what is required is there");
            if mezzo_master_core::validation::scheduler_call(&call).is_ok() {
                kinds.insert(call.r#type().as_str_name());
            }
        }
        // Of SUBSCRIBE and UPDATE_FRAMEWORK both ids must be equal, which needs a known one; both uuids must
        // have their length.
        let rare = ["SUBSCRIBE", "UPDATE_FRAMEWORK", "ACKNOWLEDGE", "ACKNOWLEDGE_OPERATION_STATUS"];
        let all = (1..=17).filter_map(|number| call::Type::try_from(number).ok());
        for kind in all.map(|kind| kind.as_str_name()).filter(|kind| !rare.contains(kind)) {
            assert!(kinds.contains(kind), "{kind} is never made");
        }
    }
}
