//! A core with a model of its shell around it: records, links, and effects as one line of text each.

mod checks;
mod drains;
mod endings;
mod executors;
mod kills;
mod life;
mod links;
mod operations;
mod property;
mod recovery;
mod room;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mezzo_proto::internal::v1::{
    Acknowledge, AgentToMaster, KillTask, LaunchPosition, MasterToAgent, Registered, RunTask,
    ShutdownFramework, StatusUpdate, agent_to_master, master_to_agent,
};
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, DrainRecord, ExecutorRecord, OperationRecord, ResourcesRecord,
    TaskRecord,
};
use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability;
use mezzo_types::{ContainerId, Now, Resources, Uuid16};
use prost::Message;

use crate::{Change, Checkpoint, Config, Core, Effect, Ending, Input, LinkId, Observed, Persist};

pub(super) const LINK: LinkId = LinkId(1);
pub(super) const TERM: u64 = 7;

/// What the records say, and what a crash would leave of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub identity: Option<AgentIdentity>,
    pub last_launch: LaunchPosition,
    pub tasks: BTreeMap<(String, String), TaskRecord>,
    pub containers: BTreeMap<String, ContainerRecord>,
    pub executors: BTreeMap<(String, String), ExecutorRecord>,
    pub resources: Option<ResourcesRecord>,
    pub operations: BTreeMap<Uuid16, OperationRecord>,
    pub drain: Option<DrainRecord>,
}

impl Records {
    fn apply(&mut self, persist: &Persist) {
        for change in &persist.changes {
            match change.clone() {
                Change::PutIdentity(identity) => self.identity = Some(*identity),
                Change::DeleteIdentity => self.identity = None,
                Change::PutDrain(drain) => self.drain = drain,
                Change::PutLastLaunch(position) => self.last_launch = position,
                Change::PutTask(framework, task, record) => {
                    self.tasks.insert((framework.to_string(), task.to_string()), *record);
                }
                Change::DeleteTask(framework, task) => {
                    self.tasks.remove(&(framework.to_string(), task.to_string()));
                }
                Change::PutContainer(record) => {
                    self.containers.insert(record.container_id.clone(), *record);
                }
                Change::DeleteContainer(id) => {
                    self.containers.remove(id.as_str());
                }
                Change::PutExecutor(framework, executor, record) => {
                    self.executors.insert((framework.to_string(), executor.to_string()), *record);
                }
                Change::DeleteExecutor(framework, executor) => {
                    self.executors.remove(&(framework.to_string(), executor.to_string()));
                }
                Change::PutResources(record) => self.resources = Some(*record),
                Change::PutOperation(uuid, record) => {
                    self.operations.insert(uuid, *record);
                }
                Change::DeleteOperation(uuid) => {
                    self.operations.remove(&uuid);
                }
            }
        }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            identity: self.identity.clone(),
            last_launch: self.last_launch,
            tasks: self.tasks.values().cloned().collect(),
            containers: self.containers.values().cloned().collect(),
            executors: self.executors.values().cloned().collect(),
            resources: self.resources.clone(),
            operations: self.operations.values().cloned().collect(),
            drain: self.drain,
            unreadable: 0,
        }
    }
}

pub(super) struct World {
    pub core: Core,
    pub now: Now,
    pub records: Records,
    pub sequence: u64,
    /// How often the agent started: each start makes other ids.
    pub starts: u64,
    /// Effects since the last look.
    pub effects: Vec<Effect>,
}

pub(super) fn config() -> Config {
    let info = v1::AgentInfo { hostname: "host".into(), ..v1::AgentInfo::default() };
    Config::new(info, "0.1.0", "boot-1", "10.0.0.1")
}

pub(super) fn framework(capabilities: &[capability::Type]) -> v1::FrameworkInfo {
    let capability =
        |kind: &capability::Type| v1::framework_info::Capability { r#type: Some(*kind as i32) };
    v1::FrameworkInfo {
        user: "nobody".into(),
        name: "f".into(),
        id: Some(v1::FrameworkId { value: "f".into() }),
        capabilities: capabilities.iter().map(capability).collect(),
        ..v1::FrameworkInfo::default()
    }
}

pub(super) fn task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.into(),
        task_id: v1::TaskId { value: id.into() },
        agent_id: v1::AgentId { value: "S0".into() },
        command: Some(v1::CommandInfo { value: Some("true".into()), ..Default::default() }),
        ..v1::TaskInfo::default()
    }
}

pub(super) fn grace(seconds: f64) -> v1::KillPolicy {
    let nanoseconds = (seconds * 1e9) as i64;
    v1::KillPolicy { grace_period: Some(v1::DurationInfo { nanoseconds }) }
}

impl World {
    /// An agent at its first start.
    pub fn new() -> Self {
        let now = Now { mono_ns: 1_000_000_000, unix_ns: 1_700_000_000_000_000_000 };
        let core =
            Core::recover(now, config(), Checkpoint::default(), &BTreeMap::new(), [1, 2]).unwrap();
        let mut world = World {
            core,
            now,
            records: Records::default(),
            sequence: 0,
            starts: 1,
            effects: Vec::new(),
        };
        world.drain();
        world.effects.clear();
        world
    }

