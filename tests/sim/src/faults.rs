//! What goes wrong: drawn from a mixture that each seed makes for itself, so that some runs see much
//! of a few faults and others a little of all.

use mezzo_agent_core::{Ending, Input};
use mezzo_types::TaskId;

use crate::fact::Fact;
use crate::network::{End, Near};
use crate::rng::Rng;
use crate::world::{Happening, MS, World};

/// Kinds of faults; the order is that of [`WEIGHTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MasterDies,
    /// Another master takes over, and the old one does not know yet.
    MasterDeposed,
    LogStalls,
    AgentDies,
    HostLosesPower,
    AgentLeaves,
    AgentDiskFails,
    /// New promises are refused until there is room again.
    AgentDiskFull,
    MasterDiskFull,
    /// It comes back with more resources and attributes.
    AgentGrows,
    LinkBreaks,
    /// Only one direction of a link goes silent.
    LinkHalfBreaks,
    AgentCutOff,
    StreamBreaks,
    FrameworkCutOff,
    FrameworkDies,
    /// A container takes more than it has.
    Limit,
    /// The init of a container is killed from outside.
    InitKilled,
    OperatorKills,
    OperatorTearsDown,
    OperatorGivesUp,
}

/// How often each kind happens where a seed has it at all.
const WEIGHTS: [(Kind, u64); 21] = [
    (Kind::MasterDies, 6),
    (Kind::MasterDeposed, 4),
    (Kind::LogStalls, 6),
    (Kind::AgentDies, 12),
    (Kind::HostLosesPower, 5),
    (Kind::AgentLeaves, 1),
    (Kind::AgentDiskFails, 4),
    (Kind::AgentDiskFull, 3),
    (Kind::MasterDiskFull, 2),
    (Kind::AgentGrows, 3),
    (Kind::LinkBreaks, 14),
    (Kind::LinkHalfBreaks, 6),
    (Kind::AgentCutOff, 5),
    (Kind::StreamBreaks, 14),
    (Kind::FrameworkCutOff, 4),
    (Kind::FrameworkDies, 6),
    (Kind::Limit, 6),
    (Kind::InitKilled, 4),
    (Kind::OperatorKills, 4),
    (Kind::OperatorTearsDown, 1),
    (Kind::OperatorGivesUp, 1),
];

/// Once the faults are over frameworks decline for so long; refusals must not last.
const DECLINES_NS: u64 = 20_000 * MS;

/// See the module.
pub(crate) struct Faults {
    rng: Rng,
    weights: Vec<u64>,
    left: u64,
    /// Upper bound of the time between two faults.
    pause_max_ns: u64,
}

impl Faults {
    pub(crate) fn new(mut rng: Rng, steps: u64) -> Self {
        let weights = WEIGHTS.iter().map(|(_, weight)| if rng.chance(60) { *weight } else { 0 });
        let weights = Vec::from_iter(weights);
        let pause_max_ns = rng.skewed(400 * MS, 6_000 * MS);
        Faults { rng, weights, left: steps, pause_max_ns }
    }

    /// How long an end of a broken connection believes in it.
    pub(crate) fn patience(&mut self) -> u64 {
        self.rng.skewed(MS, 20_000 * MS)
    }

    pub(crate) fn over(&self) -> bool {
        self.left == 0
    }
}

