//! What must hold after every input, whatever came in.

use mezzo_types::Resources;

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
        self.check_throttle()?;
        self.allocator.check_invariants().map_err(|violation| Violation {
            name: "no-double-offer",
            detail: violation.to_string(),
        })
    }

    /// Per linked agent: offered + held by tasks ≤ total. Of one that has not spoken since this master
    /// took the lead only the ledger is known, which also has tasks that ended; nothing of it is offered.
    fn no_double_offer(&self) -> Result<(), Violation> {
        for agent in self.agents.values().filter(|agent| agent.link.is_some()) {
            let mut used = Resources::default();
            for offer in &agent.offers {
                if let Some(offer) = self.offers.get(offer) {
                    used += &offer.resources.unallocated();
                }
            }
            for (framework, task) in &agent.tasks {
                let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(task));
                if let Some(task) = task.filter(|task| task.holds_resources) {
                    used += &task.resources.unallocated();
                }
            }
            if !agent.total.contains(&used) {
                return Err(Violation {
                    name: "no-double-offer",
                    detail: format!("agent '{}' has {} but {} is out", agent.id, agent.total, used),
                });
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
            if !self.agents.get(id).is_some_and(away) {
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
