//! An agent's process: the core, and what the real shell (`agent/src/agent.rs`) does around it.

use std::collections::BTreeMap;

use mezzo_agent_core::{
    Config, Core, Effect, Ending, Input, LinkId, Observed, ReconfigurationPolicy, ViewChange,
};
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{AgentToMaster, MasterToAgent};
use mezzo_proto::v1;
use mezzo_types::{ContainerId, Now, Position};

use crate::agent_outbox::Outbox;
use crate::describe;
use crate::fact::Fact;
use crate::faults::room;
use crate::host::{Behaviour, Command, Container, Host, limitation};
use crate::network::{ConnId, End, Near};
use crate::rng::Rng;
use crate::store::Store;
use crate::world::{EPOCH_NS, Happening, MS, World};

/// Unsynced records reach the disk this often (`crates/store`).
const FLUSH_NS: u64 = 200 * MS;

/// What an effect comes to once its records are durable.
#[derive(Debug)]
enum Action {
    Effect(Box<Effect>),
    /// The container's record is gone: so is its exit file.
    Forget(ContainerId),
}

/// A machine with its disk; the agent on it may be running or not.
pub(crate) struct Agent {
    pub(crate) process: Option<Box<AgentProcess>>,
    /// Counts starts of the process.
    pub(crate) starts: u64,
    /// Counts boots of the machine.
    pub(crate) boots: u64,
    pub(crate) store: Store,
    pub(crate) host: Host,
    pub(crate) rng: Rng,
    pub(crate) info: v1::AgentInfo,
    /// The master cannot be reached until then.
    pub(crate) cut_until: u64,
    /// The next write fails.
    pub(crate) disk_fails: bool,
    /// There is no room on the disk for new promises.
    pub(crate) full: bool,
    /// Syncs take this long at most.
    pub(crate) sync_max_ns: u64,
    /// The process starts again by itself: it is not down already on purpose.
    pub(crate) starting: bool,
}

pub(crate) struct AgentProcess {
    pub(crate) core: Core,
    outbox: Outbox<Action>,
    position: Position,
    link: Option<ConnId>,
    started_ns: u64,
    wake: Option<u64>,
}

impl Agent {
    /// From its next start on it has a processor more, and an attribute that says so.
    pub(crate) fn grow(&mut self) {
        let cpus = self.info.resources.iter_mut().find(|resource| resource.name == "cpus");
        let Some(scalar) = cpus.and_then(|resource| resource.scalar.as_mut()) else { return };
        scalar.value += 1.0;
        let attribute = v1::Attribute {
            name: format!("grown{}", self.info.attributes.len()),
            r#type: v1::value::Type::Text as i32,
            text: Some(v1::value::Text { value: "yes".to_owned() }),
            ..v1::Attribute::default()
        };
        self.info.attributes.push(attribute);
    }
}

impl AgentProcess {
    fn now(&self, now_ns: u64) -> Now {
        let unix_ns = EPOCH_NS + i64::try_from(now_ns).unwrap_or(i64::MAX);
        Now { mono_ns: now_ns - self.started_ns, unix_ns }
    }
}

impl World {
    /// The agent's process starts: records, what is found on the host, the plan.
    pub(crate) fn start_agent(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        agent.starting = false;
        if agent.process.is_some() {
            return;
        }
        agent.starts += 1;
        let boot = format!("boot-{}", agent.boots);
        let checkpoint = agent.store.load();
        let mut observed = agent.host.observe();
        for record in checkpoint.containers.iter().filter(|record| record.boot_id == boot) {
            let ended = Observed::Ended { ending: Ending::Unknown, limitation: None };
            let found = if record.pid > 0 { ended } else { Observed::NotStarted };
            observed.entry(record.container_id.as_str().into()).or_insert(found);
        }
        let config = Config {
            reconfiguration_policy: ReconfigurationPolicy::Additive,
            ..Config::new(agent.info.clone(), "sim", &boot, "10.0.0.1")
        };
        let now = Now { mono_ns: 0, unix_ns: EPOCH_NS + self.now_ns as i64 };
        let seed = [agent.rng.draw(), agent.rng.draw()];
        let mut core = match Core::recover(now, config, checkpoint, &observed, seed) {
            Ok(core) => core,
            Err(error) => return self.watch.fail("recovery", error.to_string()),
        };
        if self.agents[number].full {
            core.handle(now, room(true));
        }
        self.note(format_args!("agent {number} starts, {} containers", observed.len()));
        let process = Box::new(AgentProcess {
            core,
            outbox: Outbox::default(),
            position: Position::NONE,
            link: None,
            started_ns: self.now_ns,
            wake: None,
        });
        self.dial_later(number);
        self.settle_agent(number, process);
    }

