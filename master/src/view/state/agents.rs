//! Agents, wherever they stand.

use std::sync::Arc;

use mezzo_types::AgentId;

use super::{Shelf, State, with_load};
use crate::view::agent::{AgentEntry, AgentFacts, Load};
use crate::view::event::Happening;
use crate::view::role::Way;

impl State {
    pub(super) fn put_agent(&mut self, facts: AgentFacts) {
        let Some(id) = facts.info.id.as_ref().map(AgentId::from) else { return };
        let (before, load) = match self.take_agent(&id) {
            Some(entry) => (Some(entry.facts.state), entry.load.clone()),
            None => (None, self.strangers.remove(&id).unwrap_or_default()),
        };
        let shelf = Shelf::from(facts.state);
        if shelf == Shelf::Registered {
            self.roles.reserved(&facts.total, Way::Add);
        }
        let entry = Arc::new(AgentEntry { facts: Arc::new(facts), load });
        let at = self.agents.on(shelf).push(Arc::clone(&entry));
        self.agent_index.insert(id.clone(), (shelf, at));
        let was_registered = before.map(Shelf::from) == Some(Shelf::Registered);
        match (was_registered, shelf == Shelf::Registered) {
            (false, true) => self.tell(Happening::AgentAdded(entry)),
            (true, false) => self.tell(Happening::AgentRemoved(id)),
            _ => {}
        }
    }

    fn take_agent(&mut self, id: &AgentId) -> Option<Arc<AgentEntry>> {
        let (shelf, at) = self.agent_index.remove(id)?;
        let pages = self.agents.on(shelf);
        let entry = pages.swap_remove(at)?;
        let moved = pages.get(at).and_then(|moved| moved.facts.info.id.as_ref());
        if let Some((_, of_moved)) =
            moved.and_then(|id| self.agent_index.get_mut(id.value.as_str()))
        {
            *of_moved = at;
        }
        if shelf == Shelf::Registered {
            self.roles.reserved(&entry.facts.total, Way::Subtract);
        }
        Some(entry)
    }

    pub(super) fn remove_agent(&mut self, id: &AgentId) {
        let Some(entry) = self.take_agent(id) else { return };
        if !entry.load.is_empty() {
            self.strangers.insert(id.clone(), entry.load.clone());
        }
        if Shelf::from(entry.facts.state) == Shelf::Registered {
            self.tell(Happening::AgentRemoved(id.clone()));
        }
    }

    pub(super) fn load(&mut self, agent: &AgentId, change: impl FnOnce(&mut Load)) {
        with_load(&mut self.agents, &self.agent_index, &mut self.strangers, agent, change);
    }
}
