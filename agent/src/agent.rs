//! The loop: what arrives goes into the core, what the core orders is carried out.
//!
//! One task owns the core. A round takes what has arrived (up to a bound), drains the core's effects, puts
//! all records of the round into the store as one batch, and carries out what no record holds back.

use std::time::{Duration, Instant};

use mezzo_agent_core::{
    Change, CheckOutcome, Core, Effect, Ending, Input, Limitation, LinkId, Statistics, ViewChange,
    Workload,
};
use mezzo_proto::internal::v1::{MasterToAgent, agent_to_master, master_to_agent};
use mezzo_proto::storage::v1::ContainerRecord;
use mezzo_store::{Batch, Progress, WriteError};
use mezzo_telemetry::Heartbeat;
use mezzo_types::{ContainerId, Position, Resources};
use tokio::sync::{mpsc, watch};

use crate::checkpoint::{self, Records};
use crate::clock::Clock;
use crate::containerizer::{self, Check, ContainerEvent, Containerizer, LaunchSpec};
use crate::executors::{ExecutorMessage, Executors};
use crate::launch_times::LaunchTimes;
use crate::link::{LinkEvent, LinkHandle};
use crate::outbox::Outbox;
use crate::view::View;
use crate::volumes::Volumes;

/// Events of containers that wait for the loop; more make the containers' tasks wait.
pub(crate) const CONTAINER_EVENTS_MAX: usize = 1024;
/// Messages of the master that wait for the loop; more make the connection wait.
pub(crate) const LINK_EVENTS_MAX: usize = 1024;
/// Inputs per round: enough to share the cost of a write, few enough that answers leave soon.
const INPUTS_PER_ROUND: usize = 256;
/// How long an agent that left waits until the master has closed the link, which shows that it knows.
const FAREWELL: Duration = Duration::from_secs(5);

/// How an agent is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Only the agent: its tasks go on, and the next start finds them.
    Stop,
    /// Leave the cluster: end every task, tell the master, forget who this agent was.
    Leave,
}

/// Why the loop ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stopped,
    /// It left, and why if it was not asked to.
    Left(Option<String>),
}

/// The loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoopError {
    #[error("records could not be written")]
    Write(#[source] WriteError),
    #[error("records could not be put on the disk")]
    Sync(#[source] WriteError),
    #[error("the containers' part ended before the agent")]
    Containers,
}

/// Everything that the loop works with.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) records: Records,
    pub(crate) containers: Containerizer,
    pub(crate) view: View,
    pub(crate) statistics: watch::Sender<Statistics>,
    pub(crate) launch_times: LaunchTimes,
    pub(crate) volumes: Volumes,
}

/// What arrives.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) links: mpsc::Receiver<LinkEvent>,
    pub(crate) containers: mpsc::Receiver<ContainerEvent>,
    pub(crate) executors: mpsc::Receiver<ExecutorMessage>,
}

/// What an effect comes to once its records are durable.
#[derive(Debug)]
enum Action {
    Effect(Box<Effect>),
    /// The container's record is gone: so may be what the containerizer keeps of it.
    Forget(ContainerId),
}

/// How far the disk is, told by the store's sync thread.
#[derive(Debug, Default)]
struct Synced {
    position: Position,
    failed: Option<WriteError>,
}

struct Running {
    agent: Agent,
    outbox: Outbox<Action>,
    /// Number of Persist effects seen.
    position: Position,
    link: Option<(LinkId, LinkHandle)>,
    executors: Executors,
    synced: watch::Sender<Synced>,
    /// The core was told that the disk has no room.
    short: bool,
    left: Option<Option<String>>,
    /// What was carried out was answered at once: the core has more orders.
    again: bool,
    /// When the latest message of the master was taken.
    message_at: Instant,
}

