//! Counts that the metrics endpoints show, kept as things happen: reading them is O(1).
//!
//! | module | what lives there |
//! |---|---|
//! | here | [`Statistics`], of which a copy is made after every round |
//! | `framework` | what one framework did |
//! | `operations` | operations on resources by kind and state |

mod framework;
mod operations;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mezzo_proto::internal::v1::agent_to_master::Message as FromAgent;
use mezzo_proto::v1::TaskStatus;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_proto::v1::scheduler::Call;
use mezzo_proto::v1::scheduler::call::Type as CallType;
use mezzo_types::FrameworkId;

pub use framework::{CALL_TYPES, EVENT_TYPES, FrameworkCounts, OPERATION_TYPES};
pub use operations::{OPERATION_STATES, OperationCounts};

/// A number of events. Copies of [`Statistics`] share it: what there is one of per framework, or that comes in
/// many kinds, would be too much to copy after every round.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }
}

impl PartialEq for Count {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Count {}

/// Calls of the frameworks of one principal. The counters are shared with the copies of [`Statistics`]: those
/// are made after every round, and one string per principal would be too much for that.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    received: Count,
    processed: Count,
}

impl MessageCounts {
    /// All that came, also those that were dropped.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Those that were carried out.
    pub fn processed(&self) -> u64 {
        self.processed.get()
    }

    pub(crate) fn count_received(&self) {
        self.received.add(1);
    }

    pub(crate) fn count_processed(&self) {
        self.processed.add(1);
    }
}

/// How a task ended, or was given up: state, source and reason, as numbers of their enums.
pub type Ending = (i32, i32, i32);

/// Messages of agents, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentMessages {
    /// Of agents that came without an id.
    pub register: u64,
    /// Of agents that had one.
    pub reregister: u64,
    pub unregister: u64,
    pub status_update: u64,
    pub operation_update: u64,
    pub of_executor: u64,
    pub executor_exited: u64,
}

/// Counters since this master took the lead, and gauges of what it holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tasks now in each state, by `TaskState` number, 0 to 13.
    pub tasks_now: [i64; 14],
    /// Tasks that reached each state, by `TaskState` number.
    pub tasks_reached: [u64; 14],
    pub offers_sent: u64,
    pub offers_accepted: u64,
    pub offers_declined: u64,
    pub offers_rescinded: u64,
    pub agents_registered: u64,
    pub agents_reregistered: u64,
    /// Agents that were to be marked unreachable, came back in time, and were marked.
    pub unreachable_scheduled: u64,
    pub unreachable_canceled: u64,
    pub unreachable_completed: u64,
    /// Agents removed in any way, and by which: silent or away too long, left by themselves, marked
    /// gone.
    pub removals: u64,
    pub removals_unhealthy: u64,
    pub removals_unregistered: u64,
    pub removals_gone: u64,
    /// Agents that were known from the registry only and did not come back in time.
    pub recovery_removals: u64,
    pub updates_valid: u64,
    pub updates_invalid: u64,
    pub acknowledgements_valid: u64,
    pub acknowledgements_invalid: u64,
    /// Messages between frameworks and executors: handed on, or dropped because nobody listened.
    pub messages_to_executors_valid: u64,
    pub messages_to_executors_invalid: u64,
    pub messages_of_executors_valid: u64,
    pub messages_of_executors_invalid: u64,
    pub operation_updates_valid: u64,
    pub operation_updates_invalid: u64,
    pub operation_acknowledgements_valid: u64,
    pub operation_acknowledgements_invalid: u64,
    /// Operations on resources in ACCEPTs that broke a rule.
    pub operations_refused: u64,
    pub calls: u64,
    /// Calls of known frameworks, by the number of their type, whatever became of them.
    pub calls_by_type: [u64; CALL_TYPES],
    /// LAUNCHes in ACCEPTs with tasks, and without: those decline.
    pub launches: u64,
    pub launches_empty: u64,
    /// Those among the SUBSCRIBEs that named an id.
    pub subscribes_again: u64,
    pub agent_messages: AgentMessages,
    /// Endings of tasks that had a reason. There are few kinds.
    pub endings: Arc<BTreeMap<Ending, Arc<Count>>>,
    pub operations: Arc<OperationCounts>,
    /// Of frameworks that subscribed since this master took the lead, until they are removed.
    pub frameworks: Arc<BTreeMap<FrameworkId, Arc<FrameworkCounts>>>,
    /// By principal, while a framework of it is known.
    pub messages: Arc<BTreeMap<String, Arc<MessageCounts>>>,
    pub frameworks_connected: i64,
    pub frameworks_disconnected: i64,
    pub agents_connected: i64,
    pub agents_disconnected: i64,
    pub agents_unreachable: i64,
    pub outstanding_offers: i64,
}

impl Statistics {
    /// Counts the calls of a principal from now on.
    pub(crate) fn count_messages_of(&mut self, principal: &str) {
        if !self.messages.contains_key(principal) {
            Arc::make_mut(&mut self.messages).insert(principal.to_owned(), Arc::default());
        }
    }

