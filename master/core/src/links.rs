//! Agents: registration, pings, silence and return; departure; and the start from the registry.

mod absence;
mod departure;
mod pruning;
mod recovery;
mod registration;
mod settlement;

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as FromAgent;
use mezzo_proto::internal::v1::{AgentToMaster, Ping, Refused, master_to_agent};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{AgentRecord, PutAgent, agent_record};
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_types::{AgentId, Now, Position};

pub(crate) use self::absence::{Removals, Ticket};
pub(crate) use self::departure::downed;
use crate::input::LinkId;
use crate::master::Master;
use crate::timers::Timer;

impl Master {
    /// A message of an agent; before its registration only `Register` is taken.
    pub(crate) fn agent_message(&mut self, now: Now, link: LinkId, message: AgentToMaster) {
        let agent = self.links.get(&link).cloned();
        if let Some(agent) = &agent {
            self.heard(now, agent);
        }
        if let Some(message) = &message.message {
            self.statistics.agent_message_received(message);
        }
        match (message.message, agent) {
            (Some(FromAgent::Register(register)), None) => self.register(now, link, *register),
            (Some(FromAgent::StatusUpdate(update)), Some(agent)) => {
                self.status_update(now, link, &agent, *update);
            }
            (Some(FromAgent::OperationUpdate(update)), Some(agent)) => {
                self.operation_update(now, &agent, *update);
            }
            (Some(FromAgent::Pong(_)), Some(_)) => {}
            (Some(FromAgent::Unregister(_)), Some(agent)) => self.unregister(now, &agent),
            // A newer agent's message we do not know: harmless, it must not need an answer.
            (None, Some(_)) => {}
            (Some(FromAgent::ExecutorMessage(message)), Some(agent)) => {
                self.message_of_executor(&agent, message);
            }
            (Some(FromAgent::ExecutorExited(exited)), Some(agent)) => {
                self.executor_exited(now, &agent, &exited);
            }
            (Some(FromAgent::Register(_)), Some(_))
            | (
                Some(
                    FromAgent::StatusUpdate(_)
                    | FromAgent::Pong(_)
                    | FromAgent::Unregister(_)
                    | FromAgent::OperationUpdate(_)
                    | FromAgent::ExecutorMessage(_)
                    | FromAgent::ExecutorExited(_),
                )
                | None,
                None,
            ) => self.refuse_link(link, "the first message on a link must be Register", false),
        }
    }

    /// Anything that arrives is a sign of life.
    fn heard(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.heard = true;
        agent.silent_intervals = 0;
        let may_be_offered = !agent.deactivated;
        if agent.removal.is_some() {
            self.cancel_removal(id);
            if may_be_offered {
                self.allocator.activate_agent(now, id);
            }
        }
    }

    pub(crate) fn refuse_link(&mut self, link: LinkId, message: &str, shutdown: bool) {
        self.refuse_link_after(link, message, shutdown, Position(0));
    }

    pub(crate) fn refuse_link_after(
        &mut self,
        link: LinkId,
        message: &str,
        shutdown: bool,
        after: Position,
    ) {
        let refused = Refused { message: message.to_owned(), shutdown };
        self.send_agent(link, master_to_agent::Message::Refused(refused), after);
        self.close_link(link);
    }

    /// Looks whether the agent was heard since the last ping, and sends the next one. An agent that
    /// was silent for too long is to be marked unreachable; it is pinged on until its turn comes, as
    /// it may answer yet.
    pub(crate) fn ping(&mut self, now: Now, link: LinkId) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        let interval = self.config.agent_ping_timeout;
        let limit = self.config.max_agent_ping_timeouts;
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if !std::mem::take(&mut agent.heard) {
            agent.silent_intervals = agent.silent_intervals.saturating_add(1);
        }
        let silent = agent.silent_intervals >= limit;
        agent.ping_due_ns = now.plus(interval);
        let due = agent.ping_due_ns;
        self.timers.set(due, Timer::Ping(link));
        self.send_agent(link, master_to_agent::Message::Ping(Ping {}), Position(0));
        if silent {
            self.schedule_removal(now, &id);
        }
    }

    /// The connection ended: no offers of this agent until it is back.
    pub(crate) fn link_closed(&mut self, now: Now, link: LinkId) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        self.unlink(now, &id);
        let timeout = self.config.agent_reregister_timeout;
        self.await_reregistration(now, &id, timeout);
    }

    fn await_reregistration(&mut self, now: Now, id: &AgentId, timeout: Duration) {
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
        agent.since_unix_ns = now.unix_ns;
        let due = agent.ping_due_ns;
        self.links.remove(&link);
        self.timers.cancel(due, Timer::Ping(link));
        self.allocator.deactivate_agent(id);
        self.rescind_offers_of_agent(now, id);
        self.rescind_inverse_offers_of_agent(id);
        self.view_agent(id);
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

    pub(crate) fn persist_agent(
        &mut self,
        now: Now,
        id: &AgentId,
        state: agent_record::State,
    ) -> Position {
        let Some(agent) = self.agents.get(id) else { return Position(0) };
        let drain = agent.drain;
        let record = AgentRecord {
            info: Some(agent.info.clone()),
            state: state as i32,
            since_unix_ns: now.unix_ns,
            boot_id: agent.boot_id.clone(),
            total_resources: agent.changed_total(),
            deactivated: agent.deactivated,
            drain_started_unix_ns: drain.as_ref().map_or(0, |(_, since)| *since),
            drain_info: drain.map(|(info, _)| info),
        };
        self.persist(CommandKind::PutAgent(PutAgent { agent: Some(record) }))
    }
}
