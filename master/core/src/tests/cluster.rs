//! A master with a few agents and frameworks that tests move by hand. After every input the
//! invariants are checked.

use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_master_allocator::{AllocatorConfig, DrfAllocator};
use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{
    AgentOperation, AgentTask, AgentToMaster, LaunchPosition, OperationUpdate, Register,
    StatusUpdate,
};
use mezzo_proto::storage::v1::{Command, Counters, agent_record};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::Capability;
use mezzo_proto::v1::framework_info::capability::Type as CapabilityType;
use mezzo_proto::v1::scheduler::{Call, Event, call, event};
use mezzo_types::{Now, Position, Resources};

use crate::{
    Answer, Config, Effect, Input, LinkId, Master, Refusal, Registry, RequestId, StreamId,
};

pub(crate) struct Cluster {
    pub(crate) master: Master,
    pub(crate) now: Now,
    /// What the log holds, as committed.
    pub(crate) registry: Registry,
    pub(crate) log: Vec<Command>,
    pub(crate) events: BTreeMap<StreamId, Vec<Event>>,
    /// What the newest event of each stream waits for.
    pub(crate) latest_after: BTreeMap<StreamId, Position>,
    pub(crate) closed_streams: Vec<StreamId>,
    pub(crate) to_agents: BTreeMap<LinkId, Vec<(ToAgent, Position)>>,
    pub(crate) closed_links: Vec<LinkId>,
    pub(crate) replies: BTreeMap<RequestId, Result<Answer, Refusal>>,
    /// Why the master wants to end.
    pub(crate) halted: Option<String>,
    config: Config,
    next: u64,
    term: u64,
}

const START: Now = Now { mono_ns: 1_000_000_000, unix_ns: 1_700_000_000_000_000_000 };

pub(crate) fn config() -> Config {
    Config::new(v1::MasterInfo { id: "m".to_owned(), ..v1::MasterInfo::default() })
}