impl Agent {
    /// Runs until `shutdown` resolves to [`Shutdown::Stop`], or until the agent has left.
    pub(crate) async fn run(
        self,
        mut inbox: Inbox,
        mut heartbeat: Heartbeat,
        shutdown: impl Future<Output = Shutdown> + Send + 'static,
    ) -> Result<Outcome, LoopError> {
        let (synced, mut syncs) = watch::channel(Synced::default());
        let mut running = Running {
            agent: self,
            outbox: Outbox::default(),
            position: Position::NONE,
            link: None,
            executors: Executors::default(),
            synced,
            short: false,
            left: None,
            again: false,
            message_at: Instant::now(),
        };
        tokio::pin!(shutdown);
        let mut asked = false;
        loop {
            running.settle()?;
            if let Some(reason) = running.left.take() {
                running.say_goodbye(&mut inbox.links).await;
                return Ok(Outcome::Left(reason));
            }
            let timeout = running.agent.core.poll_timeout();
            tokio::select! {
                // Cancel-safe: a message is taken or stays in the channel. The sender lives as long as the
                // runtime; without it there is no master, and containers still need this loop.
                Some(event) = inbox.links.recv() => running.link_event(event),
                // Cancel-safe, as above.
                event = inbox.containers.recv() => match event {
                    Some(event) => running.container_event(event),
                    None => return Err(LoopError::Containers),
                },
                // Cancel-safe, as above. Nobody calls once the API is gone, and this loop goes on without it.
                Some(message) = inbox.executors.recv() => running.executor_message(message),
                // Cancel-safe. `running` holds the sender, so it cannot end.
                _ = syncs.changed() => running.take_sync(&mut syncs)?,
                () = sleep_until(running.agent.clock, timeout) => {
                    let now = running.agent.clock.now();
                    running.agent.core.handle_timeout(now);
                }
                () = heartbeat.due() => {}
                // Polled no more once it resolved.
                order = &mut shutdown, if !asked => {
                    asked = true;
                    match order {
                        Shutdown::Stop => return Ok(Outcome::Stopped),
                        Shutdown::Leave => running.input(Input::Leave),
                    }
                }
            }
            // Whatever else is there shares this round's write.
            for _ in 0..INPUTS_PER_ROUND {
                if let Ok(event) = inbox.containers.try_recv() {
                    running.container_event(event);
                } else if let Ok(event) = inbox.links.try_recv() {
                    running.link_event(event);
                } else if let Ok(message) = inbox.executors.try_recv() {
                    running.executor_message(message);
                } else {
                    break;
                }
            }
        }
    }
}

impl Agent {
    /// Gives the container the GPUs that it asks for. Without them its launch fails, with a sentence.
    fn assign_gpus(&self, record: &mut ContainerRecord) {
        let Ok(resources) = Resources::from_proto(&record.resources) else { return };
        let id = ContainerId::from(record.container_id.as_str());
        if record.pid > 0 {
            record.gpus = self.containers.reassign_gpus(&id, &resources);
            return;
        }
        match self.containers.assign_gpus(&id, &resources) {
            Ok(gpus) => record.gpus = gpus,
            Err(error) => tracing::warn!(container = %id, %error, "no GPUs for a container"),
        }
    }
}

async fn sleep_until(clock: Clock, mono_ns: Option<u64>) {
    match mono_ns {
        Some(mono_ns) => tokio::time::sleep_until(clock.instant(mono_ns)).await,
        None => std::future::pending().await,
    }
}

