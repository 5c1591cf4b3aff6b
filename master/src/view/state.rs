//! The one copy that the leader's loop writes: every change costs the same, however much there is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_master_core::{AgentState, ViewChange};
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::get_executors;
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, ExecutorId, FrameworkId, Resources, TaskId};

use super::agent::{AgentEntry, AgentFacts, Load, count};
use super::event::{EventCell, Happening};
use super::framework::{FrameworkEntry, FrameworkFacts};
use super::pages::Pages;
use super::role::{Roles, Way};
use super::small::OfferEntry;
use super::task::{TaskEntry, holds};

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
    offers: HashMap<String, (FrameworkId, usize)>,
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

    // Frameworks.

    fn put_framework(&mut self, facts: FrameworkFacts) {
        let Some(id) = facts.info.id.as_ref().map(FrameworkId::from) else { return };
        let facts = Arc::new(facts);
        let Some(entry) = self.framework_mut(&id) else {
            self.roles.subscribed(&facts.info, Way::Add);
            let entry = FrameworkEntry::new((*facts).clone());
            let at = self.frameworks.push(Arc::new(entry));
            let index = FrameworkIndex { at, tasks: HashMap::new(), executors: HashMap::new() };
            self.framework_index.insert(id, index);
            return self.tell(Happening::FrameworkAdded(facts));
        };
        if entry.facts == facts {
            return;
        }
        let before = std::mem::replace(&mut entry.facts, Arc::clone(&facts));
        self.roles.subscribed(&before.info, Way::Subtract);
        self.roles.subscribed(&facts.info, Way::Add);
        self.tell(Happening::FrameworkUpdated(facts));
    }

    fn complete_framework(&mut self, id: &FrameworkId, unix_ns: i64) {
        let Some(index) = self.framework_index.get(id) else { return };
        let mut tasks: Vec<TaskId> = index.tasks.keys().cloned().collect();
        // In the order of their ids, so that what is remembered does not depend on chance.
        tasks.sort();
        for task in tasks {
            self.complete_task(id, &task);
        }
        let Some(index) = self.framework_index.remove(id) else { return };
        let Some(mut entry) = self.frameworks.swap_remove(index.at) else { return };
        if let Some(moved) = self.frameworks.get(index.at)
            && let Some(of_moved) = self.framework_index.get_mut(moved.id())
        {
            of_moved.at = index.at;
        }
        let completed = Arc::make_mut(&mut entry);
        for offer in completed.offers.iter() {
            self.offers.remove(&offer.offer.id.value);
            self.roles.offered(&offer.resources, Way::Subtract);
            with_load(
                &mut self.agents,
                &self.agent_index,
                &mut self.strangers,
                &AgentId::from(&offer.offer.agent_id),
                |load| load.offered.subtract(&offer.resources),
            );
        }
        for offer in completed.inverse_offers.iter() {
            self.inverse_offers.remove(&offer.id.value);
        }
        // The summaries of agents tell of frameworks that are there.
        for task in completed.completed.iter() {
            with_load(
                &mut self.agents,
                &self.agent_index,
                &mut self.strangers,
                &AgentId::from(task.agent_id()),
                |load| load.hide(id, task.state()),
            );
        }
        completed.offers = Pages::default();
        completed.inverse_offers = Pages::default();
        completed.executors = Pages::default();
        completed.offered = super::sum::Sum::default();
        let facts = Arc::new(FrameworkFacts {
            connected: false,
            active: false,
            recovered: false,
            unregistered_unix_ns: Some(unix_ns),
            ..(*completed.facts).clone()
        });
        completed.facts = Arc::clone(&facts);
        self.roles.subscribed(&facts.info, Way::Subtract);
        self.completed.push_back(entry);
        while self.completed.len() > self.memory.completed_frameworks {
            self.completed.pop_front();
        }
        self.tell(Happening::FrameworkRemoved(facts));
    }

    // Agents.

    fn put_agent(&mut self, facts: AgentFacts) {
        let Some(id) = facts.info.id.as_ref().map(AgentId::from) else { return };
        let (before, load) = match self.take_agent(&id) {
            Some(entry) => (Some(entry.facts.state), entry.load.clone()),
            None => (None, self.strangers.remove(&id).unwrap_or_default()),
        };
        let shelf = Shelf::from(facts.state);
        if shelf == Shelf::Registered {
            self.roles.reserved(&facts.total, Way::Add);
        }
        let entry = Arc::new(AgentEntry { facts: Arc::new(facts), load });
        let at = self.agents.on(shelf).push(Arc::clone(&entry));
        self.agent_index.insert(id.clone(), (shelf, at));
        let was_registered = before.map(Shelf::from) == Some(Shelf::Registered);
        match (was_registered, shelf == Shelf::Registered) {
            (false, true) => self.tell(Happening::AgentAdded(entry)),
            (true, false) => self.tell(Happening::AgentRemoved(id)),
            _ => {}
        }
    }

    fn take_agent(&mut self, id: &AgentId) -> Option<Arc<AgentEntry>> {
        let (shelf, at) = self.agent_index.remove(id)?;
        let pages = self.agents.on(shelf);
        let entry = pages.swap_remove(at)?;
        let moved = pages.get(at).and_then(|moved| moved.facts.info.id.as_ref());
        if let Some((_, of_moved)) =
            moved.and_then(|id| self.agent_index.get_mut(id.value.as_str()))
        {
            *of_moved = at;
        }
        if shelf == Shelf::Registered {
            self.roles.reserved(&entry.facts.total, Way::Subtract);
        }
        Some(entry)
    }

    fn remove_agent(&mut self, id: &AgentId) {
        let Some(entry) = self.take_agent(id) else { return };
        if !entry.load.is_empty() {
            self.strangers.insert(id.clone(), entry.load.clone());
        }
        if Shelf::from(entry.facts.state) == Shelf::Registered {
            self.tell(Happening::AgentRemoved(id.clone()));
        }
    }

    fn load(&mut self, agent: &AgentId, change: impl FnOnce(&mut Load)) {
        with_load(&mut self.agents, &self.agent_index, &mut self.strangers, agent, change);
    }

    // Tasks.

    fn put_task(&mut self, task: v1::Task) {
        let framework = FrameworkId::from(task.framework_id.value.as_str());
        let id = TaskId::from(task.task_id.value.as_str());
        let agent = AgentId::from(task.agent_id.value.as_str());
        let Some(index) = self.framework_index.get(&framework) else { return };
        if index.tasks.get(&id).is_some_and(|known| known.agent != agent) {
            // Another task of that name: the one before it is over.
            self.complete_task(&framework, &id);
        }
        let state = task.state;
        let status = task.statuses.last().cloned();
        let Some(index) = self.framework_index.get_mut(&framework) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let known = index.tasks.get_mut(&id);
        let now_holds = holds(state);
        let did_hold = known.as_ref().is_some_and(|known| holds(known.state));
        let changed = (now_holds != did_hold)
            .then(|| Resources::from_proto(&task.resources).unwrap_or_default());
        let unreachable = state == v1::TaskState::TaskUnreachable as i32;
        let (before, happening) = match known {
            None => {
                let new = TaskEntry::new(task, None);
                let happening = Happening::TaskAdded(new.clone());
                let pages = if unreachable { &mut entry.unreachable } else { &mut entry.tasks };
                let at = pages.push(new);
                let status = status.as_ref().map(|status| status.state);
                let known = TaskIndex { at, agent: agent.clone(), state, status };
                index.tasks.insert(id, known);
                count(&mut entry.counts, state, true);
                (None, Some(happening))
            }
            Some(known) => {
                let before = known.state;
                let happening = news(known, &framework, &task, status.as_ref());
                let from = if known.is_unreachable() { &entry.unreachable } else { &entry.tasks };
                let new = TaskEntry::new(task, from.get(known.at));
                if known.is_unreachable() == unreachable {
                    let pages = if unreachable { &mut entry.unreachable } else { &mut entry.tasks };
                    if let Some(place) = pages.get_mut(known.at) {
                        *place = new;
                    }
                    known.state = state;
                } else {
                    let (from, to) = match unreachable {
                        true => (&mut entry.tasks, &mut entry.unreachable),
                        false => (&mut entry.unreachable, &mut entry.tasks),
                    };
                    let left = known.at;
                    from.swap_remove(left);
                    known.at = to.push(new);
                    known.state = state;
                    let moved = from.get(left).map(|moved| moved.task_id().to_owned());
                    if let Some(moved) = moved.and_then(|id| index.tasks.get_mut(id.as_str())) {
                        moved.at = left;
                    }
                }
                if let (Some(status), Some(known)) = (&status, index.tasks.get_mut(&id)) {
                    known.status = Some(status.state);
                }
                count(&mut entry.counts, before, false);
                count(&mut entry.counts, state, true);
                (Some(before), happening)
            }
        };
        if let Some(resources) = &changed {
            match now_holds {
                true => entry.allocated.add(resources),
                false => entry.allocated.subtract(resources),
            }
            self.roles.allocated(resources, if now_holds { Way::Add } else { Way::Subtract });
        }
        self.load(&agent, |load| {
            match before {
                None => load.show(&framework, state),
                Some(before) => load.moved(before, state),
            }
            match (&changed, now_holds) {
                (None, _) => {}
                (Some(resources), true) => load.allocated.add(resources),
                (Some(resources), false) => load.allocated.subtract(resources),
            }
        });
        if let Some(happening) = happening {
            self.tell(happening);
        }
    }

    /// The task is history from now on.
    fn complete_task(&mut self, framework: &FrameworkId, id: &TaskId) {
        let room = self.memory.completed_tasks_per_framework;
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(known) = index.tasks.remove(id) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let pages = if known.is_unreachable() { &mut entry.unreachable } else { &mut entry.tasks };
        let Some(task) = pages.swap_remove(known.at) else { return };
        if let Some(moved) =
            pages.get(known.at).and_then(|moved| index.tasks.get_mut(moved.task_id()))
        {
            moved.at = known.at;
        }
        let held = holds(known.state).then(|| task.resources());
        if let Some(held) = &held {
            entry.allocated.subtract(held);
            self.roles.allocated(held, Way::Subtract);
        }
        let mut forgotten = None;
        if entry.completed.len() < room {
            entry.completed.push(task);
        } else if room == 0 {
            forgotten = Some(task);
        } else {
            let at = entry.next_completed % room;
            forgotten = entry.completed.get_mut(at).map(|oldest| std::mem::replace(oldest, task));
            entry.next_completed = (at + 1) % room;
        }
        if let Some(forgotten) = &forgotten {
            count(&mut entry.counts, forgotten.state(), false);
        }
        if let Some(held) = &held {
            self.load(&known.agent, |load| load.allocated.subtract(held));
        }
        if let Some(forgotten) = forgotten {
            let agent = AgentId::from(forgotten.agent_id());
            self.load(&agent, |load| load.hide(framework, forgotten.state()));
        }
    }

    // Offers.

    fn put_offer(&mut self, offer: v1::Offer) {
        self.remove_offer(&offer.id);
        let framework = FrameworkId::from(&offer.framework_id);
        let agent = AgentId::from(&offer.agent_id);
        let resources = Resources::from_proto(&offer.resources).unwrap_or_default();
        let offer = Arc::new(OfferEntry { offer, resources });
        let Some(entry) = self.framework_mut(&framework) else { return };
        entry.offered.add(&offer.resources);
        let at = entry.offers.push(Arc::clone(&offer));
        self.offers.insert(offer.offer.id.value.clone(), (framework, at));
        self.roles.offered(&offer.resources, Way::Add);
        self.load(&agent, |load| load.offered.add(&offer.resources));
    }

    fn remove_offer(&mut self, id: &v1::OfferId) {
        let Some((framework, at)) = self.offers.remove(&id.value) else { return };
        let Some(entry) = self.framework_mut(&framework) else { return };
        let Some(offer) = entry.offers.swap_remove(at) else { return };
        entry.offered.subtract(&offer.resources);
        let moved = entry.offers.get(at).map(Arc::clone);
        if let Some((_, of_moved)) =
            moved.and_then(|moved| self.offers.get_mut(&moved.offer.id.value))
        {
            *of_moved = at;
        }
        self.roles.offered(&offer.resources, Way::Subtract);
        let agent = AgentId::from(&offer.offer.agent_id);
        self.load(&agent, |load| load.offered.subtract(&offer.resources));
    }

    fn put_inverse_offer(&mut self, offer: v1::InverseOffer) {
        self.remove_inverse_offer(&offer.id);
        let framework = FrameworkId::from(&offer.framework_id);
        let id = offer.id.value.clone();
        let Some(entry) = self.framework_mut(&framework) else { return };
        let at = entry.inverse_offers.push(Arc::new(offer));
        self.inverse_offers.insert(id, (framework, at));
    }

    fn remove_inverse_offer(&mut self, id: &v1::OfferId) {
        let Some((framework, at)) = self.inverse_offers.remove(&id.value) else { return };
        let Some(entry) = self.framework_mut(&framework) else { return };
        entry.inverse_offers.swap_remove(at);
        let moved = entry.inverse_offers.get(at).map(Arc::clone);
        if let Some((_, of_moved)) =
            moved.and_then(|moved| self.inverse_offers.get_mut(&moved.id.value))
        {
            *of_moved = at;
        }
    }

    // Executors and operations.

    fn put_executor(&mut self, framework: &FrameworkId, agent: AgentId, info: v1::ExecutorInfo) {
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let key = (agent, ExecutorId::from(&info.executor_id));
        let executor =
            Arc::new(get_executors::Executor { agent_id: (&key.0).into(), executor_info: info });
        match index.executors.get(&key).and_then(|at| entry.executors.get_mut(*at)) {
            Some(place) => *place = executor,
            None => {
                index.executors.insert(key, entry.executors.push(executor));
            }
        }
    }

    fn remove_executor(&mut self, framework: &FrameworkId, agent: AgentId, executor: ExecutorId) {
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(at) = index.executors.remove(&(agent, executor)) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        entry.executors.swap_remove(at);
        if let Some(moved) = entry.executors.get(at) {
            let key = (
                AgentId::from(&moved.agent_id),
                ExecutorId::from(&moved.executor_info.executor_id),
            );
            index.executors.insert(key, at);
        }
    }

    fn put_operation(&mut self, operation: v1::Operation) {
        let uuid = operation.uuid.value.clone();
        let operation = Arc::new(operation);
        match self.operation_index.get(&uuid).and_then(|at| self.operations.get_mut(*at)) {
            Some(place) => *place = operation,
            None => {
                self.operation_index.insert(uuid, self.operations.push(operation));
            }
        }
    }

    fn remove_operation(&mut self, uuid: &Bytes) {
        let Some(at) = self.operation_index.remove(uuid) else { return };
        self.operations.swap_remove(at);
        if let Some(moved) = self.operations.get(at) {
            self.operation_index.insert(moved.uuid.value.clone(), at);
        }
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

/// The TASK_UPDATED that a change is worth: Mesos tells of new states, and of checks.
fn news(
    known: &TaskIndex,
    framework: &FrameworkId,
    task: &v1::Task,
    status: Option<&v1::TaskStatus>,
) -> Option<Happening> {
    let is_check = |status: &v1::TaskStatus| {
        matches!(
            status.reason(),
            Reason::TaskCheckStatusUpdated | Reason::TaskHealthCheckStatusUpdated
        ) && status.reason.is_some()
    };
    let fresh = |status: &v1::TaskStatus| known.status != Some(status.state) || is_check(status);
    let status = status.filter(|status| fresh(status)).cloned();
    if known.state == task.state && status.is_none() {
        return None;
    }
    // A new state without a word about it: the state is the word.
    let status = status.unwrap_or_else(|| v1::TaskStatus {
        task_id: task.task_id.clone(),
        agent_id: Some(task.agent_id.clone()),
        state: task.state,
        ..v1::TaskStatus::default()
    });
    Some(Happening::TaskUpdated {
        framework: framework.into(),
        status: Box::new(status),
        state: task.state,
    })
}
