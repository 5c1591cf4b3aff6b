//! Agents that are taken out of service by an operator's order, and brought back.
//!
//! ```text
//!            DRAIN_AGENT               nothing left         mark_gone
//! in service ───────────▶ DRAINING ───────────────▶ DRAINED ─────────▶ gone
//!     ▲  │ DEACTIVATE_AGENT                            │
//!     │  ▼                                             │
//!     └─ deactivated ◀───────────── REACTIVATE_AGENT ──┘
//! ```
//!
//! The agent ends its tasks itself; it hears of the drain when it is ordered, and after every
//! registration as long as it lasts: one that hears nothing then is not drained any more.

use mezzo_proto::internal::v1::{Drain, master_to_agent};
use mezzo_proto::storage::v1::agent_record;
use mezzo_proto::v1;
use mezzo_proto::v1::DrainState;
use mezzo_types::{AgentId, Now, Position};

use crate::agent::Agent;
use crate::effect::Refusal;
use crate::input::LinkId;
use crate::master::Master;
use crate::order::Outcome;

impl Agent {
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.as_ref().is_some_and(|(info, _)| info.state() == DrainState::Draining)
    }
}

impl Master {
    /// DRAIN_AGENT, also of an agent that is away: it hears of it when it is back. Ordered again, the
    /// new order counts.
    pub(crate) fn drain_agent(
        &mut self,
        now: Now,
        id: &AgentId,
        config: v1::DrainConfig,
    ) -> Outcome {
        let Some(agent) = self.agents.get(id) else { return Err(unknown(id)) };
        if let Some(grace) = config.max_grace_period.filter(|grace| grace.nanoseconds < 0) {
            return Err(Refusal::BadRequest(format!(
                "drain_agent.max_grace_period is {} ns: it must not be negative",
                grace.nanoseconds
            )));
        }
        if agent.link.is_some() && self.maintenance.machine_of(agent).is_some() {
            return Err(Refusal::BadRequest(format!(
                "agent '{id}' is on a machine of the maintenance schedule: take the machine from the \
                 schedule to drain the agent alone"
            )));
        }
        let info = v1::DrainInfo { state: DrainState::Draining as i32, config };
        let position = self.decide(now, id, true, Some((info, now.unix_ns)));
        self.drained_maybe.insert(id.clone());
        if let Some(link) = self.agents.get(id).and_then(|agent| agent.link) {
            let message = Drain { config: Some(config), ended: false };
            self.send_agent(link, master_to_agent::Message::Drain(message), position);
        }
        Ok(position)
    }

    /// DEACTIVATE_AGENT: a drain under way goes on.
    pub(crate) fn deactivate_by_order(&mut self, now: Now, id: &AgentId) -> Outcome {
        let Some(agent) = self.agents.get(id) else { return Err(unknown(id)) };
        let drain = agent.drain;
        Ok(self.decide(now, id, true, drain))
    }

    /// REACTIVATE_AGENT: not while it is being drained.
    pub(crate) fn reactivate_agent(&mut self, now: Now, id: &AgentId) -> Outcome {
        let Some(agent) = self.agents.get(id) else { return Err(unknown(id)) };
        if !agent.deactivated {
            return Err(Refusal::BadRequest(format!(
                "agent '{id}' is not deactivated: there is nothing to bring back"
            )));
        }
        if agent.is_draining() {
            return Err(Refusal::BadRequest(format!(
                "agent '{id}' is still in the DRAINING state: wait until it is DRAINED; `mezzo agents` \
                 shows it"
            )));
        }
        let was_drained = agent.drain.is_some();
        let position = self.decide(now, id, false, None);
        let Some(agent) = self.agents.get(id) else { return Ok(position) };
        let (link, to_be_removed) = (agent.link, agent.removal.is_some());
        if let Some(link) = link {
            if was_drained {
                let message = Drain { config: None, ended: true };
                self.send_agent(link, master_to_agent::Message::Drain(message), position);
            }
            if !to_be_removed {
                self.allocator.activate_agent(now, id);
            }
        }
        Ok(position)
    }

    /// Commits what is decided of an agent; one that is out of service is offered to nobody.
    fn decide(
        &mut self,
        now: Now,
        id: &AgentId,
        deactivated: bool,
        drain: Option<(v1::DrainInfo, i64)>,
    ) -> Position {
        let Some(agent) = self.agents.get_mut(id) else { return Position(0) };
        agent.deactivated = deactivated;
        agent.drain = drain;
        let (state, since_unix_ns) = match agent.unreachable_since_unix_ns {
            Some(since) => (agent_record::State::Unreachable, since),
            None => (agent_record::State::Admitted, agent.registered_unix_ns),
        };
        let position = self.persist_agent(Now { unix_ns: since_unix_ns, ..now }, id, state);
        if let Some(agent) = self.agents.get_mut(id) {
            // What is offered or promised of it later rests on this, too.
            agent.admitted = agent.admitted.max(position);
        }
        if deactivated {
            self.allocator.deactivate_agent(id);
            self.rescind_offers_of_agent(now, id);
        }
        self.view_agent(id);
        position
    }

    /// An agent that registers hears of its drain, done or not: what it was told may be lost with its
    /// records, and launches may have been on the way.
    pub(crate) fn repeat_drain(&mut self, link: LinkId, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        let Some((info, _)) = &agent.drain else { return };
        let message = Drain { config: Some(info.config), ended: false };
        // Behind `Registered`, which waits for all that the agent rests on.
        self.send_agent(link, master_to_agent::Message::Drain(message), Position(0));
        self.drained_maybe.insert(id.clone());
    }

    /// Draining agents of which nothing is left are drained; those that were to go are gone then.
    pub(crate) fn settle_drains(&mut self, now: Now) {
        while let Some(id) = self.drained_maybe.pop_first() {
            let Some(agent) = self.agents.get(&id) else { continue };
            // Of one that is away its ledger may hold what ended, or lack what it tells of.
            if !agent.is_draining() || agent.link.is_none() || !agent.is_idle() {
                continue;
            }
            let Some((mut info, since)) = agent.drain else { continue };
            if info.config.mark_gone() {
                self.make_gone(now, &id);
                continue;
            }
            info.state = DrainState::Drained as i32;
            self.decide(now, &id, true, Some((info, since)));
        }
    }
}

impl Agent {
    /// No task is on it whose end has not been acknowledged, and no operation.
    fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.operations.is_empty()
    }
}

fn unknown(id: &AgentId) -> Refusal {
    Refusal::BadRequest(format!("Unknown agent '{id}': `mezzo agents` lists them"))
}