    /// Kills the process; containers go on.
    pub(crate) fn kill_agent(&mut self, number: usize) {
        if self.agents[number].process.take().is_none() {
            return;
        }
        self.note(format_args!("agent {number} dies"));
        for conn in self.network.of_near(Near::Agent(number)) {
            self.close(conn, End::Near);
        }
        let agent = &mut self.agents[number];
        let asked: Vec<ContainerId> = agent
            .host
            .containers
            .iter()
            .filter(|(_, container)| container.command == Command::Asked)
            .map(|(id, _)| id.clone())
            .collect();
        // What was under way at the launcher may be carried through, or not.
        for id in asked {
            if agent.rng.chance(50)
                && let Some(container) = agent.host.containers.get_mut(&id)
            {
                container.command = Command::Void;
            }
        }
    }

    /// The machine loses its power: every process ends, and what was not flushed may be lost.
    pub(crate) fn lose_power(&mut self, number: usize) {
        self.note(format_args!("host {number} loses power"));
        // Nobody closes anything: the other end finds out by itself.
        for conn in self.network.of_near(Near::Agent(number)) {
            self.break_silently(conn);
        }
        let agent = &mut self.agents[number];
        agent.process = None;
        agent.boots += 1;
        let kept = agent.rng.below(agent.store.pending() + 1);
        agent.store.lose_power(kept);
        agent.host.clear();
        self.watch.see(&Fact::Rebooted { agent: number });
    }

    pub(crate) fn start_agent_later(&mut self, number: usize, delay_ns: u64) {
        self.agents[number].starting = true;
        self.queue.push(self.now_ns + delay_ns, Happening::StartAgent { agent: number });
    }

    fn dial_later(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        let (starts, pause) = (agent.starts, agent.rng.skewed(25 * MS, 2_000 * MS));
        self.queue.push(self.now_ns + pause, Happening::Dial { agent: number, starts });
    }

    pub(crate) fn dial(&mut self, number: usize, starts: u64) {
        let now_ns = self.now_ns;
        let agent = &mut self.agents[number];
        let Some(process) = agent.process.as_ref().filter(|_| agent.starts == starts) else {
            return;
        };
        if process.link.is_some() {
            return;
        }
        // An agent may well be told an old address of the master.
        let deposed = self.masters.keys().find(|master| Some(**master) != self.leader).copied();
        let master = match deposed {
            Some(deposed) if agent.rng.chance(30) => Some(deposed),
            _ => self.leader,
        };
        let reachable = agent.cut_until <= now_ns;
        let Some(master) = master.filter(|_| reachable) else { return self.dial_later(number) };
        let conn = self.network.open(Near::Agent(number), master);
        self.note(format_args!("agent {number} dials master {master}: link {conn}"));
        let Some(mut process) = self.agents[number].process.take() else { return };
        process.link = Some(conn);
        let now = process.now(self.now_ns);
        process.core.handle(now, Input::LinkUp { link: LinkId(conn) });
        self.settle_agent(number, process);
    }

    /// The agent's end of a link is over.
    pub(crate) fn link_down(&mut self, number: usize, conn: ConnId) {
        let Some(mut process) = self.agents[number].process.take() else { return };
        process.link.take_if(|link| *link == conn);
        let now = process.now(self.now_ns);
        process.core.handle(now, Input::LinkDown { link: LinkId(conn) });
        self.settle_agent(number, process);
        self.dial_later(number);
    }

    pub(crate) fn agent_hears(&mut self, number: usize, conn: ConnId, message: Box<MasterToAgent>) {
        if let Some(message) = &message.message {
            self.note(format_args!("agent {number} < {}", describe::to_agent(message)));
            if self.agents[number].process.as_ref().is_some_and(|p| p.link == Some(conn)) {
                if matches!(message, ToAgent::Refused(_)) {
                    // It may be barred, and then leaves.
                    self.watch.see(&Fact::Leaves { agent: number });
                }
                self.watch.see(&Fact::Obeys { agent: number, message });
            }
        }
        self.agent_input(number, Input::Master { link: LinkId(conn), message });
    }

