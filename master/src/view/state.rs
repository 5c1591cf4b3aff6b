//! The one copy that the leader's loop writes: every change costs the same, however much there is.

mod agents;
mod frameworks;
mod offers;
mod others;
mod tasks;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_master_core::{AgentState, ViewChange};
use mezzo_proto::v1;
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_types::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};

use super::agent::{AgentEntry, AgentFacts, Load};
use super::event::{EventCell, Happening};
use super::framework::{FrameworkEntry, FrameworkFacts};
use super::pages::Pages;
use super::role::Roles;

/// Events that may wait to be passed on. Whoever passes them on comes every few milliseconds; if it does not, all
/// who listen are cut off rather than memory filled.
const EVENTS_MAX: usize = 1 << 19;

/// What is remembered of what is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) completed_frameworks: usize,
    pub(crate) completed_tasks_per_framework: usize,
}

impl Default for Memory {
    /// Mesos' numbers.
    fn default() -> Self {
        Memory { completed_frameworks: 50, completed_tasks_per_framework: 1000 }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) memory: Memory,
    pub(super) frameworks: Pages<Arc<FrameworkEntry>>,
    framework_index: HashMap<FrameworkId, FrameworkIndex>,
    /// Oldest first.
    pub(super) completed: VecDeque<Arc<FrameworkEntry>>,
    pub(super) agents: Agents,
    agent_index: HashMap<AgentId, (Shelf, usize)>,
    /// What agents have to bear that are not known (yet).
    strangers: HashMap<AgentId, Load>,
    offers: HashMap<OfferId, (FrameworkId, usize)>,
    inverse_offers: HashMap<String, (FrameworkId, usize)>,
    pub(super) operations: Pages<Arc<v1::Operation>>,
    operation_index: HashMap<Bytes, usize>,
    pub(super) roles: Roles,
    pub(super) weights: Arc<BTreeMap<String, f64>>,
    pub(super) quotas: Arc<BTreeMap<String, QuotaConfig>>,
    /// Whether anybody listens: events are made only then.
    pub(super) watched: bool,
    /// Events that were not passed on yet, and the number of the last of them.
    pub(super) events: Vec<Arc<EventCell>>,
    pub(super) last_event: u64,
}

/// Agents, by where they stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    pub(super) registered: Pages<Arc<AgentEntry>>,
    pub(super) recovered: Pages<Arc<AgentEntry>>,
    pub(super) unreachable: Pages<Arc<AgentEntry>>,
    pub(super) gone: Pages<Arc<AgentEntry>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    Registered,
    Recovered,
    Unreachable,
    Gone,
}

impl From<AgentState> for Shelf {
    fn from(state: AgentState) -> Self {
        match state {
            AgentState::Active | AgentState::Disconnected => Shelf::Registered,
            AgentState::Recovered => Shelf::Recovered,
            AgentState::Unreachable => Shelf::Unreachable,
            AgentState::Gone => Shelf::Gone,
        }
    }
}

impl Agents {
    fn on(&mut self, shelf: Shelf) -> &mut Pages<Arc<AgentEntry>> {
        match shelf {
            Shelf::Registered => &mut self.registered,
            Shelf::Recovered => &mut self.recovered,
            Shelf::Unreachable => &mut self.unreachable,
            Shelf::Gone => &mut self.gone,
        }
    }
}

#[derive(Debug)]
struct FrameworkIndex {
    at: usize,
    tasks: HashMap<TaskId, TaskIndex>,
    executors: HashMap<(AgentId, ExecutorId), usize>,
}

#[derive(Debug)]
struct TaskIndex {
    at: usize,
    agent: AgentId,
    state: i32,
    /// Of the last status.
    status: Option<i32>,
}

impl TaskIndex {
    fn is_unreachable(&self) -> bool {
        self.state == v1::TaskState::TaskUnreachable as i32
    }
}

impl State {
    pub(super) fn new(memory: Memory) -> State {
        State { memory, ..State::default() }
    }

    pub(super) fn apply(&mut self, change: ViewChange) {
        match change {
            ViewChange::Framework {
                info,
                connected,
                active,
                recovered,
                registered_unix_ns,
                reregistered_unix_ns,
            } => self.put_framework(FrameworkFacts {
                info,
                connected,
                active,
                recovered,
                registered_unix_ns,
                reregistered_unix_ns,
                unregistered_unix_ns: None,
            }),
            ViewChange::FrameworkCompleted { id, unix_ns } => self.complete_framework(&id, unix_ns),
            ViewChange::Agent {
                info,
                version,
                state,
                since_unix_ns,
                registered_unix_ns,
                total,
                deactivated,
                drain,
            } => self.put_agent(AgentFacts::new(
                info,
                version,
                state,
                since_unix_ns,
                registered_unix_ns,
                &total,
                deactivated,
                drain,
            )),
            ViewChange::AgentRemoved(id) => self.remove_agent(&id),
            ViewChange::Task(task) => self.put_task(task),
            ViewChange::TaskNews(news) => self.take_news(&news),
            ViewChange::TaskCompleted(framework, task) => self.complete_task(&framework, &task),
            ViewChange::Offer(offer) => self.put_offer(offer),
            ViewChange::OfferRemoved(id) => self.remove_offer(&id),
            ViewChange::InverseOffer(offer) => self.put_inverse_offer(offer),
            ViewChange::InverseOfferRemoved(id) => self.remove_inverse_offer(&id),
            ViewChange::Executor { framework, agent, info } => {
                self.put_executor(&framework, agent, info);
            }
            ViewChange::ExecutorRemoved { framework, agent, executor } => {
                self.remove_executor(&framework, agent, executor);
            }
            ViewChange::Operation(operation) => self.put_operation(operation),
            ViewChange::OperationRemoved(uuid) => self.remove_operation(&uuid.value),
            ViewChange::Weights(weights) => self.weights = Arc::new(weights),
            ViewChange::Quotas(quotas) => self.quotas = Arc::new(quotas),
            // Asked for rarely: the core answers it.
            ViewChange::Maintenance { .. } => {}
        }
    }

    fn tell(&mut self, happening: Happening) {
        if !self.watched {
            return;
        }
        self.last_event += 1;
        if self.events.len() >= EVENTS_MAX {
            // The numbers show the gap.
            self.events.clear();
        }
        self.events.push(Arc::new(EventCell::new(happening)));
    }

    fn framework_mut(&mut self, id: &FrameworkId) -> Option<&mut FrameworkEntry> {
        let at = self.framework_index.get(id)?.at;
        Some(Arc::make_mut(self.frameworks.get_mut(at)?))
    }
}

/// Changes what an agent has to bear, wherever the agent is.
fn with_load(
    agents: &mut Agents,
    index: &HashMap<AgentId, (Shelf, usize)>,
    strangers: &mut HashMap<AgentId, Load>,
    agent: &AgentId,
    change: impl FnOnce(&mut Load),
) {
    if let Some((shelf, at)) = index.get(agent) {
        if let Some(entry) = agents.on(*shelf).get_mut(*at) {
            change(&mut Arc::make_mut(entry).load);
        }
        return;
    }
    let load = strangers.entry(agent.clone()).or_default();
    change(load);
    if load.is_empty() {
        strangers.remove(agent);
    }
}
