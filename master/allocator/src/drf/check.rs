//! The books against each other.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_types::Resources;

use super::share::Tally;
use super::{Agent, DrfAllocator};
use crate::Violation;

impl DrfAllocator {
    pub(super) fn check(&self) -> Result<(), Violation> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let mut total = Tally::default();
        let mut held = BTreeMap::<_, (Tally, u64)>::new();
        for agent in self.agents.values() {
            check_agent(agent)?;
            total.add(&agent.total().quantities());
            for (client, resources) in agent.held() {
                let (sum, agents) = held.entry(*client).or_default();
                sum.add(&resources.quantities());
                *agents += 1;
            }
        }
        require(*self.tree.total() == total, "total-is-the-sum", || {
            format!("the agents have {total:?}, the tree counts {:?}", self.tree.total())
        })?;
        for client in self.tree.clients() {
            let (sum, agents) = held.remove(&client).unwrap_or_default();
            let who = self.tree.who(client);
            require(self.tree.held(client) == Some(&sum), "held-is-the-sum", || {
                format!("{who:?} holds {sum:?}, the tree counts {:?}", self.tree.held(client))
            })?;
            require(self.spread.get(&client).copied().unwrap_or(0) == agents, "spread", || {
                format!("{who:?} is on {agents} agents, {:?} counted", self.spread.get(&client))
            })?;
        }
        require(held.is_empty(), "holders-are-known", || format!("no client for {held:?}"))?;
        let is_candidate = |(number, agent)| self.is_candidate(agent).then_some(number);
        let candidates = BTreeSet::from_iter(self.agents.iter().filter_map(is_candidate));
        require(self.candidates.iter().eq(candidates.iter().copied()), "candidates", || {
            format!("should be {candidates:?}, are {:?}", self.candidates)
        })?;
        require(self.marked.is_subset(&self.candidates), "marked-are-candidates", || {
            format!("{:?} of {:?}", self.marked, self.candidates)
        })?;
        require(self.marked.is_empty() == self.due.is_none(), "marked-have-a-due-time", || {
            format!("{:?} due at {:?}", self.marked, self.due)
        })?;
        self.tree.check()
    }
}

/// `no-double-offer`: what is left and what is held never exceed what there is.
fn check_agent(agent: &Agent) -> Result<(), Violation> {
    let mut used = Resources::default();
    for resources in agent.held().values() {
        used += resources;
    }
    require(used == *agent.used(), "used-is-the-sum", || {
        format!("agent {}: {used} held, {} counted", agent.id, agent.used())
    })?;
    let (total, left) = (agent.total().non_shared(), agent.left().non_shared());
    let alone = used.non_shared();
    // More may be in use than there is, when the agent shrank; then nothing of it is left.
    let sound = if total.contains(&alone) {
        left.clone() + alone.clone() == total
    } else {
        total.contains(&left)
    };
    require(sound, "no-double-offer", || {
        format!("agent {}: {} left and {used} used of {}", agent.id, agent.left(), agent.total())
    })?;
    // A shared volume may have any number of users, but is in one offer at a time.
    let offerable = agent.left().shared() + agent.lent().clone();
    require(agent.total().shared().contains(&offerable), "no-double-offer", || {
        format!("agent {}: {offerable} is offered or may be, of {}", agent.id, agent.total())
    })
}

pub(super) fn require(
    holds: bool,
    name: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { name, detail: detail() }) }
}