    pub(crate) fn agent_input(&mut self, number: usize, input: Input) {
        let Some(mut process) = self.agents[number].process.take() else { return };
        let now = process.now(self.now_ns);
        process.core.handle(now, input);
        self.settle_agent(number, process);
    }

    pub(crate) fn wake_agent(&mut self, number: usize, starts: u64) {
        let agent = &mut self.agents[number];
        let Some(mut process) = agent.process.take_if(|_| agent.starts == starts) else { return };
        if process.wake.is_some_and(|wake| wake <= self.now_ns) {
            process.wake = None;
            let now = process.now(self.now_ns);
            process.core.handle_timeout(now);
        }
        self.settle_agent(number, process);
    }

    /// A batch is on the disk.
    pub(crate) fn agent_synced(
        &mut self,
        number: usize,
        starts: u64,
        batch: u64,
        position: Position,
    ) {
        let agent = &mut self.agents[number];
        agent.store.flush(batch);
        let Some(mut process) = agent.process.take_if(|_| agent.starts == starts) else { return };
        process.outbox.synced(position);
        self.settle_agent(number, process);
    }

    pub(crate) fn flush_agent(&mut self, number: usize, boot: u64) {
        let agent = &mut self.agents[number];
        if agent.boots == boot {
            agent.store.flush(agent.store.written_count());
        }
    }

    /// Writes down and carries out what the core ordered, as `Running::settle` does.
    fn settle_agent(&mut self, number: usize, mut process: Box<AgentProcess>) {
        let mut batch = Vec::new();
        let mut sync = false;
        let before = process.position;
        while let Some(effect) = process.core.poll_effect() {
            match effect {
                Effect::Persist(persist) => {
                    process.position = process.position.next();
                    sync |= persist.synced;
                    for change in persist.changes {
                        if let mezzo_agent_core::Change::DeleteContainer(id) = &change {
                            let forget = Action::Forget(id.clone());
                            process.outbox.push(process.position, forget);
                        }
                        batch.push(change);
                    }
                }
                effect => process.outbox.push(wanted(&effect), Action::Effect(Box::new(effect))),
            }
        }
        if process.position > before {
            if std::mem::take(&mut self.agents[number].disk_fails) {
                self.note(format_args!("agent {number} cannot write"));
                self.agents[number].process = Some(process);
                self.kill_agent(number);
                return self.start_agent_later(number, 500 * MS);
            }
            for change in &batch {
                self.watch.see(&Fact::Recorded { agent: number, change });
            }
            self.write(number, &mut process, batch, sync);
        }
        if let Err(violation) = process.core.check_invariants() {
            self.watch.fail_text(violation.to_string());
        }
        let mut left = None;
        while let Some(action) = process.outbox.release() {
            left = self.carry_out(number, &mut process, action).or(left);
        }
        if let Some(due) = process.core.poll_timeout() {
            let at = self.now_ns.max(process.started_ns.saturating_add(due));
            if process.wake.is_none_or(|wake| at < wake) {
                process.wake = Some(at);
                let starts = self.agents[number].starts;
                self.queue.push(at, Happening::WakeAgent { agent: number, starts });
            }
        }
        self.agents[number].process = Some(process);
        if left.is_some() {
            self.agent_left(number);
        }
    }

    fn write(
        &mut self,
        number: usize,
        process: &mut AgentProcess,
        changes: Vec<mezzo_agent_core::Change>,
        sync: bool,
    ) {
        let agent = &mut self.agents[number];
        let idle = agent.store.pending() == 0;
        let batch = agent.store.write(changes);
        let position = process.position;
        process.outbox.written(position, sync);
        if sync {
            let at = self.now_ns + agent.rng.skewed(MS / 10, agent.sync_max_ns);
            let starts = agent.starts;
            let done = Happening::Synced { agent: number, starts, batch, position };
            self.queue.push(at, done);
        } else if idle {
            let flush = Happening::Flush { agent: number, boot: agent.boots };
            self.queue.push(self.now_ns + FLUSH_NS, flush);
        }
    }

    /// The agent left the cluster; whoever looks after the machine starts it anew.
    fn agent_left(&mut self, number: usize) {
        self.note(format_args!("agent {number} left"));
        self.kill_agent(number);
        self.agents[number].host.clear();
        self.watch.see(&Fact::Leaves { agent: number });
        self.start_agent_later(number, 1_000 * MS);
    }

