//! Agents: registration, pings, silence and return; and the start from the registry.

mod recovery;
mod registration;

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as FromAgent;
use mezzo_proto::internal::v1::{AgentToMaster, Ping, Refused, master_to_agent};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{AgentRecord, PutAgent, RemoveAgent, agent_record};
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, FrameworkId, Now, Position, TaskId};

use crate::effect::ViewChange;
use crate::input::LinkId;
use crate::master::Master;
use crate::status::{from_master, lost_or, time_info};
use crate::timers::Timer;

impl Master {
    /// A message of an agent; before its registration only `Register` is taken.
    pub(crate) fn agent_message(&mut self, now: Now, link: LinkId, message: AgentToMaster) {
        let agent = self.links.get(&link).cloned();
        match (message.message, agent) {
            (Some(FromAgent::Register(register)), None) => self.register(now, link, register),
            (Some(FromAgent::StatusUpdate(update)), Some(agent)) => {
                self.status_update(now, link, &agent, update);
            }
            (Some(FromAgent::Pong(_)), Some(agent)) => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.pings_unanswered = 0;
                }
            }
            (Some(FromAgent::Unregister(_)), Some(agent)) => self.unregister(now, &agent),
            // A newer agent's message we do not know: harmless, it must not need an answer.
            (None, Some(_)) => {}
            (Some(FromAgent::Register(_)), Some(_))
            | (
                Some(FromAgent::StatusUpdate(_) | FromAgent::Pong(_) | FromAgent::Unregister(_))
                | None,
                None,
            ) => self.refuse_link(link, "the first message on a link must be Register", false),
        }
    }

    pub(crate) fn refuse_link(&mut self, link: LinkId, message: &str, shutdown: bool) {
        let refused = Refused { message: message.to_owned(), shutdown };
        self.send_agent(link, master_to_agent::Message::Refused(refused), Position(0));
        self.close_link(link);
    }

    pub(crate) fn ping(&mut self, now: Now, link: LinkId) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        let interval = self.config.agent_ping_timeout;
        let limit = self.config.max_agent_ping_timeouts;
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if agent.pings_unanswered >= limit {
            self.unlink(now, &id);
            self.close_link(link);
            self.mark_unreachable(now, &id);
            return;
        }
        agent.pings_unanswered += 1;
        agent.ping_due_ns = now.plus(interval);
        let due = agent.ping_due_ns;
        self.timers.set(due, Timer::Ping(link));
        self.send_agent(link, master_to_agent::Message::Ping(Ping {}), Position(0));
    }

    /// The connection ended: no offers of this agent until it is back.
    pub(crate) fn link_closed(&mut self, now: Now, link: LinkId) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        self.unlink(now, &id);
        let timeout = self.config.agent_reregister_timeout;
        self.await_reregistration(now, &id, timeout);
    }

    pub(crate) fn await_reregistration(&mut self, now: Now, id: &AgentId, timeout: Duration) {
        let due = now.plus(timeout);
        if let Some(agent) = self.agents.get_mut(id) {
            agent.reregister_due_ns = Some(due);
            self.timers.set(due, Timer::Reregister(id.clone()));
        }
    }

    /// Unbinds the link and takes every offer of the agent back.
    pub(crate) fn unlink(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let Some(link) = agent.link.take() else { return };
        let due = agent.ping_due_ns;
        self.links.remove(&link);
        self.timers.cancel(due, Timer::Ping(link));
        self.allocator.deactivate_agent(id);
        self.rescind_offers_of_agent(now, id);
        self.view_agent(id);
    }

    pub(crate) fn reregister_timeout(&mut self, now: Now, id: &AgentId) {
        let due = self.agents.get(id).and_then(|a| a.reregister_due_ns);
        if due.is_some_and(|due| due <= now.mono_ns) {
            self.mark_unreachable(now, id);
        }
    }

    /// The agent is given up until it returns; its tasks may still run.
    fn mark_unreachable(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.reregister_due_ns = None;
        agent.unreachable_since_unix_ns = Some(now.unix_ns);
        let tasks: Vec<(FrameworkId, TaskId)> = agent.tasks.iter().cloned().collect();
        self.statistics.agents_unreachable += 1;
        let position = self.persist_agent(now, id, agent_record::State::Unreachable);
        for (framework, task) in tasks {
            self.task_unreachable(now, &framework, &task, position);
        }
        self.allocator.remove_agent(id);
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
        if mezzo_types::is_terminal(task.state) {
            return;
        }
        task.unreachable_since_unix_ns = Some(now.unix_ns);
        let state = lost_or(aware, TaskState::TaskUnreachable);
        let mut status = from_master(
            now,
            id,
            Some(&task.agent),
            state,
            Some(Reason::AgentRemoved),
            format!("Agent '{}' is unreachable", task.agent),
        );
        status.unreachable_time = aware.then(|| time_info(now.unix_ns));
        self.send_status(framework_id, status, after);
    }

    /// FAILURE to every connected framework, as Mesos tells of a lost agent.
    fn send_agent_lost(&mut self, id: &AgentId, after: Position) {
        let streams: Vec<_> = self.frameworks.values().filter_map(|f| f.stream).collect();
        for stream in streams {
            let event = Event {
                r#type: Some(event::Type::Failure as i32),
                failure: Some(event::Failure {
                    agent_id: Some(id.into()),
                    ..event::Failure::default()
                }),
                ..Event::default()
            };
            self.send_event(stream, event, after);
        }
    }

    /// The agent leaves for good: its tasks are lost for everybody (Mesos: even for
    /// PARTITION_AWARE frameworks).
    fn unregister(&mut self, now: Now, id: &AgentId) {
        let link = self.agents.get(id).and_then(|a| a.link);
        self.unlink(now, id);
        let Some(agent) = self.agents.remove(id) else { return };
        let position =
            self.persist(CommandKind::RemoveAgent(RemoveAgent { agent_id: id.to_string() }));
        for (framework, task) in agent.tasks {
            let status = from_master(
                now,
                &task,
                Some(id),
                TaskState::TaskLost,
                Some(Reason::AgentRemoved),
                format!("Agent '{id}' left the cluster"),
            );
            if let Some(task) =
                self.frameworks.get_mut(&framework).and_then(|f| f.tasks.get_mut(&task))
            {
                task.holds_resources = false;
            }
            self.set_task_state(now, &framework, &task, TaskState::TaskLost);
            self.view_task(&framework, &task);
            let after = self.forget_task(&framework, &task).max(position);
            self.send_status(&framework, status, after);
        }
        self.allocator.remove_agent(id);
        self.send_agent_lost(id, position);
        self.view(ViewChange::AgentRemoved(id.clone()));
        if let Some(link) = link {
            self.close_link(link);
        }
    }

    pub(crate) fn persist_agent(
        &mut self,
        now: Now,
        id: &AgentId,
        state: agent_record::State,
    ) -> Position {
        let Some(agent) = self.agents.get(id) else { return Position(0) };
        let record = AgentRecord {
            info: Some(agent.info.clone()),
            state: state as i32,
            since_unix_ns: now.unix_ns,
            boot_id: agent.boot_id.clone(),
        };
        self.persist(CommandKind::PutAgent(PutAgent { agent: Some(record) }))
    }
}