pub(crate) fn framework_info(aware: bool) -> v1::FrameworkInfo {
    let capabilities = if aware { vec![CapabilityType::PartitionAware] } else { vec![] };
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "test".to_owned(),
        failover_timeout: Some(60.0),
        capabilities: capabilities
            .into_iter()
            .map(|c| Capability { r#type: Some(c as i32) })
            .collect(),
        ..v1::FrameworkInfo::default()
    }
}

pub(crate) fn resources(text: &str) -> Vec<v1::Resource> {
    Resources::parse(text, "*").expect("valid resources").to_proto()
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let registry = Registry {
            counters: Counters { cluster_id: "c".to_owned(), ..Counters::default() },
            ..Registry::default()
        };
        Self::of(config(), registry, 1, START)
    }

    /// With some settings changed.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut cluster = Self::new();
        change(&mut cluster.config);
        let Self { config, registry, now, .. } = cluster;
        Self::of(config, registry, 1, now)
    }

    fn of(config: Config, registry: Registry, term: u64, now: Now) -> Self {
        let allocator = Box::new(DrfAllocator::new(AllocatorConfig::default()));
        let master = Master::recover(config.clone(), term, &registry, allocator, now);
        let mut cluster = Self {
            master,
            now,
            registry,
            log: Vec::new(),
            events: BTreeMap::new(),
            latest_after: BTreeMap::new(),
            closed_streams: Vec::new(),
            to_agents: BTreeMap::new(),
            closed_links: Vec::new(),
            replies: BTreeMap::new(),
            halted: None,
            config,
            next: term * 1000,
            term,
        };
        cluster.settle();
        cluster
    }

    /// The master dies; another takes over from the log.
    pub(crate) fn fail_over(self) -> Self {
        Self::of(self.config, self.registry, self.term + 1, self.now)
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        self.settle();
    }

    /// Lets time pass, stopping wherever the master wants to be called.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now.plus(by);
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= end) {
            let step = due.saturating_sub(self.now.mono_ns);
            self.now = self.now.advanced(Duration::from_nanos(step));
            self.master.handle_timeout(self.now);
            self.settle();
        }
        let rest = end.saturating_sub(self.now.mono_ns);
        self.now = self.now.advanced(Duration::from_nanos(rest));
    }

    fn settle(&mut self) {
        while let Some(effect) = self.master.poll_effect() {
            match effect {
                Effect::Persist(command) => {
                    self.registry.apply(&command);
                    self.log.push(*command);
                }
                Effect::Event { stream, event, after } => {
                    assert!(after.0 <= self.log.len() as u64, "waits for what was persisted");
                    self.latest_after.insert(stream, after);
                    self.events.entry(stream).or_default().push(*event);
                }
                Effect::CloseStream { stream, .. } => self.closed_streams.push(stream),
                Effect::Agent { link, message, after } => {
                    let message = message.message.expect("a message");
                    self.to_agents.entry(link).or_default().push((message, after));
                }
                Effect::CloseLink { link, .. } => self.closed_links.push(link),
                Effect::Reply { request, result, .. } => {
                    assert!(self.replies.insert(request, result).is_none(), "one answer each");
                }
                Effect::View(_) => {}
                Effect::Halt(reason) => self.halted = Some(reason),
            }
        }
        if let Err(violation) = self.master.check_invariants() {
            panic!("{violation}");
        }
        self.check_registry();
    }

    /// Another master would know the same tasks and agents from the log.
    fn check_registry(&self) {
        let placed: Vec<_> = self.registry.placements.keys().cloned().collect();
        let frameworks = self.master.frameworks.values();
        let known: Vec<_> = frameworks
            .flat_map(|f| f.tasks.keys().map(|task| (f.id.clone(), task.clone())))
            .collect();
        assert_eq!(placed, known, "the ledger has the tasks that the master knows");
        let placed: Vec<_> = self.registry.operations.keys().map(|uuid| uuid.to_vec()).collect();
        let known: Vec<_> = self.master.operations.keys().map(|u| u.as_bytes().to_vec()).collect();
        assert_eq!(placed, known, "the log has the operations that the master knows");
        for (id, record) in &self.registry.agents {
            let agent = self.master.agents.get(id);
            let unreachable = agent.is_some_and(|a| a.unreachable_since_unix_ns.is_some());
            let state = match record.state() {
                agent_record::State::Admitted => agent.is_some() && !unreachable,
                agent_record::State::Unreachable => unreachable,
                agent_record::State::Gone => self.master.gone.contains_key(id),
            };
            assert!(state, "the registry has agent '{id}' as {:?}", record.state());
        }
        let known = self.master.agents.len() + self.master.gone.len();
        assert_eq!(self.registry.agents.len(), known, "the registry has every agent");
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn subscribe(&mut self, info: v1::FrameworkInfo) -> StreamId {
        let stream = StreamId(self.id());
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: info,
                ..Default::default()
            })),
            ..Call::default()
        };
        self.input(Input::Subscribe { stream, call: Box::new(call), principal: None });
        stream
    }

    /// Subscribes and returns stream and id.
    pub(crate) fn framework(&mut self, info: v1::FrameworkInfo) -> (StreamId, v1::FrameworkId) {
        let stream = self.subscribe(info);
        let first = self.take_events(stream).remove(0);
        let id = first.subscribed.expect("SUBSCRIBED comes first").framework_id;
        (stream, id)
    }

    pub(crate) fn call(
        &mut self,
        stream: StreamId,
        id: &v1::FrameworkId,
        kind: call::Type,
        fill: impl FnOnce(&mut Call),
    ) -> Result<Answer, Refusal> {
        let mut call =
            Call { framework_id: Some(id.clone()), r#type: Some(kind as i32), ..Call::default() };
        fill(&mut call);
        let request = RequestId(self.id());
        self.input(Input::Call {
            request,
            stream: Some(stream),
            call: Box::new(call),
            task_infos: Vec::new(),
        });
        self.replies.remove(&request).expect("every call is answered")
    }

    pub(crate) fn agent_says(&mut self, link: LinkId, message: ToMaster) {
        let message = Box::new(AgentToMaster { message: Some(message) });
        self.input(Input::AgentMessage { link, message });
    }

    /// A new agent with `text` resources; returns its link and id.
    pub(crate) fn agent(&mut self, text: &str) -> (LinkId, String) {
        self.register(None, text, LaunchPosition::default(), vec![], "boot-1")
    }

    pub(crate) fn register(
        &mut self,
        id: Option<&str>,
        text: &str,
        last_launch: LaunchPosition,
        tasks: Vec<AgentTask>,
        boot: &str,
    ) -> (LinkId, String) {
        self.register_with(id, text, last_launch, tasks, boot, Vec::new(), Vec::new())
    }

    /// An agent that comes back without tasks, and knows these frameworks.
    pub(crate) fn register_knowing(
        &mut self,
        id: &str,
        text: &str,
        frameworks: Vec<v1::FrameworkInfo>,
    ) -> (LinkId, String) {
        self.send_register(
            text,
            Register { boot_id: "boot-1".to_owned(), frameworks, ..Register::default() },
            Some(id),
        )
    }

    /// With operations that the agent carried out, and what they made of its resources.
    #[expect(clippy::too_many_arguments, reason = "what a registration consists of")]
    pub(crate) fn register_with(
        &mut self,
        id: Option<&str>,
        text: &str,
        last_launch: LaunchPosition,
        tasks: Vec<AgentTask>,
        boot: &str,
        operations: Vec<AgentOperation>,
        total_resources: Vec<v1::Resource>,
    ) -> (LinkId, String) {
        let register = Register {
            boot_id: boot.to_owned(),
            last_launch: Some(last_launch),
            tasks,
            operations,
            total_resources,
            ..Register::default()
        };
        self.send_register(text, register, id)
    }

    fn send_register(
        &mut self,
        text: &str,
        mut register: Register,
        id: Option<&str>,
    ) -> (LinkId, String) {
        let link = LinkId(self.id());
        register.agent_info = Some(v1::AgentInfo {
            hostname: "host".to_owned(),
            resources: resources(text),
            id: id.map(|value| v1::AgentId { value: value.to_owned() }),
            ..v1::AgentInfo::default()
        });
        self.agent_says(link, ToMaster::Register(Box::new(register)));
        let messages = self.take_messages(link);
        let Some(ToAgent::Registered(registered)) = messages.first() else {
            panic!("not registered: {messages:?}");
        };
        // What came after it (repeated orders) stays for the test to see.
        let id = registered.agent_id.clone();
        let rest = messages.into_iter().skip(1).map(|m| (m, Position(0))).collect();
        self.to_agents.insert(link, rest);
        (link, id)
    }

    pub(crate) fn take_events(&mut self, stream: StreamId) -> Vec<Event> {
        self.events.remove(&stream).unwrap_or_default()
    }

    pub(crate) fn take_messages(&mut self, link: LinkId) -> Vec<ToAgent> {
        self.to_agents.remove(&link).unwrap_or_default().into_iter().map(|(m, _)| m).collect()
    }

    /// The offers that came on a stream, and nothing else may have.
    pub(crate) fn take_offers(&mut self, stream: StreamId) -> Vec<v1::Offer> {
        let events = self.take_events(stream);
        events
            .into_iter()
            .flat_map(|event| event.offers.unwrap_or_else(|| panic!("not offers")).offers)
            .collect()
    }

    /// The statuses that came on a stream; other events are dropped.
    pub(crate) fn take_statuses(&mut self, stream: StreamId) -> Vec<v1::TaskStatus> {
        let events = self.take_events(stream).into_iter();
        events
            .filter(|event| event.r#type == Some(event::Type::Update as i32))
            .map(|event| event.update.expect("UPDATE has its body").status)
            .collect()
    }

    pub(crate) fn launch(
        &mut self,
        stream: StreamId,
        id: &v1::FrameworkId,
        offers: &[&v1::Offer],
        tasks: Vec<v1::TaskInfo>,
    ) {
        let accept = call::Accept {
            offer_ids: offers.iter().map(|o| o.id.clone()).collect(),
            operations: vec![v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::Launch as i32),
                launch: Some(v1::offer::operation::Launch { task_infos: tasks }),
                ..v1::offer::Operation::default()
            }],
            ..call::Accept::default()
        };
        let result = self.call(stream, id, call::Type::Accept, |c| c.accept = Some(accept));
        assert_eq!(result, Ok(Answer::Accepted));
    }

    pub(crate) fn accept(
        &mut self,
        stream: StreamId,
        id: &v1::FrameworkId,
        offers: &[&v1::Offer],
        operations: Vec<v1::offer::Operation>,
    ) {
        let accept = call::Accept {
            offer_ids: offers.iter().map(|o| o.id.clone()).collect(),
            operations,
            ..call::Accept::default()
        };
        let result = self.call(stream, id, call::Type::Accept, |c| c.accept = Some(accept));
        assert_eq!(result, Ok(Answer::Accepted));
    }

    /// An agent says how an operation went.
    pub(crate) fn operation_update(
        &mut self,
        link: LinkId,
        operation_uuid: &bytes::Bytes,
        state: v1::OperationState,
        uuid: u8,
    ) {
        let status = v1::OperationStatus {
            state: state as i32,
            uuid: Some(v1::Uuid { value: vec![uuid; 16].into() }),
            ..v1::OperationStatus::default()
        };
        self.agent_says(
            link,
            ToMaster::OperationUpdate(Box::new(OperationUpdate {
                operation_uuid: operation_uuid.clone(),
                status: Some(status),
                ..OperationUpdate::default()
            })),
        );
    }

    /// An operator's operation on an agent.
    pub(crate) fn operate(
        &mut self,
        agent: &str,
        operation: v1::offer::Operation,
    ) -> Result<Answer, Refusal> {
        let request = RequestId(self.id());
        self.input(Input::Operate {
            request,
            agent: agent.into(),
            operation: Box::new(operation),
            principal: None,
        });
        self.replies.remove(&request).expect("every call is answered")
    }

    pub(crate) fn update(
        &mut self,
        link: LinkId,
        framework: &v1::FrameworkId,
        task: &str,
        state: TaskState,
        uuid: u8,
    ) {
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state as i32,
            uuid: Some(vec![uuid; 16].into()),
            ..v1::TaskStatus::default()
        };
        self.agent_says(
            link,
            ToMaster::StatusUpdate(Box::new(StatusUpdate {
                framework_id: framework.value.clone(),
                status: Some(status),
                latest_state: state as i32,
            })),
        );
    }

    pub(crate) fn acknowledge(
        &mut self,
        stream: StreamId,
        id: &v1::FrameworkId,
        agent: &str,
        task: &str,
        uuid: u8,
    ) {
        let acknowledge = call::Acknowledge {
            agent_id: v1::AgentId { value: agent.to_owned() },
            task_id: v1::TaskId { value: task.to_owned() },
            uuid: vec![uuid; 16].into(),
        };
        let result =
            self.call(stream, id, call::Type::Acknowledge, |c| c.acknowledge = Some(acknowledge));
        assert_eq!(result, Ok(Answer::Accepted));
    }
}

pub(crate) fn task(id: &str, agent: &str, text: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        agent_id: v1::AgentId { value: agent.to_owned() },
        resources: resources(text),
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..v1::TaskInfo::default()
    }
}