    fn carry_out(
        &mut self,
        number: usize,
        process: &mut AgentProcess,
        action: Action,
    ) -> Option<()> {
        let effect = match action {
            Action::Forget(id) => {
                let containers = &mut self.agents[number].host.containers;
                if containers.get(&id).is_some_and(|container| container.destroyed) {
                    containers.remove(&id);
                }
                return None;
            }
            Action::Effect(effect) => *effect,
        };
        match effect {
            Effect::Persist(_) => {}
            Effect::Send { link, message, .. } if process.link == Some(link.0) => {
                self.send_to_master(number, link.0, message);
            }
            Effect::Send { .. } => {}
            Effect::CloseLink { link, reason } => {
                self.note(format_args!("agent {number} closes link {}: {reason}", link.0));
                if process.link.take_if(|own| *own == link.0).is_some() {
                    self.close(link.0, End::Near);
                    let starts = self.agents[number].starts;
                    let down = Happening::LinkOver { agent: number, starts, conn: link.0 };
                    self.queue.push(self.now_ns + MS / 10, down);
                }
            }
            Effect::Launch { launch, .. } => self.make_container(number, &launch),
            Effect::Signal { container, .. } => self.signal_container(number, &container),
            Effect::Destroy { container, .. } => self.destroy_container(number, &container),
            Effect::MakeVolumes { operation, volumes, .. } => {
                self.make_volumes(number, operation, &volumes);
            }
            Effect::RemoveVolumes { volumes, .. } => self.remove_volumes(number, &volumes),
            Effect::View(ViewChange::Registered(Some(term))) => {
                self.watch.see(&Fact::Registered { agent: number, term });
            }
            Effect::View(_) => {}
            // Its tasks have no checks.
            Effect::Check { .. } => {}
            // Nobody here has an executor.
            Effect::Update { .. }
            | Effect::ExecutorAnswer { .. }
            | Effect::ExecutorEvent { .. }
            | Effect::CloseExecutor { .. } => {}
            Effect::Left { .. } => return Some(()),
        }
        None
    }

    fn send_to_master(&mut self, number: usize, conn: ConnId, message: Box<AgentToMaster>) {
        if let Some(message) = &message.message {
            let written = &self.agents[number].store.written;
            self.watch.see(&Fact::Reports { agent: number, message, written });
        }
        if let Some(at) = self.network.send(self.now_ns, conn, End::Master) {
            self.queue.push(at, Happening::ToMaster { conn, message });
        }
    }

    fn make_container(&mut self, number: usize, launch: &mezzo_agent_core::Launch) {
        let mezzo_agent_core::Workload::Task(task) = &launch.workload else {
            panic!("the simulated frameworks launch command tasks only")
        };
        let agent = &mut self.agents[number];
        let (written, flushed) = (&agent.store.written, agent.store.flushed());
        self.watch.see(&Fact::Launches { agent: number, launch, written, flushed });
        let container = Container {
            key: (launch.framework_id.to_string(), launch.executor_id.to_string()),
            resources: launch.resources.clone(),
            behaviour: Behaviour::of(task),
            command: Command::Asked,
            pid: 0,
            early_term: false,
            limited: false,
            destroyed: false,
        };
        let id = launch.container.clone();
        let (delay, fails) = (agent.rng.skewed(MS, 300 * MS), agent.rng.chance(4));
        agent.host.containers.insert(id.clone(), container);
        let (boot, starts) = (agent.boots, agent.starts);
        let what = match fails {
            true => Happening::LaunchFails { agent: number, boot, starts, container: id },
            false => Happening::CommandBegins { agent: number, boot, container: id },
        };
        self.queue.push(self.now_ns + delay, what);
    }

    fn signal_container(&mut self, number: usize, id: &ContainerId) {
        let agent = &mut self.agents[number];
        let delay = agent.rng.skewed(MS, 400 * MS);
        let Some(container) = agent.host.containers.get_mut(id) else { return };
        let (key, runs) = (&container.key, container.runs());
        self.watch.see(&Fact::Ends { agent: number, container: id, key, runs });
        let obeys = container.behaviour.obeys;
        match container.command {
            Command::Asked => container.early_term = true,
            Command::Running if obeys => {
                let (agent, boot, container) = (number, agent.boots, id.clone());
                let ends = Happening::CommandEnds { agent, boot, container, status: 15 };
                self.queue.push(self.now_ns + delay, ends);
            }
            _ => {}
        }
    }