impl Running {
    fn input(&mut self, input: Input) {
        let now = self.agent.clock.now();
        self.agent.core.handle(now, input);
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, handle } => {
                mezzo_fault_points::hit!("agent.link.up");
                self.link = Some((link, handle));
                self.input(Input::LinkUp { link });
            }
            LinkEvent::Message { link, message } => {
                mezzo_fault_points::hit!("agent.master.received");
                self.message_at = Instant::now();
                self.look_for_room(&message);
                self.input(Input::Master { link, message });
                mezzo_fault_points::hit!("agent.master.handled");
            }
            LinkEvent::Down { link } => {
                self.link.take_if(|(current, _)| *current == link);
                self.input(Input::LinkDown { link });
            }
        }
    }

    fn executor_message(&mut self, message: ExecutorMessage) {
        let input = self.executors.take(message);
        self.input(input);
    }

    fn container_event(&mut self, event: ContainerEvent) {
        let input = match event {
            // Its places follow from its ids and are in its record already.
            ContainerEvent::Prepared { .. } => return,
            ContainerEvent::Started { container, pid, start_time_ticks } => {
                mezzo_fault_points::hit!("agent.launch.started");
                self.agent.launch_times.executed(&container);
                Input::Started { container, pid, start_time_ticks }
            }
            ContainerEvent::LaunchFailed { container, stage, message } => {
                tracing::warn!(%container, %stage, message, "a launch failed");
                self.agent.launch_times.forget(&container);
                Input::LaunchFailed { container, message }
            }
            ContainerEvent::Updated { container, grant, result } => {
                Input::Updated { container, grant, result }
            }
            ContainerEvent::Limited { container, limitation } => {
                Input::Limited { container, limitation: limitation_of(limitation) }
            }
            ContainerEvent::Checked { container, kind, outcome } => {
                Input::Checked { container, kind, outcome }
            }
            ContainerEvent::Exited { container, ending } => {
                mezzo_fault_points::hit!("agent.exit.observed");
                Input::Exited { container, ending: ending_of(ending) }
            }
            ContainerEvent::Destroyed { container } => {
                self.agent.launch_times.forget(&container);
                Input::Destroyed { container }
            }
        };
        self.input(input);
    }

    fn take_sync(&mut self, syncs: &mut watch::Receiver<Synced>) -> Result<(), LoopError> {
        let mut failed = None;
        let position = syncs.borrow_and_update().position;
        self.synced.send_if_modified(|synced| {
            failed = synced.failed.take();
            false
        });
        if let Some(error) = failed {
            return Err(LoopError::Sync(error));
        }
        mezzo_fault_points::hit!("agent.records.synced");
        self.outbox.synced(position);
        Ok(())
    }

    /// Writes down and carries out what the core ordered, also what follows from that.
    fn settle(&mut self) -> Result<(), LoopError> {
        self.settle_once()?;
        while std::mem::take(&mut self.again) {
            self.settle_once()?;
        }
        Ok(())
    }

    fn settle_once(&mut self) -> Result<(), LoopError> {
        let mut batch = Batch::new();
        let mut sync = false;
        let before = self.position;
        while let Some(effect) = self.agent.core.poll_effect() {
            match effect {
                Effect::Persist(persist) => {
                    self.position = self.position.next();
                    sync |= persist.synced;
                    for change in persist.changes {
                        self.write_down(&mut batch, change);
                    }
                }
                // An answer to a ping says that this loop lives, and waits for no disk.
                effect if is_pong(&effect) => self.carry_out(Action::Effect(Box::new(effect))),
                effect => {
                    if let Effect::Launch { launch, .. } = &effect {
                        let container = launch.container.clone();
                        self.agent.launch_times.begin(container, self.message_at);
                    }
                    let after = wanted(&effect);
                    self.outbox.push(after, Action::Effect(Box::new(effect)));
                }
            }
        }
        if self.position > before {
            self.write(batch, sync)?;
        }
        let core = &self.agent.core;
        self.agent.statistics.send_if_modified(|known| {
            let changed = known != core.statistics();
            if changed {
                known.clone_from(core.statistics());
            }
            changed
        });
        while let Some(action) = self.outbox.release() {
            self.carry_out(action);
        }
        Ok(())
    }

    fn write_down(&mut self, batch: &mut Batch, mut change: Change) {
        match &mut change {
            Change::PutContainer(record) => {
                self.agent.assign_gpus(record);
                let agent =
                    self.agent.core.info().and_then(|info| info.id.clone()).unwrap_or_default();
                let places = self.agent.containers.places(
                    &agent.into(),
                    &record.framework_id.as_str().into(),
                    &record.executor_id.as_str().into(),
                    &record.container_id.as_str().into(),
                );
                // Ids that are no file names fail at the launch, with a sentence.
                if let Ok(places) = places {
                    record.sandbox = places.sandbox.to_string_lossy().into_owned();
                    record.cgroup = places.cgroup;
                    record.exit_file = places.exit_file;
                }
            }
            Change::DeleteContainer(id) => {
                self.outbox.push(self.position, Action::Forget(id.clone()));
            }
            _ => {}
        }
        checkpoint::add(batch, change);
    }

    fn write(&mut self, batch: Batch, sync: bool) -> Result<(), LoopError> {
        mezzo_fault_points::hit!("agent.records.writing");
        let position = self.position;
        let synced = self.synced.clone();
        let done = move |outcome| {
            synced.send_modify(|synced| match outcome {
                Ok(()) => synced.position = synced.position.max(position),
                Err(error) => synced.failed = Some(error),
            });
        };
        let records = &self.agent.records;
        let later = if sync {
            records.write_synced(batch, done).map_err(LoopError::Write)?;
            true
        } else {
            records.write(batch, done).map_err(LoopError::Write)? == Progress::Held
        };
        mezzo_fault_points::hit!("agent.records.written");
        self.outbox.written(position, later);
        Ok(())
    }

    /// Tells the core whether it may take a launch. Asked when there is one: nobody has to watch the disk.
    fn look_for_room(&mut self, message: &MasterToAgent) {
        use master_to_agent::Message::{ApplyOperation, RunTask, RunTaskGroup};
        if !matches!(message.message, Some(RunTask(_) | RunTaskGroup(_) | ApplyOperation(_))) {
            return;
        }
        let shortage = self.agent.records.shortage();
        if shortage.is_some() || self.short {
            self.short = shortage.is_some();
            self.input(Input::Room { shortage: shortage.map(|shortage| shortage.to_string()) });
        }
    }

    fn carry_out(&mut self, action: Action) {
        let effect = match action {
            Action::Forget(container) => return self.agent.containers.forget(&container),
            Action::Effect(effect) => *effect,
        };
        match effect {
            // Taken apart in `settle`.
            Effect::Persist(_) => {}
            Effect::Send { link, message, .. } => {
                let Some((_, handle)) = self.link.as_ref().filter(|(id, _)| *id == link) else {
                    return;
                };
                mezzo_fault_points::hit!("agent.master.sending");
                if let Err(error) = handle.send(*message) {
                    tracing::warn!(%error, "closing the link to the master");
                    self.link = None;
                }
            }
            Effect::CloseLink { link, reason } => {
                tracing::warn!(reason, "closing the link to the master");
                self.link.take_if(|(id, _)| *id == link);
            }
            Effect::Launch { launch, .. } => {
                mezzo_fault_points::hit!("agent.launch.recorded");
                tracing::info!(
                    framework_id = %launch.framework_id,
                    executor_id = %launch.executor_id,
                    container = %launch.container,
                    executor = matches!(launch.workload, Workload::Executor(_)),
                    "launching a container"
                );
                self.agent.containers.launch(LaunchSpec {
                    container_id: launch.container,
                    agent_id: launch.agent_id,
                    framework_id: launch.framework_id,
                    executor_id: launch.executor_id,
                    framework: launch.framework,
                    workload: launch.workload,
                    user: launch.user,
                    resources: launch.resources,
                });
            }
            Effect::Update { container, of: (framework, executor), resources, grant, .. } => {
                self.agent.containers.update(&container, &framework, &executor, resources, grant);
            }
            Effect::ExecutorAnswer { request, result, .. } => {
                self.executors.answer(request, result);
            }
            Effect::ExecutorEvent { stream, event, .. } => {
                // One that is cut off tells of its end, as of any other.
                self.executors.send(stream, *event);
            }
            Effect::CloseExecutor { stream, reason, .. } => {
                tracing::debug!(stream = stream.0, reason, "closing the stream to an executor");
                self.executors.close(stream);
            }
            Effect::Signal { container, signal, .. } => {
                mezzo_fault_points::hit!("agent.signal.sending");
                self.agent.containers.signal(&container, signal);
            }
            Effect::Destroy { container, .. } => {
                mezzo_fault_points::hit!("agent.destroy.ordered");
                self.agent.containers.destroy(&container);
            }
            Effect::Check { container, kind, probe, timeout } => {
                let check = Check { kind, probe: *probe, timeout };
                if !self.agent.containers.check(&container, check) {
                    let outcome = CheckOutcome::Unavailable("it is not there".to_owned());
                    self.input(Input::Checked { container, kind, outcome });
                    self.again = true;
                }
            }
            // A few calls of the file system that the records are on. What follows rests on them.
            Effect::MakeVolumes { operation, volumes, .. } => {
                let outcome = self.agent.volumes.make(&volumes);
                if let Err(error) = &outcome {
                    tracing::warn!(%volumes, %error, "persistent volumes are not made");
                }
                let outcome = outcome.map_err(|error| error.to_string());
                self.input(Input::VolumesMade { operation, outcome });
                self.again = true;
            }
            Effect::RemoveVolumes { volumes, .. } => {
                tracing::info!(%volumes, "removing destroyed volumes");
                self.agent.volumes.remove(&volumes);
            }
            Effect::View(change) => self.show(change),
            Effect::Left { reason, .. } => self.left = Some(reason),
        }
    }

    fn show(&mut self, change: ViewChange) {
        match &change {
            ViewChange::Registered(Some(term)) => {
                mezzo_fault_points::hit!("agent.registered");
                let id = self.agent.core.info().and_then(|info| info.id.as_ref());
                let agent_id = id.map(|id| id.value.as_str()).unwrap_or_default();
                crate::marker::set(self.agent.containers.runtime_dir(), agent_id);
                tracing::info!(agent_id, term, "registered with the master");
            }
            ViewChange::Registered(None) => tracing::info!("not registered any more"),
            ViewChange::Task(task) => {
                if let Some(status) = &task.status {
                    tracing::debug!(
                        framework_id = %task.framework_id,
                        task_id = %task.task_id,
                        state = status.state().as_str_name(),
                        message = status.message(),
                        "task"
                    );
                }
            }
            _ => {}
        }
        self.agent.view.apply(change);
    }

    /// The master closes the link when it has heard that the agent left.
    async fn say_goodbye(&mut self, links: &mut mpsc::Receiver<LinkEvent>) {
        let Some((own, _handle)) = self.link.take() else { return };
        let closed = async {
            while let Some(event) = links.recv().await {
                if matches!(event, LinkEvent::Down { link } if link == own) {
                    return;
                }
            }
        };
        if tokio::time::timeout(FAREWELL, closed).await.is_err() {
            tracing::warn!(
                "the master did not confirm that this agent left; it will notice its absence"
            );
        }
    }
}