    /// One that a master of term 7 has admitted as `S0`.
    pub fn registered() -> Self {
        let mut world = World::new();
        world.register(LINK, TERM);
        world.effects.clear();
        world
    }

    pub fn register(&mut self, link: LinkId, term: u64) {
        self.handle(Input::LinkUp { link });
        let registered = Registered { agent_id: "S0".into(), term, ping_timeout_ms: 90_000 };
        self.master_on(link, master_to_agent::Message::Registered(registered));
    }

    pub fn handle(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.drain();
    }

    pub fn master(&mut self, message: master_to_agent::Message) {
        self.master_on(LINK, message);
    }

    pub fn master_on(&mut self, link: LinkId, message: master_to_agent::Message) {
        let message = Box::new(MasterToAgent { message: Some(message) });
        self.handle(Input::Master { link, message });
    }

    pub fn run(&mut self, info: &v1::TaskInfo, owner: v1::FrameworkInfo) {
        self.sequence += 1;
        self.master(master_to_agent::Message::RunTask(Box::new(RunTask {
            position: Some(LaunchPosition { term: TERM, sequence: self.sequence }),
            framework_info: Some(owner),
            task_info: info.encode_to_vec().into(),
            launch_executor: false,
        })));
    }

    /// Launches `task(id)` and returns its container.
    pub fn launched(&mut self, id: &str) -> ContainerId {
        self.run(&task(id), framework(&[]));
        self.container_of(id)
    }

    pub fn running(&mut self, id: &str) -> ContainerId {
        let container = self.launched(id);
        self.started(&container);
        container
    }

    pub fn started(&mut self, container: &ContainerId) {
        let container = container.clone();
        self.handle(Input::Started { container, pid: 42, start_time_ticks: 4200 });
    }

    pub fn exited(&mut self, container: &ContainerId, status: i32) {
        let ending = Ending::Status(status);
        self.handle(Input::Exited { container: container.clone(), ending });
    }

    pub fn destroyed(&mut self, container: &ContainerId) {
        self.handle(Input::Destroyed { container: container.clone() });
    }

    pub fn kill(&mut self, id: &str, kill_policy: Option<v1::KillPolicy>) {
        self.master(master_to_agent::Message::KillTask(KillTask {
            framework_id: "f".into(),
            task_id: id.into(),
            kill_policy,
        }));
    }

    pub fn shutdown_framework(&mut self) {
        let shutdown = ShutdownFramework { framework_id: "f".into() };
        self.master(master_to_agent::Message::ShutdownFramework(shutdown));
    }

    /// Acknowledges the update in flight of a task; returns its state's name.
    pub fn acknowledge(&mut self, id: &str) -> Option<String> {
        let record = self.records.tasks.get(&("f".to_owned(), id.to_owned()))?;
        let first = record.updates.first()?.clone();
        self.acknowledge_uuid(id, first.uuid.clone().unwrap_or_default());
        Some(first.state().as_str_name().to_owned())
    }

    pub fn acknowledge_uuid(&mut self, id: &str, uuid: Bytes) {
        self.master(master_to_agent::Message::Acknowledge(Acknowledge {
            framework_id: "f".into(),
            task_id: id.into(),
            uuid,
        }));
    }

    pub fn container_of(&self, id: &str) -> ContainerId {
        self.records.tasks[&("f".to_owned(), id.to_owned())].container_id.as_str().into()
    }

    pub fn latest(&self, id: &str) -> v1::TaskStatus {
        let record = &self.records.tasks[&("f".to_owned(), id.to_owned())];
        record.latest.clone().expect("the task has a status")
    }

    pub fn pass(&mut self, seconds: f64) {
        self.now = self.now.advanced(Duration::from_secs_f64(seconds));
        self.core.handle_timeout(self.now);
        self.drain();
    }

    /// The agent dies and starts again.
    pub fn restart(&mut self, config: Config, observed: &[(&ContainerId, Observed)]) {
        let observed = observed.iter().map(|(id, seen)| ((*id).clone(), seen.clone())).collect();
        let checkpoint = self.records.checkpoint();
        self.starts += 1;
        let seed = [self.starts, 2];
        self.core = Core::recover(self.now, config, checkpoint, &observed, seed).unwrap();
        self.effects.clear();
        self.drain();
    }

    fn drain(&mut self) {
        self.core.check_invariants().unwrap();
        while let Some(effect) = self.core.poll_effect() {
            if let Effect::Persist(persist) = &effect {
                self.records.apply(persist);
            }
            self.effects.push(effect);
        }
    }

    /// The effects since the last look, without what only readers see.
    pub fn transcript(&mut self) -> String {
        let effects = std::mem::take(&mut self.effects);
        let lines: Vec<String> = effects.iter().filter_map(line).collect();
        lines.join("\n")
    }

    /// The names of the states that were sent since the last look.
    pub fn sent(&mut self) -> Vec<String> {
        let effects = std::mem::take(&mut self.effects);
        let updates = effects.iter().filter_map(update);
        updates.map(|u| u.status.unwrap_or_default().state().as_str_name().to_owned()).collect()
    }
}

