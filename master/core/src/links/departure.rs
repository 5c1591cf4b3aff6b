//! Agents that leave for good: by themselves, or because an operator says that they never come back.

use std::sync::Arc;

use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{AgentRecord, PutAgent, RemoveAgent, agent_record};
use mezzo_proto::v1;
use mezzo_proto::v1::task_status::Reason;
use mezzo_proto::v1::{OperationState, TaskState};
use mezzo_types::{AgentId, Now, Position};

use crate::agent::Agent;
use crate::effect::{AgentState, Answer, Refusal, ViewChange};
use crate::input::RequestId;
use crate::master::Master;
use crate::status::lost_or;
use crate::timers::Timer;

impl Master {
    /// The agent leaves by itself: its tasks are lost for everybody (Mesos: even for PARTITION_AWARE
    /// frameworks).
    pub(crate) fn unregister(&mut self, now: Now, id: &AgentId) {
        let link = self.agents.get(id).and_then(|agent| agent.link);
        let Some(agent) = self.take_agent(now, id) else { return };
        self.statistics.removals += 1;
        self.statistics.removals_unregistered += 1;
        let position =
            self.persist(CommandKind::RemoveAgent(RemoveAgent { agent_id: id.to_string() }));
        let message = format!("Agent '{id}' left the cluster");
        let lost = (TaskState::TaskLost, Reason::AgentRemoved);
        self.end_tasks(now, &agent, position, &message, |_| lost);
        self.end_operations(&agent, Some((OperationState::OperationUnknown, &message)));
        self.send_agent_lost(id, position);
        self.view(ViewChange::AgentRemoved(id.clone()));
        if let Some(link) = link {
            self.close_link_after(link, position);
        }
    }

    /// MARK_AGENT_GONE: the agent is removed and its id barred. Marking it twice changes nothing.
    pub(crate) fn mark_agent_gone(&mut self, now: Now, request: RequestId, id: &AgentId) {
        if self.gone.contains_key(id) {
            return self.reply(request, Ok(Answer::Done));
        }
        let Some(position) = self.make_gone(now, id) else {
            let refusal =
                Refusal::NotFound(format!("no agent has the id '{id}': `mezzo agents` lists them"));
            return self.reply(request, Err(refusal));
        };
        self.reply_after(request, Ok(Answer::Done), position);
    }

    /// Removes the agent and bars its id; nothing is returned if it is not known.
    pub(crate) fn make_gone(&mut self, now: Now, id: &AgentId) -> Option<Position> {
        let link = self.agents.get(id).and_then(|agent| agent.link);
        let agent = self.take_agent(now, id)?;
        self.statistics.removals += 1;
        self.statistics.removals_gone += 1;
        let info = remembered(&agent.info);
        let record = AgentRecord {
            info: Some(info.clone()),
            state: agent_record::State::Gone as i32,
            since_unix_ns: now.unix_ns,
            boot_id: String::new(),
            ..AgentRecord::default()
        };
        let position = self.persist(CommandKind::PutAgent(PutAgent { agent: Some(record) }));
        let message = format!("An operator marked agent '{id}' as gone");
        self.end_tasks(now, &agent, position, &message, |aware| {
            let state = lost_or(aware, TaskState::TaskGoneByOperator);
            let reason = if aware { Reason::AgentRemovedByOperator } else { Reason::AgentRemoved };
            (state, reason)
        });
        self.end_operations(&agent, Some((OperationState::OperationGoneByOperator, &message)));
        self.send_agent_lost(id, position);
        self.remember_gone(info, now.unix_ns);
        if let Some(link) = link {
            self.refuse_link_after(link, &barred(id), true, position);
        }
        Some(position)
    }

    /// The agent's machine went down for maintenance: its tasks are lost for everybody, as in Mesos.
    /// The agent ends them, and joins as a new one when its machine is up again.
    pub(crate) fn remove_downed(&mut self, now: Now, id: &AgentId) {
        let link = self.agents.get(id).and_then(|agent| agent.link);
        let Some(agent) = self.take_agent(now, id) else { return };
        self.statistics.removals += 1;
        self.statistics.removals_unregistered += 1;
        let position =
            self.persist(CommandKind::RemoveAgent(RemoveAgent { agent_id: id.to_string() }));
        let message = format!("The machine of agent '{id}' is down for maintenance");
        let lost = (TaskState::TaskLost, Reason::AgentRemoved);
        self.end_tasks(now, &agent, position, &message, |_| lost);
        self.send_agent_lost(id, position);
        self.view(ViewChange::AgentRemoved(id.clone()));
        if let Some(link) = link {
            self.refuse_link_after(link, &downed(id), true, position);
        }
    }