fn is_pong(effect: &Effect) -> bool {
    use agent_to_master::Message::Pong;
    matches!(effect, Effect::Send { message, .. } if matches!(message.message, Some(Pong(_))))
}

/// The position that an effect waits for.
fn wanted(effect: &Effect) -> Position {
    match effect {
        Effect::Send { after, .. }
        | Effect::Launch { after, .. }
        | Effect::Update { after, .. }
        | Effect::ExecutorAnswer { after, .. }
        | Effect::ExecutorEvent { after, .. }
        | Effect::CloseExecutor { after, .. }
        | Effect::Signal { after, .. }
        | Effect::Destroy { after, .. }
        | Effect::MakeVolumes { after, .. }
        | Effect::RemoveVolumes { after, .. }
        | Effect::Left { after, .. } => *after,
        Effect::Persist(_) | Effect::CloseLink { .. } | Effect::Check { .. } | Effect::View(_) => {
            Position::NONE
        }
    }
}

fn limitation_of(limitation: crate::isolators::Limitation) -> Limitation {
    let crate::isolators::Limitation { reason, message, resources } = limitation;
    Limitation { reason, message, resources }
}

fn ending_of(ending: containerizer::Ending) -> Ending {
    match ending {
        containerizer::Ending::Status(status) => Ending::Status(status),
        containerizer::Ending::Unknown => Ending::Unknown,
    }
}

/// What the containerizer found, as the core takes it.
pub(crate) fn observed_of(observed: containerizer::Observed) -> mezzo_agent_core::Observed {
    use mezzo_agent_core::Observed;
    match observed {
        containerizer::Observed::NotStarted => Observed::NotStarted,
        containerizer::Observed::Launching => Observed::Launching,
        containerizer::Observed::Failed { message } => Observed::Failed { message },
        containerizer::Observed::Running { pid, start_time_ticks, limitation } => {
            Observed::Running { pid, start_time_ticks, limitation: limitation.map(limitation_of) }
        }
        containerizer::Observed::Ended { ending, limitation } => {
            Observed::Ended { ending: ending_of(ending), limitation: limitation.map(limitation_of) }
        }
    }
}