pub(super) fn update(effect: &Effect) -> Option<StatusUpdate> {
    let Effect::Send { message, .. } = effect else { return None };
    match &message.message {
        Some(agent_to_master::Message::StatusUpdate(update)) => Some(*update.clone()),
        _ => None,
    }
}

fn line(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Persist(persist) => {
            let changes: Vec<String> = persist.changes.iter().map(change).collect();
            let synced = if persist.synced { " synced" } else { "" };
            format!("persist{synced} {}", changes.join(", "))
        }
        Effect::Send { message, after, .. } => format!("send {} after {after}", sent_line(message)),
        Effect::CloseLink { link, reason } => format!("close link {}: {reason}", link.0),
        Effect::Launch { launch, after } => {
            format!("launch {} as {} after {after}", launch.executor_id, launch.user)
        }
        Effect::Signal { signal, after, .. } => format!("signal {signal} after {after}"),
        Effect::Destroy { after, .. } => format!("destroy after {after}"),
        Effect::MakeVolumes { volumes, after, .. } => {
            format!("make volumes {volumes} after {after}")
        }
        Effect::RemoveVolumes { volumes, after } => {
            format!("remove volumes {volumes} after {after}")
        }
        Effect::Left { reason, after } => format!("left {reason:?} after {after}"),
        Effect::Check { kind, timeout, .. } => format!("look {kind:?} for {timeout:?}"),
        Effect::Update { resources, grant, after, .. } => {
            format!("update {grant} to {resources} after {after}")
        }
        Effect::ExecutorAnswer { request, result, after } => match result {
            Ok(answer) => format!("answer {} {answer:?} after {after}", request.0),
            Err(refusal) => {
                format!("answer {} {}: {refusal} after {after}", request.0, refusal.http_code())
            }
        },
        Effect::ExecutorEvent { stream, event, after } => {
            format!("event {} {} after {after}", stream.0, executors::event_line(event))
        }
        Effect::CloseExecutor { stream, reason, after } => {
            format!("close executor {}: {reason} after {after}", stream.0)
        }
        Effect::View(_) => return None,
    })
}

fn change(change: &Change) -> String {
    match change {
        Change::PutIdentity(identity) => format!("identity of term {}", identity.highest_term),
        Change::DeleteIdentity => "no identity".to_owned(),
        Change::PutDrain(drain) => if drain.is_some() { "drain" } else { "no drain" }.to_owned(),
        Change::PutLastLaunch(position) => {
            format!("last launch {}.{}", position.term, position.sequence)
        }
        Change::PutTask(_, id, record) => {
            let updates = record.updates.iter().map(|u| short(u.state()));
            let updates: Vec<String> = updates.collect();
            format!("{id} {} [{}]", record.phase().as_str_name(), updates.join(" "))
        }
        Change::DeleteTask(_, id) => format!("no {id}"),
        Change::PutContainer(record) => format!("container with pid {}", record.pid),
        Change::DeleteContainer(_) => "no container".to_owned(),
        Change::PutExecutor(_, id, record) => {
            format!("executor {id} {}", record.phase().as_str_name())
        }
        Change::DeleteExecutor(_, id) => format!("no executor {id}"),
        Change::PutResources(record) => {
            format!("total {}", Resources::from_proto(&record.total).unwrap())
        }
        Change::PutOperation(_, record) => {
            let states = record.updates.iter().map(|status| status.state().as_str_name());
            format!("operation [{}]", states.collect::<Vec<_>>().join(" "))
        }
        Change::DeleteOperation(_) => "no operation".to_owned(),
    }
}

fn sent_line(message: &AgentToMaster) -> String {
    match &message.message {
        Some(agent_to_master::Message::StatusUpdate(update)) => {
            let status = update.status.clone().unwrap_or_default();
            let latest = update.latest_state();
            format!("{} {} ({})", status.task_id.value, short(status.state()), short(latest))
        }
        Some(agent_to_master::Message::Register(register)) => {
            let tasks: Vec<String> = register
                .tasks
                .iter()
                .map(|task| short(task.latest.clone().unwrap_or_default().state()))
                .collect();
            format!("register of term {} [{}]", register.highest_term, tasks.join(" "))
        }
        Some(agent_to_master::Message::Pong(_)) => "pong".to_owned(),
        Some(agent_to_master::Message::Unregister(_)) => "unregister".to_owned(),
        Some(agent_to_master::Message::OperationUpdate(update)) => {
            let state = update.status.as_ref().map(|status| status.state().as_str_name());
            state.unwrap_or("operation without status").to_owned()
        }
        Some(agent_to_master::Message::ExecutorMessage(message)) => {
            format!("message of executor {}", message.executor_id)
        }
        Some(agent_to_master::Message::ExecutorExited(exited)) => {
            format!("executor {} exited with {}", exited.executor_id, exited.wait_status)
        }
        None => "nothing".to_owned(),
    }
}

fn short(state: v1::TaskState) -> String {
    state.as_str_name().trim_start_matches("TASK_").to_owned()
}
