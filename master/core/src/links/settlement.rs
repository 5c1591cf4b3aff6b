//! Which of an agent's tasks live: what it reports, held against the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_proto::internal::v1::AgentTask;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{PlaceTasks, Placement};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, ExecutorId, FrameworkId, Now, Position, Resources, TaskId};
use prost::Message;

use crate::effect::ViewChange;
use crate::master::Master;
use crate::status::{from_master, lost_or};
use crate::task::{Launch, Task};

/// How an agent registers, as far as its tasks are concerned.
pub(super) struct Return {
    /// The last launch that arrived there.
    pub(super) last: Launch,
    /// Its host was restarted meanwhile: no process of before can live.
    pub(super) rebooted: bool,
    /// It was given up, so that its frameworks think that its tasks are lost.
    pub(super) given_up: bool,
}

/// What holding the list against the ledger came to.
#[derive(Default)]
pub(super) struct Settlement {
    /// When the ledger has what it lacked.
    pub(super) position: Position,
    /// Reported tasks whose ids belong to tasks of other agents by now.
    pub(super) doubles: Vec<(FrameworkId, TaskId)>,
}

impl Master {
    /// Holds the agent's list against the ledger.
    pub(super) fn settle_tasks(
        &mut self,
        now: Now,
        id: &AgentId,
        reported: &[AgentTask],
        back: &Return,
    ) -> Settlement {
        let mut settlement = Settlement::default();
        let mut seen = BTreeSet::new();
        let mut added = Vec::new();
        for task in reported {
            let Ok(info) = v1::TaskInfo::decode(task.task_info.as_ref()) else { continue };
            let key = (FrameworkId::from(task.framework_id.as_str()), TaskId::from(&info.task_id));
            let owner = self.frameworks.get(&key.0).and_then(|f| f.tasks.get(&key.1));
            if owner.is_some_and(|task| task.agent != *id) {
                // One that ended needs no kill; its updates are acknowledged as a stranger's.
                let latest = task.latest.as_ref().map(v1::TaskStatus::state).unwrap_or_default();
                if !mezzo_types::is_terminal(latest) {
                    settlement.doubles.push(key);
                }
                continue;
            }
            added.extend(self.adopt(now, id, &key, info, task, back));
            seen.insert(key);
        }
        let expected: Vec<(FrameworkId, TaskId)> = match self.agents.get(id) {
            Some(agent) => agent.tasks.difference(&seen).cloned().collect(),
            None => Vec::new(),
        };
        for (framework, task) in expected {
            self.settle_missing(now, &framework, &task, back);
        }
        if !added.is_empty() {
            let place = PlaceTasks { placements: added };
            settlement.position = self.persist(CommandKind::PlaceTasks(place));
        }
        settlement
    }

    /// Takes a reported task over; returns its placement if the ledger lacked it.
    fn adopt(
        &mut self,
        now: Now,
        agent: &AgentId,
        key: &(FrameworkId, TaskId),
        info: v1::TaskInfo,
        reported: &AgentTask,
        back: &Return,
    ) -> Option<Placement> {
        let (framework_id, id) = key;
        // Without a status it waits for its executor.
        let latest = reported.latest.clone().unwrap_or_else(|| v1::TaskStatus {
            state: TaskState::TaskStaging as i32,
            ..v1::TaskStatus::default()
        });
        let state = latest.state();
        let framework = self.frameworks.get_mut(framework_id)?;
        let fallback_role = framework.roles.first().cloned().unwrap_or_else(|| "*".to_owned());
        // A command task has none, though its statuses name one.
        let executor = info.executor.as_ref().map(|e| ExecutorId::from(&e.executor_id));
        if let Some(task) = framework.tasks.get_mut(id) {
            task.described = true;
            task.executor = executor;
            task.unreachable_since_unix_ns = None;
            task.holds_resources = !mezzo_types::is_terminal(state);
            task.state = state;
            task.count(&mut self.statistics);
            let seen = task.to_view(Some(&info));
            self.tell_return(now, agent, key, &latest, back);
            self.view(ViewChange::Task(seen));
            return None;
        }
        let role = info
            .resources
            .iter()
            .find_map(|r| r.allocation_info.as_ref().and_then(|a| a.role.clone()))
            .unwrap_or(fallback_role);
        let resources = Resources::from_proto(&info.resources).unwrap_or_default().allocate(&role);
        let placement = Placement {
            framework_id: framework_id.to_string(),
            task_id: id.to_string(),
            agent_id: agent.to_string(),
            role: role.clone(),
            resources: resources.to_proto(),
            launch_term: 0,
            launch_sequence: 0,
        };
        let mut task = Task {
            framework: framework_id.clone(),
            id: id.clone(),
            agent: agent.clone(),
            role,
            resources,
            launch: Launch::default(),
            executor,
            described: true,
            state,
            last_status: None,
            unacknowledged: None,
            acknowledged: None,
            holds_resources: !mezzo_types::is_terminal(state),
            kill: None,
            unreachable_since_unix_ns: None,
            counted: None,
        };
        task.count(&mut self.statistics);
        let seen = task.to_view(Some(&info));
        framework.tasks.insert(id.clone(), task);
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.tasks.insert(key.clone());
        }
        self.tell_return(now, agent, key, &latest, back);
        self.view(ViewChange::Task(seen));
        Some(placement)
    }

    /// Takes back what the framework was told when the agent was given up. Nobody acknowledges or
    /// retries that. Of a task that ended the agent's own update tells.
    fn tell_return(
        &mut self,
        now: Now,
        agent: &AgentId,
        (framework, id): &(FrameworkId, TaskId),
        latest: &v1::TaskStatus,
        back: &Return,
    ) {
        if !back.given_up || mezzo_types::is_terminal(latest.state()) {
            return;
        }
        let reason = Some(Reason::AgentReregistered);
        let message = "Agent reregistered";
        let status = v1::TaskStatus {
            executor_id: latest.executor_id.clone(),
            container_status: latest.container_status.clone(),
            healthy: latest.healthy,
            ..from_master(now, id, Some(agent), latest.state(), reason, message)
        };
        self.send_status(framework, status, Position(0));
    }

    /// The ledger has a task that the agent does not know. Either its launch never arrived, or the
    /// agent lost it with the host; an acknowledged ending was forgotten by the ledger first, and one
    /// that was reported stands.
    fn settle_missing(&mut self, now: Now, framework_id: &FrameworkId, id: &TaskId, back: &Return) {
        if is_on(Bug::MasterMissesNoLaunch) {
            return;
        }
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let aware = framework.partition_aware();
        let Some(task) = framework.tasks.get_mut(id) else { return };
        task.holds_resources = false;
        // After a reboot the agent's last launch may be older than the truth, as it is written
        // unsynced: that the task never ran would be a guess.
        let (precise, reason, message) = if back.rebooted {
            (TaskState::TaskGone, Reason::AgentRestarted, "the agent's host was restarted")
        } else if task.launch > back.last {
            let message = "the launch never reached the agent: its connection broke before";
            (TaskState::TaskDropped, Reason::AgentDisconnected, message)
        } else {
            let message = "the agent does not know the task any more";
            (TaskState::TaskGone, Reason::AgentRestarted, message)
        };
        let status = task.last_word(now, lost_or(aware, precise), reason, message);
        if !task.ending_told() {
            self.statistics.task_ended(framework_id, &status);
        }
        task.last_status = Some(Arc::new(status.clone()));
        self.set_task_state(now, framework_id, id, status.state());
        self.view_task(framework_id, id);
        let position = self.forget_task(framework_id, id);
        self.send_status(framework_id, status, position);
    }
}
