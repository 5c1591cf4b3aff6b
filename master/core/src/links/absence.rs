//! Agents that are silent or away for too long: in turn, as fast as the operator allows, they are
//! marked unreachable. Until its turn has come an agent may still return.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezzo_proto::storage::v1::agent_record;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, FrameworkId, Now, Position, TaskId};

use crate::effect::{Effect, ViewChange};
use crate::master::Master;
use crate::status::{from_master, lost_or, time_info};
use crate::timers::Timer;

/// A place in the queue of [`Removals`]; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Agents that are to be marked unreachable. Each agent has at most one place, so that there are never
/// more places than agents.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    queue: BTreeMap<Ticket, AgentId>,
    next_ticket: u64,
    /// Monotonic time before which the rate limit lets nobody pass.
    free_ns: u64,
    /// The timer that is set.
    due_ns: Option<u64>,
}

impl Removals {
    fn push(&mut self, id: AgentId) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.queue.insert(ticket, id);
        ticket
    }

    pub(crate) fn holds(&self, ticket: Ticket, id: &AgentId) -> bool {
        self.queue.get(&ticket) == Some(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Master {
    pub(crate) fn reregister_timeout(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.reregister_due_ns.is_some_and(|due| due <= now.mono_ns) {
            agent.reregister_due_ns = None;
            self.schedule_removal(now, id);
        }
    }

    /// The agents that were known from the registry only had their time to come back. When too many
    /// of them are missing, the fault is rather with the network or this master than with them.
    pub(crate) fn recovery_timeout(&mut self, now: Now) {
        let missing: Vec<AgentId> = self.recovered.iter().cloned().collect();
        if missing.is_empty() {
            return;
        }
        let share = 100.0 * missing.len() as f64 / self.recovered_at_first.max(1) as f64;
        let limit = self.config.recovery_agent_removal_limit_percent;
        if share > limit {
            self.effect(Effect::Halt(format!(
                "{} of {} agents ({share:.0}%) did not come back within {} s after this master took \
                 the lead, more than --recovery-agent-removal-limit={limit}% allows to mark as \
                 unreachable: see whether the network lets agents reach this master, or raise the \
                 limit, and start it again",
                missing.len(),
                self.recovered_at_first,
                self.config.agent_reregister_timeout.as_secs_f64(),
            )));
            return;
        }
        for id in missing {
            self.statistics.recovery_removals += 1;
            self.schedule_removal(now, &id);
        }
    }

    /// Gives the agent a place in the queue; its turn is now if nothing limits the rate.
    pub(crate) fn schedule_removal(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.removal.is_some() || agent.unreachable_since_unix_ns.is_some() {
            return;
        }
        agent.removal = Some(self.removals.push(id.clone()));
        self.statistics.unreachable_scheduled += 1;
        // Nobody should launch on an agent that does not answer.
        self.allocator.deactivate_agent(id);
        self.rescind_offers_of_agent(now, id);
        self.run_removals(now);
    }

    /// The agent came back, or is removed in another way, before its turn.
    pub(crate) fn cancel_removal(&mut self, id: &AgentId) {
        let ticket = self.agents.get_mut(id).and_then(|agent| agent.removal.take());
        if let Some(ticket) = ticket {
            self.removals.queue.remove(&ticket);
            self.statistics.unreachable_canceled += 1;
        }
    }

    /// Lets pass whoever may.
    pub(crate) fn run_removals(&mut self, now: Now) {
        if self.removals.due_ns.is_some_and(|due| now.reached(due)) {
            self.removals.due_ns = None;
        }
        while !self.removals.queue.is_empty() {
            let free = self.removals.free_ns;
            if !now.reached(free) {
                if self.removals.due_ns.is_none() {
                    self.removals.due_ns = Some(free);
                    self.timers.set(free, Timer::Removal);
                }
                return;
            }
            let Some((_, id)) = self.removals.queue.pop_first() else { return };
            if let Some(limit) = self.config.agent_removal_rate_limit {
                self.removals.free_ns = now.plus(limit.interval());
            }
            self.mark_unreachable(now, &id);
        }
    }

    /// The agent is given up until it returns; its tasks may still run. The ledger keeps them.
    fn mark_unreachable(&mut self, now: Now, id: &AgentId) {
        let link = self.agents.get(id).and_then(|agent| agent.link);
        self.unlink(now, id);
        if let Some(link) = link {
            self.close_link(link);
        }
        self.recovered.remove(id);
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.removal = None;
        if let Some(due) = agent.reregister_due_ns.take() {
            self.timers.cancel(due, Timer::Reregister(id.clone()));
        }
        agent.unreachable_since_unix_ns = Some(now.unix_ns);
        let tasks: Vec<(FrameworkId, TaskId)> = agent.tasks.iter().cloned().collect();
        self.unreachable.insert((now.unix_ns, id.clone()));
        self.statistics.unreachable_completed += 1;
        self.statistics.removals += 1;
        self.statistics.removals_unhealthy += 1;
        let position = self.persist_agent(now, id, agent_record::State::Unreachable);
        for (framework, task) in tasks {
            self.task_unreachable(now, &framework, &task, position);
        }
        self.operations_unreachable(id, position);
        self.allocator.remove_agent(id);
        self.drop_executors_of_agent(id);
        self.send_agent_lost(id, position);
        self.view_agent(id);
    }

    fn task_unreachable(
        &mut self,
        now: Now,
        framework_id: &FrameworkId,
        id: &TaskId,
        after: Position,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let aware = framework.partition_aware();
        let Some(task) = framework.tasks.get_mut(id) else { return };
        // The books of the agent are dropped as a whole.
        task.holds_resources = false;
        // An ending stands; its update waits at the agent.
        if mezzo_types::is_terminal(task.state) {
            return;
        }
        let unseen = task.counted.is_none();
        task.unreachable_since_unix_ns = Some(now.unix_ns);
        task.count(&mut self.statistics);
        let state = lost_or(aware, TaskState::TaskUnreachable);
        if state == TaskState::TaskLost {
            self.statistics.task_reached(state);
        }
        let mut status = from_master(
            now,
            id,
            Some(&task.agent),
            state,
            Some(Reason::AgentRemoved),
            format!("Agent '{}' is unreachable", task.agent),
        );
        self.statistics.task_ended(framework_id, &status);
        status.unreachable_time = aware.then(|| time_info(now.unix_ns));
        let seen = unseen.then(|| ViewChange::Task(task.to_view(None)));
        let news = ViewChange::TaskNews(task.news(Some(Arc::new(status.clone()))));
        for change in seen.into_iter().chain([news]) {
            self.view(change);
        }
        self.send_status(framework_id, status, after);
    }
}
