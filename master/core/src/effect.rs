//! What the master wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mezzo_proto::internal::v1::MasterToAgent;
use mezzo_proto::storage::v1::Command;
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::Event;
use mezzo_types::{AgentId, ExecutorId, FrameworkId, OfferId, Position, Resources, TaskId};

use crate::input::{LinkId, RequestId, StreamId};

/// One order to the shell. Effects are carried out in order; those with `after` wait until that
/// position is committed, and later ones to the same destination wait behind them.
#[derive(Debug)]
pub enum Effect {
    /// Append to the replicated log. The n-th of these has position n.
    Persist(Box<Command>),
    /// An event for a framework.
    Event { stream: StreamId, event: Box<Event>, after: Position },
    /// End a framework's stream once what was sent before has left.
    CloseStream { stream: StreamId, after: Position },
    /// A message for an agent.
    Agent { link: LinkId, message: Box<MasterToAgent>, after: Position },
    /// End an agent's connection once what was sent before has left.
    CloseLink { link: LinkId, after: Position },
    /// The answer to a call.
    Reply { request: RequestId, result: Result<Answer, Refusal>, after: Position },
    /// A change for the copy of the state that readers see.
    View(Box<ViewChange>),
    /// Stop leading and end, and say why: going on would do more harm than an operator wants.
    Halt(String),
}

/// A call that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Taken; its consequences come as events (HTTP 202).
    Accepted,
    /// Done (HTTP 200).
    Done,
    /// The order to end this task is on its way.
    Killing { framework: FrameworkId, agent: AgentId },
}

/// A call that was not taken, with one sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// HTTP 400.
    #[error("{0}")]
    BadRequest(String),
    /// HTTP 403.
    #[error("{0}")]
    Forbidden(String),
    /// HTTP 404.
    #[error("{0}")]
    NotFound(String),
    /// HTTP 409.
    #[error("{0}")]
    Conflict(String),
    /// HTTP 501.
    #[error("{0}")]
    NotImplemented(String),
    /// HTTP 503: later it may work.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// The status that the HTTP API answers with.
    pub fn http_code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::Conflict(_) => 409,
            Self::NotImplemented(_) => 501,
            Self::Unavailable(_) => 503,
        }
    }
}

/// Where an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// Registered, and linked.
    Active,
    /// Registered, but its link broke: it is expected back.
    Disconnected,
    /// Known from the registry since this master took the lead, and not back yet.
    Recovered,
    /// Given up until it returns.
    Unreachable,
    /// Marked gone by an operator: barred.
    Gone,
}

/// What changed of a task. The rest of it, which may be large, is with the readers and need not be said again.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskNews {
    pub framework: FrameworkId,
    pub task: TaskId,
    pub state: v1::TaskState,
    /// Joins those that are known; its executor is the task's.
    pub status: Option<Arc<v1::TaskStatus>>,
    /// Of the newest update by the agent.
    pub status_update_state: Option<i32>,
    /// Of the update that waits for its acknowledgement.
    pub status_update_uuid: Option<Bytes>,
}

/// An offer that is out now.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferNews {
    pub id: OfferId,
    pub framework: FrameworkId,
    pub agent: AgentId,
    /// Allocated to the role that they are offered to.
    pub resources: Resources,
    /// The `v1::Offer` as the framework is told it: a tenth of the message, and what readers pass on.
    pub encoded: Bytes,
}

/// What changed for readers: whole values, so that applying one twice does no harm.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewChange {
    /// A framework came or changed.
    Framework {
        info: v1::FrameworkInfo,
        connected: bool,
        active: bool,
        /// Known from before this master took the lead, and not back yet.
        recovered: bool,
        registered_unix_ns: i64,
        /// When it subscribed last, if that was not the first time.
        reregistered_unix_ns: Option<i64>,
    },
    /// A framework was removed for good at that time; its tasks are history.
    FrameworkCompleted { id: FrameworkId, unix_ns: i64 },
    /// An agent came or changed.
    Agent {
        info: v1::AgentInfo,
        version: String,
        state: AgentState,
        /// When `state` was entered.
        since_unix_ns: i64,
        registered_unix_ns: i64,
        /// What it has, with the reservations and volumes that operations made of it.
        total: Vec<v1::Resource>,
        /// By an operator's order it is offered to nobody.
        deactivated: bool,
        /// While it is being drained, or has been, and since when.
        drain: Option<(v1::DrainInfo, i64)>,
    },
    /// An agent left, or was unreachable or gone for so long that the registry forgot it.
    AgentRemoved(AgentId),
    /// A task came, or came to be known better.
    Task(v1::Task),
    /// A task that readers know changed its state, or there is a status of it.
    TaskNews(TaskNews),
    /// The task's terminal update was acknowledged: history from now on.
    TaskCompleted(FrameworkId, TaskId),
    /// An offer is out.
    Offer(OfferNews),
    /// An offer is gone.
    OfferRemoved(OfferId),
    /// An inverse offer is out: somebody is asked to leave an agent.
    InverseOffer(v1::InverseOffer),
    /// An inverse offer is gone.
    InverseOfferRemoved(v1::OfferId),
    /// An executor came to an agent.
    Executor { framework: FrameworkId, agent: AgentId, info: v1::ExecutorInfo },
    /// An executor ended, or its agent was removed.
    ExecutorRemoved { framework: FrameworkId, agent: AgentId, executor: ExecutorId },
    /// An operation on an agent's resources came or changed state. Its `uuid` is its key.
    Operation(v1::Operation),
    /// Its ending is known and, where somebody wants to hear of it, acknowledged.
    OperationRemoved(v1::Uuid),
    /// All weights that are not 1, by role.
    Weights(BTreeMap<String, f64>),
    /// All quotas, by role.
    Quotas(BTreeMap<String, v1::quota::QuotaConfig>),
    /// The whole of what is planned, and who answered what.
    Maintenance { schedule: v1::maintenance::Schedule, status: v1::maintenance::ClusterStatus },
}
