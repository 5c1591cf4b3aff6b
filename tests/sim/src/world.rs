//! The world: who is in it, what is to happen, and the handling of one thing after the other.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use mezzo_agent_core::Ending;
use mezzo_master_core::{Config, Input, LinkId, StreamId};
use mezzo_proto::internal::v1::{AgentToMaster, MasterToAgent};
use mezzo_proto::v1::scheduler::{Call, Event};
use mezzo_types::{AgentId, ContainerId, FrameworkId, Position, TaskId, Uuid16};

use crate::agent::Agent;
use crate::describe;
use crate::fact::Fact;
use crate::faults::Faults;
use crate::framework::{Act, Framework};
use crate::invariants::Watch;
use crate::log::Log;
use crate::master::MasterProcess;
use crate::network::{ConnId, End, Near, Network};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::Trace;

/// A millisecond of virtual time, in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// Wall-clock time at the beginning of every run.
pub(crate) const EPOCH_NS: i64 = 1_700_000_000_000_000_000;

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    StartMaster,
    WakeMaster {
        master: usize,
    },
    Durable {
        master: usize,
    },
    /// A master that was deposed notices.
    Deposed {
        master: usize,
    },
    StartAgent {
        agent: usize,
    },
    WakeAgent {
        agent: usize,
        starts: u64,
    },
    Synced {
        agent: usize,
        starts: u64,
        batch: u64,
        position: Position,
    },
    Flush {
        agent: usize,
        boot: u64,
    },
    Dial {
        agent: usize,
        starts: u64,
    },
    ToMaster {
        conn: ConnId,
        message: Box<AgentToMaster>,
    },
    ToAgent {
        conn: ConnId,
        message: Box<MasterToAgent>,
    },
    /// The agent's shell has closed its end.
    LinkOver {
        agent: usize,
        starts: u64,
        conn: ConnId,
    },
    Subscribe {
        conn: ConnId,
        call: Box<Call>,
    },
    Event {
        conn: ConnId,
        event: Box<Event>,
    },
    Call {
        master: usize,
        framework: usize,
        stream: Option<ConnId>,
        call: Box<Call>,
    },
    /// An end of a connection hears that the other one closed, or that it broke.
    Closed {
        conn: ConnId,
        end: End,
    },
    LaunchFails {
        agent: usize,
        boot: u64,
        starts: u64,
        container: ContainerId,
    },
    CommandBegins {
        agent: usize,
        boot: u64,
        container: ContainerId,
    },
    CommandEnds {
        agent: usize,
        boot: u64,
        container: ContainerId,
        status: i32,
    },
    VolumesMade {
        agent: usize,
        starts: u64,
        operation: Uuid16,
        outcome: Result<(), String>,
    },
    Destroys {
        agent: usize,
        boot: u64,
        starts: u64,
        container: ContainerId,
    },
    Framework {
        framework: usize,
        life: u64,
        act: Act,
    },
    TearDown {
        framework: usize,
    },
    /// There is room on the disk again.
    AgentRoom {
        agent: usize,
    },
    MasterRoom,
    Fault,
}

/// See the module.
pub struct World {
    pub(crate) now_ns: u64,
    pub(crate) queue: Queue<Happening>,
    pub(crate) network: Network,
    pub(crate) log: Log,
    pub(crate) master_config: Config,
    pub(crate) masters: BTreeMap<usize, MasterProcess>,
    pub(crate) masters_started: usize,
    /// The one that leads, if it is up.
    pub(crate) leader: Option<usize>,
    /// There is no room for new promises on the disk of whoever leads.
    pub(crate) full: bool,
    pub(crate) agents: Vec<Agent>,
    pub(crate) frameworks: Vec<Framework>,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    pub(crate) watch: Watch,
    /// Faults are over: everything must come to its end.
    pub(crate) settling: bool,
    /// Until then frameworks decline what they are offered, and hold it afterwards.
    pub(crate) declines_until: u64,
}