impl World {
    pub(crate) fn fault(&mut self) {
        let Some(left) = self.faults.left.checked_sub(1) else { return };
        self.faults.left = left;
        let pause = self.faults.rng.skewed(20 * MS, self.faults.pause_max_ns);
        self.queue.push(self.now_ns + pause, Happening::Fault);
        let Some(kind) = self.faults.rng.weighted(&self.faults.weights) else { return };
        let kind = WEIGHTS[kind].0;
        self.note(format_args!("fault: {kind:?}"));
        let agent = self.faults.rng.below(self.agents.len() as u64) as usize;
        let framework = self.faults.rng.below(self.frameworks.len() as u64) as usize;
        let rng = &mut self.faults.rng;
        let short = rng.skewed(10 * MS, 3_000 * MS);
        let long = rng.skewed(100 * MS, 90_000 * MS);
        match kind {
            Kind::MasterDies => {
                if let Some(leader) = self.leader {
                    self.kill_master(leader);
                    self.queue.push(self.now_ns + short, Happening::StartMaster);
                }
            }
            Kind::MasterDeposed => {
                // One is enough: more would only repeat it.
                if let Some(master) = self.leader.filter(|_| self.masters.len() == 1) {
                    self.start_master();
                    self.queue.push(self.now_ns + short, Happening::Deposed { master });
                }
            }
            Kind::LogStalls => self.log.stalled_until = self.now_ns + short,
            Kind::AgentDies => {
                if self.agents[agent].process.is_some() {
                    self.kill_agent(agent);
                    let delay = if self.faults.rng.chance(70) { short } else { long };
                    self.start_agent_later(agent, delay);
                }
            }
            Kind::HostLosesPower => {
                let down = !self.agents[agent].starting;
                self.lose_power(agent);
                if down {
                    self.start_agent_later(agent, short + 2_000 * MS);
                }
            }
            Kind::AgentLeaves => {
                if self.agents[agent].process.is_some() {
                    self.watch.see(&Fact::Leaves { agent });
                    self.agent_input(agent, Input::Leave);
                }
            }
            Kind::AgentDiskFails => self.agents[agent].disk_fails = true,
            Kind::AgentDiskFull => {
                self.agents[agent].full = true;
                self.agent_input(agent, room(true));
                self.queue.push(self.now_ns + long, Happening::AgentRoom { agent });
            }
            Kind::MasterDiskFull => {
                self.full = true;
                if let Some(leader) = self.leader {
                    self.master_input(leader, master_room(true));
                }
                self.queue.push(self.now_ns + long, Happening::MasterRoom);
            }
            Kind::AgentGrows => {
                if self.agents[agent].process.is_some() {
                    self.kill_agent(agent);
                    self.agents[agent].grow();
                    self.start_agent_later(agent, short);
                }
            }
            Kind::LinkBreaks => self.break_all(Near::Agent(agent)),
            Kind::LinkHalfBreaks => {
                let near = match self.faults.rng.chance(70) {
                    true => Near::Agent(agent),
                    false => Near::Framework(framework),
                };
                let to = if self.faults.rng.chance(50) { End::Near } else { End::Master };
                for conn in self.network.of_near(near) {
                    self.network.cut(conn, to);
                    let patience = self.faults.patience();
                    self.queue.push(self.now_ns + patience, Happening::Closed { conn, end: to });
                }
            }
            Kind::AgentCutOff => {
                self.agents[agent].cut_until = self.now_ns + long;
                self.break_all(Near::Agent(agent));
            }
            Kind::StreamBreaks => self.break_all(Near::Framework(framework)),
            Kind::FrameworkCutOff => {
                self.frameworks[framework].cut_until = self.now_ns + long;
                self.break_all(Near::Framework(framework));
            }
            Kind::FrameworkDies => self.crash_framework(framework, long),
            Kind::Limit => {
                let running = self.running(agent);
                if let Some(container) = self.faults.rng.pick(&running).cloned() {
                    self.limit(agent, &container);
                }
            }
            Kind::InitKilled => {
                let running = self.running(agent);
                if let Some(container) = self.faults.rng.pick(&running).cloned() {
                    self.command_ends(agent, &container, Ending::Unknown);
                }
            }
            Kind::OperatorKills => {
                let known = &self.frameworks[framework];
                let tasks = Vec::from_iter(known.tasks.keys().cloned());
                if let (Some(id), Some(task)) = (known.id.clone(), self.faults.rng.pick(&tasks)) {
                    self.operator_kills(id, TaskId::from(task.as_str()));
                }
            }
            Kind::OperatorTearsDown => {
                self.tear_down(framework);
            }
            Kind::OperatorGivesUp => self.operator_gives_up(agent),
        }
    }

    /// There is room again, or not yet.
    pub(crate) fn agent_has_room(&mut self, agent: usize) {
        self.agents[agent].full = false;
        self.agent_input(agent, room(false));
    }

    pub(crate) fn master_has_room(&mut self) {
        self.full = false;
        if let Some(leader) = self.leader {
            self.master_input(leader, master_room(false));
        }
    }

    pub(crate) fn tear_down(&mut self, framework: usize) {
        self.frameworks[framework].doomed = false;
        if let Some(id) = self.frameworks[framework].id.clone() {
            self.operator_tears_down(id);
        }
    }

    fn break_all(&mut self, near: Near) {
        for conn in self.network.of_near(near) {
            self.break_silently(conn);
        }
    }

    /// Faults are over: everybody is up and can be reached.
    pub(crate) fn heal(&mut self) {
        self.note(format_args!("the faults are over"));
        self.settling = true;
        self.declines_until = self.now_ns + DECLINES_NS;
        // The last of what operators do: agents that are linked must hear of it, too.
        if self.faults.rng.chance(30) {
            let framework = self.faults.rng.below(self.frameworks.len() as u64) as usize;
            let at = self.now_ns + DECLINES_NS / 2;
            self.queue.push(at, Happening::TearDown { framework });
            self.frameworks[framework].doomed = true;
        }
        self.log.stalled_until = 0;
        self.master_has_room();
        (0..self.agents.len()).for_each(|agent| self.agent_has_room(agent));
        if self.leader.is_none() {
            self.queue.push(self.now_ns + MS, Happening::StartMaster);
        }
        for agent in &mut self.agents {
            agent.cut_until = 0;
            agent.disk_fails = false;
        }
        for number in 0..self.agents.len() {
            if self.agents[number].process.is_none() {
                self.start_agent_later(number, MS);
            }
        }
        for number in 0..self.frameworks.len() {
            self.frameworks[number].cut_until = 0;
            if self.frameworks[number].stream.is_none() {
                self.act_later(number, MS, crate::framework::Act::Subscribe);
            } else if self.frameworks[number].subscribed {
                self.live_later(number, MS);
            }
        }
    }
}

const SHORTAGE: &str = "the disk is full";

pub(crate) fn room(full: bool) -> Input {
    Input::Room { shortage: full.then(|| SHORTAGE.to_owned()) }
}

pub(crate) fn master_room(full: bool) -> mezzo_master_core::Input {
    mezzo_master_core::Input::Room { shortage: full.then(|| SHORTAGE.to_owned()) }
}