    fn destroy_container(&mut self, number: usize, id: &ContainerId) {
        let agent = &mut self.agents[number];
        let delay = agent.rng.skewed(MS, 400 * MS);
        if let Some(container) = agent.host.containers.get(id) {
            let (key, runs) = (&container.key, container.runs());
            self.watch.see(&Fact::Ends { agent: number, container: id, key, runs });
        }
        let (boot, starts) = (agent.boots, agent.starts);
        let what = Happening::Destroys { agent: number, boot, starts, container: id.clone() };
        self.queue.push(self.now_ns + delay, what);
    }

    pub(crate) fn launch_fails(&mut self, number: usize, id: &ContainerId) {
        let Some(container) = self.agents[number].host.containers.get_mut(id) else { return };
        if container.command != Command::Asked {
            return;
        }
        container.command = Command::Void;
        self.note(format_args!("host {number}: launch of {} failed", short(id)));
        let message = "no luck".to_owned();
        self.agent_input(number, Input::LaunchFailed { container: id.clone(), message });
    }

    pub(crate) fn command_begins(&mut self, number: usize, id: &ContainerId) {
        let agent = &mut self.agents[number];
        let Some(pid) = agent.host.start(id) else { return };
        let Some(container) = agent.host.containers.get(id) else { return };
        let resources = container.resources.clone();
        let (key, given) = (&container.key, &resources);
        self.watch.see(&Fact::Began { agent: number, container: id, key, resources: given });
        let (task, behaviour) = (container.key.1.clone(), container.behaviour);
        let early = container.early_term && behaviour.obeys;
        let boot = agent.boots;
        self.write_to_volumes(number, &resources);
        if early {
            let ends =
                Happening::CommandEnds { agent: number, boot, container: id.clone(), status: 15 };
            self.queue.push(self.now_ns + MS, ends);
        } else if let Some(ms) = behaviour.runs_ms {
            let status = behaviour.exit_code << 8;
            let ends =
                Happening::CommandEnds { agent: number, boot, container: id.clone(), status };
            self.queue.push(self.now_ns + ms * MS, ends);
        }
        self.note(format_args!("host {number}: {task} runs in {}", short(id)));
        let start_time_ticks = Host::start_time(pid);
        self.agent_input(number, Input::Started { container: id.clone(), pid, start_time_ticks });
    }

    pub(crate) fn command_ends(&mut self, number: usize, id: &ContainerId, ending: Ending) {
        if !self.agents[number].host.end(id, ending) {
            return;
        }
        self.note(format_args!("host {number}: {} ended, {ending:?}", short(id)));
        let success = ending == Ending::Status(0);
        self.watch.see(&Fact::Ended { agent: number, container: id, success });
        self.agent_input(number, Input::Exited { container: id.clone(), ending });
    }

    pub(crate) fn destroys(&mut self, number: usize, starts: u64, id: &ContainerId) {
        if self.agents[number].starts != starts || self.agents[number].process.is_none() {
            return;
        }
        self.command_ends(number, id, Ending::Status(9));
        let containers = &mut self.agents[number].host.containers;
        if let Some(container) = containers.get_mut(id) {
            container.destroyed = true;
            if container.command == Command::Asked {
                container.command = Command::Void;
            }
        }
        self.agent_input(number, Input::Destroyed { container: id.clone() });
    }

    /// A container takes more memory than it has.
    pub(crate) fn limit(&mut self, number: usize, id: &ContainerId) {
        let Some(container) = self.agents[number].host.containers.get_mut(id) else { return };
        if !container.runs() || std::mem::replace(&mut container.limited, true) {
            return;
        }
        self.watch.see(&Fact::Limited { agent: number, container: id });
        let limitation = limitation();
        self.agent_input(number, Input::Limited { container: id.clone(), limitation });
    }

    /// Containers of an agent in which a command runs.
    pub(crate) fn running(&self, number: usize) -> Vec<ContainerId> {
        let containers: &BTreeMap<_, _> = &self.agents[number].host.containers;
        containers.iter().filter(|(_, c)| c.runs()).map(|(id, _)| id.clone()).collect()
    }
}

fn short(id: &ContainerId) -> &str {
    id.as_str().get(..6).unwrap_or_default()
}

/// What the effect waits for; as the real shell has it.
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