impl World {
    /// The world that grows from `seed`, in which `steps` faults are to happen.
    pub(crate) fn new(seed: u64, steps: u64, keep_trace: bool) -> Self {
        let mut rng = Rng::new(seed, 0);
        let agents = crate::setting::agents(&mut rng);
        let frameworks = crate::setting::frameworks(&mut rng);
        let mut world = World {
            now_ns: 0,
            queue: Queue::default(),
            network: Network::new(rng.fork(1)),
            log: Log::new(rng.fork(2)),
            master_config: crate::master::config(&mut rng.fork(3)),
            masters: BTreeMap::new(),
            masters_started: 0,
            leader: None,
            full: false,
            agents,
            frameworks,
            faults: Faults::new(rng.fork(4), steps),
            trace: Trace::new(keep_trace),
            watch: Watch::default(),
            settling: false,
            declines_until: 0,
        };
        world.queue.push(0, Happening::StartMaster);
        for agent in 0..world.agents.len() {
            let at = rng.skewed(MS, 3_000 * MS);
            world.queue.push(at, Happening::StartAgent { agent });
        }
        for framework in 0..world.frameworks.len() {
            let at = rng.skewed(MS, 3_000 * MS);
            let act = Act::Subscribe;
            world.queue.push(at, Happening::Framework { framework, life: 0, act });
        }
        world.queue.push(rng.skewed(MS, 1_000 * MS), Happening::Fault);
        world
    }

    pub(crate) fn note(&mut self, what: Arguments<'_>) {
        self.trace.line(self.now_ns, what);
    }