    /// From now on the id is refused.
    pub(crate) fn remember_gone(&mut self, info: v1::AgentInfo, since_unix_ns: i64) {
        let Some(id) = info.id.as_ref().map(AgentId::from) else { return };
        self.gone.insert(id.clone(), since_unix_ns);
        self.gone_by_age.insert((since_unix_ns, id));
        self.view(ViewChange::Agent {
            info,
            version: String::new(),
            state: AgentState::Gone,
            since_unix_ns,
            registered_unix_ns: since_unix_ns,
            total: Vec::new(),
            deactivated: false,
            drain: None,
        });
    }

    /// Takes the agent out of everything but its tasks' frameworks, whose business is the caller's.
    fn take_agent(&mut self, now: Now, id: &AgentId) -> Option<Agent> {
        self.unlink(now, id);
        self.cancel_removal(id);
        self.drop_executors_of_agent(id);
        let agent = self.agents.swap_remove(id)?;
        if let Some(due) = agent.reregister_due_ns {
            self.timers.cancel(due, Timer::Reregister(id.clone()));
        }
        if let Some(since) = agent.unreachable_since_unix_ns {
            self.unreachable.remove(&(since, id.clone()));
        }
        self.recovered.remove(id);
        self.allocator.remove_agent(id);
        self.forget_inverse_offers_of_agent(id);
        Some(*agent)
    }

    /// Tells the frameworks that the tasks of a removed agent ended, by whether they are
    /// PARTITION_AWARE, and takes the tasks out of the ledger. An ending that is known already stands.
    fn end_tasks(
        &mut self,
        now: Now,
        agent: &Agent,
        removed: Position,
        message: &str,
        ending: impl Fn(bool) -> (TaskState, Reason),
    ) {
        let mut words = Vec::new();
        for (framework_id, id) in &agent.tasks {
            let Some(framework) = self.frameworks.get_mut(framework_id) else { continue };
            let (state, reason) = ending(framework.partition_aware());
            let Some(task) = framework.tasks.get_mut(id) else { continue };
            // The allocator has dropped the agent's books as a whole.
            task.holds_resources = false;
            let word = task.last_word(now, state, reason, message);
            if !task.ending_told() {
                self.statistics.task_ended(framework_id, &word);
            }
            task.last_status = Some(Arc::new(word.clone()));
            self.set_task_state(now, framework_id, id, word.state());
            self.view_task(framework_id, id);
            words.push((framework_id, word));
        }
        let forgotten = self.forget_tasks(&agent.tasks);
        for (framework, word) in words {
            self.send_status(framework, word, removed.max(forgotten));
        }
    }

    /// Forgets an agent that was unreachable for too long, and its tasks, without a word: the
    /// frameworks were told when it became unreachable.
    pub(crate) fn forget_agent(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.take_agent(now, id) else { return };
        self.persist(CommandKind::RemoveAgent(RemoveAgent { agent_id: id.to_string() }));
        self.forget_tasks(&agent.tasks);
        self.end_operations(&agent, None);
        self.view(ViewChange::AgentRemoved(id.clone()));
    }
}

/// What an agent hears that is barred.
pub(crate) fn barred(id: &AgentId) -> String {
    format!(
        "agent '{id}' was marked gone by an operator and cannot come back: it ends its tasks and stops; \
         started again, the host joins as a new agent"
    )
}

/// What an agent hears whose machine is down.
pub(crate) fn downed(id: &AgentId) -> String {
    format!(
        "the machine of agent '{id}' is down for maintenance: the agent ends its tasks and stops;          started again once the machine is up (`mezzo maintenance stop`), the host joins as a new agent"
    )
}

/// What is kept of an agent that is gone: who it was.
fn remembered(info: &v1::AgentInfo) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: info.hostname.clone(),
        port: info.port,
        id: info.id.clone(),
        ..v1::AgentInfo::default()
    }
}
