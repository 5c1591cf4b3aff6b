//! A task as the master knows it.

use std::sync::Arc;

use mezzo_proto::v1;
use mezzo_proto::v1::task_status::Reason;
use mezzo_proto::v1::{TaskState, TaskStatus};
use mezzo_types::{AgentId, ExecutorId, FrameworkId, Now, Resources, TaskId, Uuid16};

use crate::effect::TaskNews;
use crate::statistics::Statistics;
use crate::status::from_master;

/// Where a launch stands among those sent to one agent: (term, sequence).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Launch {
    pub(crate) term: u64,
    pub(crate) sequence: u64,
}

/// One placed task: from the commit of its placement to the acknowledgement of its ending.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) framework: FrameworkId,
    pub(crate) id: TaskId,
    pub(crate) agent: AgentId,
    pub(crate) role: String,
    pub(crate) resources: Resources,
    pub(crate) launch: Launch,
    pub(crate) executor: Option<ExecutorId>,
    /// Its TaskInfo was seen, at the launch or with an agent that came back; until then only the ledger is
    /// known. Readers have it from there on: here it would be the larger part of all that is held.
    pub(crate) described: bool,
    /// Newest state on the agent: what decides over resources.
    pub(crate) state: TaskState,
    /// The newest status that was forwarded, acknowledged or not.
    pub(crate) last_status: Option<Arc<TaskStatus>>,
    /// The update that waits for the framework's acknowledgement; resent when it comes back.
    pub(crate) unacknowledged: Option<Arc<TaskStatus>>,
    /// The update that the framework acknowledged last; the agent may not know yet.
    pub(crate) acknowledged: Option<Uuid16>,
    /// Whether the resources still count: until the ending is reported.
    pub(crate) holds_resources: bool,
    /// A kill that was ordered; repeated when the agent comes back.
    pub(crate) kill: Option<Option<v1::KillPolicy>>,
    /// Set while the agent is unreachable: when it became so.
    pub(crate) unreachable_since_unix_ns: Option<i64>,
    /// The state that it is counted and shown in. None while only the ledger tells of it: its agent is awaited, and
    /// nobody knows its state or its name.
    pub(crate) counted: Option<TaskState>,
}

impl Task {
    /// The state that frameworks know, UNREACHABLE while the agent is: what is counted.
    pub(crate) fn visible_state(&self) -> TaskState {
        match self.unreachable_since_unix_ns {
            Some(_) if !mezzo_types::is_terminal(self.state) => TaskState::TaskUnreachable,
            _ => self.state,
        }
    }

    /// Whether this is the update that waits for the framework.
    pub(crate) fn waits_for(&self, status: &TaskStatus) -> bool {
        let waiting = self.unacknowledged.as_ref().and_then(|waiting| waiting.uuid.as_ref());
        waiting.is_some() && waiting == status.uuid.as_ref()
    }

    /// Whether this is the update that the framework acknowledged last.
    pub(crate) fn has_acknowledged(&self, status: &TaskStatus) -> bool {
        let uuid = status.uuid.as_ref().and_then(|uuid| Uuid16::from_slice(uuid));
        uuid.is_some() && uuid == self.acknowledged
    }

    /// Counts it in its visible state from now on.
    pub(crate) fn count(&mut self, statistics: &mut Statistics) {
        self.count_as(statistics, Some(self.visible_state()));
    }

    /// Counts it in another state from now on, or no more.
    pub(crate) fn count_as(&mut self, statistics: &mut Statistics, state: Option<TaskState>) {
        let before = std::mem::replace(&mut self.counted, state);
        statistics.task_moved(before.map(|s| s as i32), state.map(|s| s as i32));
    }

    /// Whether the framework was told of its ending already.
    pub(crate) fn ending_told(&self) -> bool {
        self.last_status.as_ref().is_some_and(|last| mezzo_types::is_terminal(last.state()))
    }

    /// What the framework is told last of a task whose agent will report no more. An ending that was
    /// reported, or is known, stands; else it is `lost`, with `reason` and `message`.
    pub(crate) fn last_word(
        &self,
        now: Now,
        lost: TaskState,
        reason: Reason,
        message: &str,
    ) -> TaskStatus {
        match self.last_status.as_deref() {
            Some(reported) if mezzo_types::is_terminal(reported.state()) => {
                TaskStatus { uuid: None, ..reported.clone() }
            }
            _ => {
                let known = mezzo_types::is_terminal(self.state).then_some(self.state);
                let state = known.unwrap_or(lost);
                from_master(now, &self.id, Some(&self.agent), state, Some(reason), message)
            }
        }
    }

    /// The task as `GET_TASKS` shows it, with what its TaskInfo tells.
    pub(crate) fn to_view(&self, info: Option<&v1::TaskInfo>) -> v1::Task {
        v1::Task {
            name: info.map_or_else(|| self.id.to_string(), |info| info.name.clone()),
            task_id: (&self.id).into(),
            framework_id: (&self.framework).into(),
            executor_id: self.executor.as_ref().map(Into::into),
            agent_id: (&self.agent).into(),
            state: self.visible_state() as i32,
            resources: self.resources.to_proto(),
            statuses: self.last_status.iter().map(|s| (**s).clone()).collect(),
            status_update_state: self.last_status.as_ref().map(|s| s.state),
            status_update_uuid: self.unacknowledged.as_ref().and_then(|s| s.uuid.clone()),
            labels: info.and_then(|i| i.labels.clone()),
            discovery: info.and_then(|i| i.discovery.clone()),
            container: info.and_then(|i| i.container.clone()),
            health_check: info.and_then(|i| i.health_check.clone()),
            kill_policy: info.and_then(|i| i.kill_policy),
            user: info.and_then(user_of),
            limits: info.map(|i| i.limits.clone()).unwrap_or_default(),
        }
    }

    /// News of the task for those who read, who know the rest: its state, and this status.
    pub(crate) fn news(&self, status: Option<Arc<TaskStatus>>) -> TaskNews {
        TaskNews {
            framework: self.framework.clone(),
            task: self.id.clone(),
            state: self.visible_state(),
            status,
            status_update_state: self.last_status.as_ref().map(|s| s.state),
            status_update_uuid: self.unacknowledged.as_ref().and_then(|s| s.uuid.clone()),
        }
    }
}

/// The user that the task names, or else its executor.
fn user_of(info: &v1::TaskInfo) -> Option<String> {
    let own = info.command.as_ref().and_then(|command| command.user.as_ref());
    let executor = info.executor.as_ref().and_then(|executor| executor.command.as_ref());
    own.or_else(|| executor?.user.as_ref()).cloned()
}