    /// Handles the next thing. Returns `false` when nothing is left or something is broken.
    pub(crate) fn step(&mut self) -> bool {
        let Some((at, happening)) = self.queue.pop() else { return false };
        self.now_ns = at;
        self.watch.see(&Fact::Step { now_ns: at, waiting: self.queue.len() });
        self.handle(happening);
        self.watch.failure().is_none()
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::StartMaster => {
                if self.leader.is_none() {
                    self.start_master();
                }
            }
            Happening::WakeMaster { master } => self.wake_master(master),
            Happening::Durable { master } => self.entry_durable(master),
            Happening::Deposed { master } => {
                if self.leader != Some(master) {
                    self.kill_master(master);
                }
            }
            Happening::StartAgent { agent } => self.start_agent(agent),
            Happening::WakeAgent { agent, starts } => self.wake_agent(agent, starts),
            Happening::Synced { agent, starts, batch, position } => {
                self.agent_synced(agent, starts, batch, position);
            }
            Happening::Flush { agent, boot } => self.flush_agent(agent, boot),
            Happening::Dial { agent, starts } => self.dial(agent, starts),
            Happening::ToMaster { conn, message } => self.master_hears(conn, message),
            Happening::ToAgent { conn, message } => {
                let near = self.network.get(conn).map(|conn| conn.near);
                if let Some(Near::Agent(agent)) = near.filter(|_| self.reaches(conn, End::Near)) {
                    self.agent_hears(agent, conn, message);
                }
            }
            Happening::LinkOver { agent, starts, conn } => {
                if self.agents[agent].starts == starts {
                    self.link_down(agent, conn);
                }
            }
            Happening::Subscribe { conn, call } => {
                let master = self.network.get(conn).map(|conn| conn.master);
                let Some(master) = master.filter(|_| self.reaches(conn, End::Master)) else {
                    return;
                };
                let stream = StreamId(conn);
                self.note(format_args!("master {master} < SUBSCRIBE on {conn}"));
                self.master_input(master, Input::Subscribe { stream, call, principal: None });
            }
            Happening::Event { conn, event } => {
                let near = self.network.get(conn).map(|conn| conn.near);
                if let Some(Near::Framework(framework)) =
                    near.filter(|_| self.reaches(conn, End::Near))
                {
                    self.framework_hears(framework, conn, *event);
                }
            }
            Happening::Call { master, framework, stream, call } => {
                self.note(format_args!(
                    "master {master} < framework {framework}: {}",
                    describe::call(&call)
                ));
                self.master_request(master, |request| Input::Call {
                    request,
                    stream: stream.map(StreamId),
                    call,
                    task_infos: Vec::new(),
                });
            }
            Happening::Closed { conn, end } => self.closed(conn, end),
            Happening::LaunchFails { agent, boot, starts, container } => {
                if self.agents[agent].boots == boot && self.agents[agent].starts == starts {
                    self.launch_fails(agent, &container);
                }
            }
            Happening::CommandBegins { agent, boot, container } => {
                if self.agents[agent].boots == boot {
                    self.command_begins(agent, &container);
                }
            }
            Happening::CommandEnds { agent, boot, container, status } => {
                if self.agents[agent].boots == boot {
                    self.command_ends(agent, &container, Ending::Status(status));
                }
            }
            Happening::Destroys { agent, boot, starts, container } => {
                if self.agents[agent].boots == boot {
                    self.destroys(agent, starts, &container);
                }
            }
            Happening::VolumesMade { agent, starts, operation, outcome } => {
                self.volumes_made(agent, starts, operation, outcome);
            }
            Happening::Framework { framework, life, act } => {
                if self.frameworks[framework].life == life {
                    self.framework_acts(framework, act);
                }
            }
            Happening::TearDown { framework } => self.tear_down(framework),
            Happening::AgentRoom { agent } => self.agent_has_room(agent),
            Happening::MasterRoom => self.master_has_room(),
            Happening::Fault => self.fault(),
        }
    }

    fn reaches(&self, conn: ConnId, end: End) -> bool {
        self.network.arrives(conn, end)
    }

    fn master_hears(&mut self, conn: ConnId, message: Box<AgentToMaster>) {
        let Some(master) = self.network.get(conn).map(|conn| conn.master) else { return };
        if !self.reaches(conn, End::Master) {
            return;
        }
        if let Some(message) = &message.message {
            let text = describe::to_master(message);
            self.note(format_args!("master {master} < link {conn}: {text}"));
        }
        self.master_input(master, Input::AgentMessage { link: LinkId(conn), message });
    }

    /// An end closes a connection; the other one hears of it after everything that was sent.
    pub(crate) fn close(&mut self, conn: ConnId, end: End) {
        if !self.network.is_open(conn, end) {
            return;
        }
        if let Some(at) = self.network.close(self.now_ns, conn, end) {
            self.queue.push(at, Happening::Closed { conn, end: end.other() });
        }
    }

    /// From now on nothing passes, and nobody is told before their patience ends.
    pub(crate) fn break_silently(&mut self, conn: ConnId) {
        for end in [End::Near, End::Master] {
            self.network.cut(conn, end);
            let patience = self.faults.patience();
            self.queue.push(self.now_ns + patience, Happening::Closed { conn, end });
        }
    }

    fn closed(&mut self, conn: ConnId, end: End) {
        if !self.network.is_open(conn, end) {
            return;
        }
        let Some(found) = self.network.get(conn) else { return };
        let (near, master) = (found.near, found.master);
        self.note(format_args!("{near:?} and master {master}: {conn} is over for {end:?}"));
        self.close(conn, end);
        match (end, near) {
            (End::Near, Near::Agent(agent)) => self.link_down(agent, conn),
            (End::Near, Near::Framework(framework)) => self.stream_down(framework, conn),
            (End::Master, Near::Agent(_)) => {
                self.master_input(master, Input::LinkClosed { link: LinkId(conn) });
            }
            (End::Master, Near::Framework(_)) => {
                self.master_input(master, Input::StreamClosed { stream: StreamId(conn) });
            }
        }
    }

    /// An operator ends a task.
    /// An operator says that the agent will never come back; it may yet do.
    pub(crate) fn operator_gives_up(&mut self, agent: usize) {
        // Whether it runs or not: who it is stands in its records.
        let identity = self.agents[agent].store.written.identity.as_ref();
        let info = identity.and_then(|identity| identity.info.as_ref());
        let Some(id) = info.and_then(|info| info.id.as_ref()).map(AgentId::from) else { return };
        let Some(leader) = self.leader else { return };
        self.note(format_args!("an operator gives up {id}"));
        self.master_request(leader, |request| Input::MarkAgentGone { request, agent: id });
    }

    pub(crate) fn operator_kills(&mut self, framework: FrameworkId, task: TaskId) {
        let Some(leader) = self.leader else { return };
        self.note(format_args!("an operator kills {framework} {task}"));
        let key = (framework.to_string(), task.to_string());
        self.watch.see(&Fact::OperatorKills { key });
        self.master_request(leader, |request| Input::KillTask {
            request,
            framework: Some(framework),
            task,
            policy: None,
        });
    }

    /// Whether no machine goes by this id any more: it lost its power before the id was on its disk, or
    /// left without the master's hearing of it. What ran there stays unreachable until an operator says
    /// that the agent is gone.
    pub(crate) fn is_abandoned(&self, id: &str) -> bool {
        !self.agents.iter().any(|agent| {
            let process = agent.process.as_ref();
            let own = process.and_then(|process| process.core.info()).and_then(|i| i.id.as_ref());
            own.is_some_and(|own| own.value == id)
        })
    }

    pub(crate) fn operator_tears_down(&mut self, framework: FrameworkId) {
        let Some(leader) = self.leader else { return };
        self.note(format_args!("an operator tears {framework} down"));
        self.master_request(leader, |request| Input::Teardown { request, framework });
    }
}
