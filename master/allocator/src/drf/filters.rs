//! What was refused, by whom, and until when.
//!
//! A filter of a client on an agent blocks offers of what it refused, or less; more than that (a
//! task ended meanwhile) is offered in spite of it.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_types::Resources;

use super::agents::AgentNo;
use super::roles::NodeId;

/// Filters of one client on one agent. A framework that refuses ever new combinations costs no
/// more than this; the one that would expire first makes room.
const PER_PAIR: usize = 8;

struct Filter {
    refused: Resources,
    /// Monotonic nanoseconds; at this time it no longer blocks.
    until: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Filters {
    of: BTreeMap<(NodeId, AgentNo), Vec<Filter>>,
    by_agent: BTreeSet<(AgentNo, NodeId)>,
    /// Every filter's end.
    ends: BTreeSet<(u64, NodeId, AgentNo)>,
}

impl Filters {
    pub(super) fn refuse(
        &mut self,
        client: NodeId,
        agent: AgentNo,
        refused: Resources,
        until: u64,
    ) {
        let filters = self.of.entry((client, agent)).or_default();
        if filters.iter().any(|f| f.until >= until && f.refused.contains(&refused)) {
            return;
        }
        for filter in filters.iter() {
            self.ends.remove(&(filter.until, client, agent));
        }
        filters.retain(|f| !(f.until <= until && refused.contains(&f.refused)));
        if filters.len() >= PER_PAIR
            && let Some(first) = (0..filters.len()).min_by_key(|at| filters[*at].until)
        {
            filters.swap_remove(first);
        }
        filters.push(Filter { refused, until });
        self.by_agent.insert((agent, client));
        self.ends.extend(filters.iter().map(|f| (f.until, client, agent)));
    }

    pub(super) fn blocks(&self, client: NodeId, agent: AgentNo, offer: &Resources) -> bool {
        let filters = self.of.get(&(client, agent));
        filters.is_some_and(|of| of.iter().any(|f| f.refused.contains(offer)))
    }

    /// Drops what has expired; the agents on which something did.
    pub(super) fn expire(&mut self, now_ns: u64) -> BTreeSet<AgentNo> {
        let mut agents = BTreeSet::new();
        while let Some(&(until, client, agent)) = self.ends.first() {
            if until > now_ns {
                break;
            }
            self.ends.pop_first();
            let Some(filters) = self.of.get_mut(&(client, agent)) else { continue };
            let before = filters.len();
            filters.retain(|f| f.until > now_ns);
            if filters.len() < before {
                agents.insert(agent);
            }
            if filters.is_empty() {
                self.of.remove(&(client, agent));
                self.by_agent.remove(&(agent, client));
            }
        }
        agents
    }

    pub(super) fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(until, _, _)| *until)
    }

    /// Forgets a client's filters; the agents that they were about.
    pub(super) fn forget_client(&mut self, client: NodeId) -> BTreeSet<AgentNo> {
        let range = (client, AgentNo::FIRST)..=(client, AgentNo::LAST);
        let agents = BTreeSet::from_iter(self.of.range(range).map(|((_, agent), _)| *agent));
        for agent in &agents {
            self.forget(client, *agent);
        }
        agents
    }

    pub(super) fn forget_agent(&mut self, agent: AgentNo) {
        let range = (agent, NodeId::FIRST)..=(agent, NodeId::LAST);
        let clients = Vec::from_iter(self.by_agent.range(range).map(|(_, client)| *client));
        for client in clients {
            self.forget(client, agent);
        }
    }

    fn forget(&mut self, client: NodeId, agent: AgentNo) {
        self.by_agent.remove(&(agent, client));
        for filter in self.of.remove(&(client, agent)).unwrap_or_default() {
            self.ends.remove(&(filter.until, client, agent));
        }
    }
}
