//! An agent as the master knows it.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::v1;
use mezzo_types::{AgentId, FrameworkId, OfferId, Position, Resources, TaskId, Uuid16};

use crate::input::LinkId;
use crate::links::Ticket;
use crate::task::Launch;

/// An admitted agent: linked, or away.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) info: v1::AgentInfo,
    pub(crate) version: String,
    pub(crate) boot_id: String,
    /// What it has if all operations in flight succeed.
    pub(crate) total: Resources,
    /// What it has for certain.
    pub(crate) confirmed: Resources,
    /// An operation failed, so that tasks may hold what is not there; they are refused by the agent.
    pub(crate) doubtful: bool,
    /// Operations on it, in the order in which they were ordered.
    pub(crate) operations: BTreeMap<Launch, Uuid16>,
    pub(crate) link: Option<LinkId>,
    /// What `Registered` and everything after it on this link depends on, and what is offered of it.
    pub(crate) admitted: Position,
    pub(crate) registered_unix_ns: i64,
    /// Sequence of the last launch sent in this term.
    pub(crate) last_launch: Launch,
    pub(crate) ping_due_ns: u64,
    /// Whether anything arrived on the link since the last ping left.
    pub(crate) heard: bool,
    /// So many ping intervals in a row nothing arrived.
    pub(crate) silent_intervals: u32,
    /// Its turn to be marked unreachable, if it is to be.
    pub(crate) removal: Option<Ticket>,
    /// While the link is down: when the agent is marked unreachable.
    pub(crate) reregister_due_ns: Option<u64>,
    /// Since when it is linked, or not.
    pub(crate) since_unix_ns: i64,
    /// Since when it is unreachable; `None` if it is not.
    pub(crate) unreachable_since_unix_ns: Option<i64>,
    pub(crate) tasks: BTreeSet<(FrameworkId, TaskId)>,
    pub(crate) offers: BTreeSet<OfferId>,
}

impl Agent {
    /// What operations made of its resources; empty if they are as the agent was configured.
    pub(crate) fn changed_total(&self) -> Vec<v1::Resource> {
        let configured = Resources::from_proto(&self.info.resources).unwrap_or_default();
        if self.confirmed == configured { Vec::new() } else { self.confirmed.to_proto() }
    }
}
