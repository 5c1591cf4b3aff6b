//! What must hold after every input, whatever came in.

use mezzo_types::{Resources, Uuid16};

use crate::agent::Agent;
use crate::master::Master;

/// A broken invariant: its name in the design, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant `{name}` is broken: {detail}")]
pub struct Violation {
    pub name: &'static str,
    pub detail: String,
}

impl Master {
    /// Checks everything against everything. Slow: for tests, simulation and sampled checks.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        self.no_double_offer()?;
        self.no_dangling()?;
        self.executors_are_known()?;
        self.operations_add_up()?;
        self.check_throttle()?;
        self.allocator.check_invariants().map_err(|violation| Violation {
            name: "no-double-offer",
            detail: violation.to_string(),
        })
    }

    /// Per linked agent: offered + held by tasks and executors ≤ total. Of one that has not spoken since this master
    /// took the lead only the ledger is known, which also has tasks that ended; nothing of it is offered.
    ///
    /// A shared volume may be used by any number of tasks, but is in one offer at most. While an
    /// operation that failed may have users, only the quantities must be there.
    fn no_double_offer(&self) -> Result<(), Violation> {
        for agent in self.agents.values().filter(|agent| agent.link.is_some()) {
            let mut used = Resources::default();
            let mut shared = Resources::default();
            for offer in &agent.offers {
                if let Some(offer) = self.offers.get(offer) {
                    used += &offer.resources.non_shared().unallocated();
                    shared += &offer.resources.shared().unallocated();
                }
            }
            for (framework, task) in &agent.tasks {
                let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(task));
                if let Some(task) = task.filter(|task| task.holds_resources) {
                    used += &task.resources.non_shared().unallocated();
                }
            }
            for executor in agent.executors.values() {
                used += &executor.resources.unallocated();
            }
            let enough = if agent.doubtful {
                agent.total.quantities().contains(&used.quantities())
            } else {
                agent.total.contains(&used) && agent.total.contains(&shared)
            };
            if !enough {
                return Err(Violation {
                    name: "no-double-offer",
                    detail: format!("agent '{}' has {} but {} is out", agent.id, agent.total, used),
                });
            }
        }
        Ok(())
    }

    /// An operation is on exactly one agent's list, in order; what agents have for certain, and with
    /// the operations in flight, is as much as was configured.
    fn operations_add_up(&self) -> Result<(), Violation> {
        let broken = |detail: String| Err(Violation { name: "no-operation-lost", detail });
        for (uuid, operation) in &self.operations {
            let agent = self.agents.get(&operation.agent);
            if agent.and_then(|a| a.operations.get(&operation.order)) != Some(uuid) {
                return broken(format!("agent '{}' lacks operation {uuid}", operation.agent));
            }
            let framework = operation.framework.as_ref().and_then(|id| self.frameworks.get(id));
            if let (Some(framework), Some(id)) = (framework, operation.id())
                && framework.operations.get(id) != Some(uuid)
            {
                return broken(format!("framework '{}' lacks operation '{id}'", framework.id));
            }
            if operation.unacknowledged.is_some() && !operation.ended() {
                return broken(format!("operation {uuid} is in flight and was reported"));
            }
        }
        for framework in self.frameworks.values() {
            let lost = |uuid: &&Uuid16| !self.operations.contains_key(*uuid);
            if let Some(uuid) = framework.operations.values().find(lost) {
                return broken(format!("framework '{}' lists unknown {uuid}", framework.id));
            }
        }
        for agent in self.agents.values() {
            let lost = |uuid: &&Uuid16| !self.operations.contains_key(*uuid);
            if let Some(uuid) = agent.operations.values().find(lost) {
                return broken(format!("agent '{}' lists unknown {uuid}", agent.id));
            }
            if agent.total.quantities() != agent.confirmed.quantities() {
                return broken(format!(
                    "agent '{}' has {} for certain but is believed to have {}",
                    agent.id, agent.confirmed, agent.total
                ));
            }
        }
        Ok(())
    }

    /// Every reference has its other end; a task is on exactly one agent's list.
    fn no_dangling(&self) -> Result<(), Violation> {
        let broken = |detail: String| Err(Violation { name: "no-task-lost", detail });
        for framework in self.frameworks.values() {
            for task in framework.tasks.values() {
                let key = (framework.id.clone(), task.id.clone());
                if !self.agents.get(&task.agent).is_some_and(|agent| agent.tasks.contains(&key)) {
                    return broken(format!("agent '{}' lacks task '{}'", task.agent, task.id));
                }
            }
            for offer in &framework.offers {
                if self.offers.get(offer).is_none_or(|o| o.framework != framework.id) {
                    return broken(format!("framework '{}' has no offer '{offer}'", framework.id));
                }
            }
            if framework.stream.is_none() && !framework.offers.is_empty() {
                return broken(format!("framework '{}' is away and has offers", framework.id));
            }
        }
        for agent in self.agents.values() {
            for (framework, task) in &agent.tasks {
                if !self.frameworks.get(framework).is_some_and(|f| f.tasks.contains_key(task)) {
                    return broken(format!("agent '{}' lists unknown task '{task}'", agent.id));
                }
            }
            if agent.link.is_none() && !agent.offers.is_empty() {
                return broken(format!("agent '{}' is away and offered", agent.id));
            }
            if agent.deactivated && !agent.offers.is_empty() {
                return broken(format!("agent '{}' is deactivated and offered", agent.id));
            }
            if agent.drain.is_some() && !agent.deactivated {
                return broken(format!("agent '{}' is drained and in service", agent.id));
            }
        }
        for (since, id) in &self.unreachable {
            let agent = self.agents.get(id);
            if agent.is_none_or(|a| a.unreachable_since_unix_ns != Some(*since) || a.link.is_some())
            {
                return broken(format!("agent '{id}' is on the unreachable list and is not"));
            }
        }
        for id in &self.recovered {
            let away = |a: &Agent| a.link.is_none() && a.unreachable_since_unix_ns.is_none();
            if !self.agents.get(id).is_some_and(|agent| away(agent)) {
                return broken(format!("agent '{id}' is still awaited and should not be"));
            }
        }
        let unreachable = self.agents.values().filter(|a| a.unreachable_since_unix_ns.is_some());
        if unreachable.count() != self.unreachable.len() {
            return broken("an unreachable agent is not on the list".to_owned());
        }
        let places = self.agents.values().filter_map(|agent| Some((agent.removal?, &agent.id)));
        let places = places.filter(|(ticket, id)| self.removals.holds(*ticket, id)).count();
        let wanted = self.agents.values().filter(|agent| agent.removal.is_some()).count();
        if places != wanted || places != self.removals.len() {
            return broken("the queue of removals and the agents in it disagree".to_owned());
        }
        if let Some(id) = self.gone.keys().find(|id| self.agents.contains_key(*id)) {
            return broken(format!("agent '{id}' is gone and known"));
        }
        if self.gone.len() != self.gone_by_age.len() {
            return broken("the lists of gone agents disagree".to_owned());
        }
        if let Some(detail) = self.inverse_offers.contradiction() {
            return broken(detail);
        }
        for (stream, framework) in &self.streams {
            if self.frameworks.get(framework).and_then(|f| f.stream) != Some(*stream) {
                return broken(format!("stream {} is bound to nobody", stream.0));
            }
        }
        for (link, agent) in &self.links {
            if self.agents.get(agent).and_then(|a| a.link) != Some(*link) {
                return broken(format!("link {} is bound to nobody", link.0));
            }
        }
        Ok(())
    }
}