    /// The last framework of a principal is gone.
    pub(crate) fn forget_messages_of(&mut self, principal: &str) {
        Arc::make_mut(&mut self.messages).remove(principal);
    }

    /// The framework subscribed: what it does is counted from now on.
    pub(crate) fn framework_subscribed(&mut self, id: &FrameworkId) {
        if !self.frameworks.contains_key(id) {
            Arc::make_mut(&mut self.frameworks).insert(id.clone(), Arc::default());
        }
        if let Some(framework) = self.framework(id) {
            framework.call(CallType::Subscribe as i32);
        }
    }

    /// The framework is gone for good.
    pub(crate) fn forget_framework(&mut self, id: &FrameworkId) {
        if self.frameworks.contains_key(id) {
            Arc::make_mut(&mut self.frameworks).remove(id);
        }
    }

    pub(crate) fn call_received(&mut self, id: &FrameworkId, call: &Call) {
        let number = call.r#type.unwrap_or_default();
        count_in(&mut self.calls_by_type, number);
        if number == CallType::Accept as i32 {
            let operations = call.accept.iter().flat_map(|accept| &accept.operations);
            let launch = OperationType::Launch as i32;
            for operation in operations.filter(|operation| operation.r#type == Some(launch)) {
                let empty = operation.launch.as_ref().is_none_or(|l| l.task_infos.is_empty());
                *(if empty { &mut self.launches_empty } else { &mut self.launches }) += 1;
            }
        }
        if let Some(framework) = self.frameworks.get(id) {
            framework.call(number);
        }
    }

    /// A SUBSCRIBE, which may not have a framework yet.
    pub(crate) fn subscribe_received(&mut self, call: &Call) {
        count_in(&mut self.calls_by_type, CallType::Subscribe as i32);
        let id = call.subscribe.as_ref().and_then(|s| s.framework_info.id.as_ref());
        self.subscribes_again += u64::from(id.is_some_and(|id| !id.value.is_empty()));
    }

    pub(crate) fn framework(&self, id: &FrameworkId) -> Option<&FrameworkCounts> {
        self.frameworks.get(id).map(|counts| &**counts)
    }

    /// An operation of the framework was carried out, or is on its way to the agent.
    pub(crate) fn operation_of(&self, id: &FrameworkId, kind: OperationType) {
        if let Some(framework) = self.framework(id) {
            framework.operation(kind as i32);
        }
    }

    pub(crate) fn agent_message_received(&mut self, message: &FromAgent) {
        let counts = &mut self.agent_messages;
        let count = match message {
            FromAgent::Register(register) => {
                let known = register.agent_info.as_ref().is_some_and(|info| info.id.is_some());
                if known { &mut counts.reregister } else { &mut counts.register }
            }
            FromAgent::Unregister(_) => &mut counts.unregister,
            FromAgent::StatusUpdate(_) => &mut counts.status_update,
            FromAgent::OperationUpdate(_) => &mut counts.operation_update,
            FromAgent::ExecutorMessage(_) => &mut counts.of_executor,
            FromAgent::ExecutorExited(_) => &mut counts.executor_exited,
            // A sign of life; Mesos does not count its pongs either.
            FromAgent::Pong(_) => return,
        };
        *count += 1;
    }

    /// A framework is told for the first time that a task ended or is given up.
    pub(crate) fn task_ended(&mut self, framework: &FrameworkId, status: &TaskStatus) {
        if mezzo_types::is_terminal(status.state())
            && let Some(framework) = self.framework(framework)
        {
            framework.task_ended(status.state);
        }
        // As in Mesos, what has no reason is in the sums by state only.
        let Some(reason) = status.reason else { return };
        let ending = (status.state, status.source.unwrap_or_default(), reason);
        if let Some(count) = self.endings.get(&ending) {
            return count.add(1);
        }
        let count = Arc::new(Count::default());
        count.add(1);
        Arc::make_mut(&mut self.endings).insert(ending, count);
    }

    pub(crate) fn task_moved(&mut self, from: Option<i32>, to: Option<i32>) {
        if from == to {
            return;
        }
        if let Some(slot) = from.and_then(|s| self.tasks_now.get_mut(usize::try_from(s).ok()?)) {
            *slot -= 1;
        }
        let Some(to) = to.and_then(|s| usize::try_from(s).ok()) else { return };
        if let Some(slot) = self.tasks_now.get_mut(to) {
            *slot += 1;
        }
        if let Some(slot) = self.tasks_reached.get_mut(to) {
            *slot += 1;
        }
    }

    /// A framework was told of a state that the master does not keep.
    pub(crate) fn task_reached(&mut self, state: mezzo_proto::v1::TaskState) {
        let slot = usize::try_from(state as i32).ok().and_then(|i| self.tasks_reached.get_mut(i));
        if let Some(slot) = slot {
            *slot += 1;
        }
    }
}

/// Numbers that are no number of a kind are counted nowhere.
fn count_in<const N: usize>(counts: &mut [u64; N], number: i32) {
    let slot = usize::try_from(number).ok().and_then(|i| counts.get_mut(i));
    if let Some(slot) = slot {
        *slot += 1;
    }
}
