//! Frameworks that come, change and go.

use std::collections::HashMap;
use std::sync::Arc;

use mezzo_types::{AgentId, FrameworkId, TaskId};

use super::{FrameworkIndex, State, with_load};
use crate::view::event::Happening;
use crate::view::framework::{FrameworkEntry, FrameworkFacts};
use crate::view::pages::Pages;
use crate::view::role::Way;
use crate::view::small::OfferEntry;
use crate::view::sum::Sum;

impl State {
    pub(super) fn put_framework(&mut self, facts: FrameworkFacts) {
        let Some(id) = facts.info.id.as_ref().map(FrameworkId::from) else { return };
        let facts = Arc::new(facts);
        let Some(entry) = self.framework_mut(&id) else {
            self.roles.subscribed(&facts.info, Way::Add);
            let entry = FrameworkEntry::new((*facts).clone());
            let at = self.frameworks.push(Arc::new(entry));
            let index = FrameworkIndex { at, tasks: HashMap::new(), executors: HashMap::new() };
            self.framework_index.insert(id, index);
            return self.tell(Happening::FrameworkAdded(facts));
        };
        if entry.facts == facts {
            return;
        }
        let before = std::mem::replace(&mut entry.facts, Arc::clone(&facts));
        self.roles.subscribed(&before.info, Way::Subtract);
        self.roles.subscribed(&facts.info, Way::Add);
        self.tell(Happening::FrameworkUpdated(facts));
    }

    pub(super) fn complete_framework(&mut self, id: &FrameworkId, unix_ns: i64) {
        let Some(index) = self.framework_index.get(id) else { return };
        let mut tasks: Vec<TaskId> = index.tasks.keys().cloned().collect();
        // In the order of their ids, so that what is remembered does not depend on chance.
        tasks.sort();
        let executors: Vec<_> = index.executors.keys().cloned().collect();
        for task in tasks {
            self.complete_task(id, &task);
        }
        for (agent, executor) in executors {
            self.remove_executor(id, agent, executor);
        }
        let Some(index) = self.framework_index.remove(id) else { return };
        let Some(mut entry) = self.frameworks.swap_remove(index.at) else { return };
        if let Some(moved) = self.frameworks.get(index.at)
            && let Some(of_moved) = self.framework_index.get_mut(moved.id())
        {
            of_moved.at = index.at;
        }
        let completed = Arc::make_mut(&mut entry);
        for offer in completed.offers.iter() {
            let OfferEntry(offer) = &**offer;
            self.offers.remove(&offer.id);
            self.roles.offered(&offer.resources, Way::Subtract);
            with_load(
                &mut self.agents,
                &self.agent_index,
                &mut self.strangers,
                &offer.agent,
                |load| load.offered.subtract(&offer.resources),
            );
        }
        for offer in completed.inverse_offers.iter() {
            self.inverse_offers.remove(&offer.id.value);
        }
        // The summaries of agents tell of frameworks that are there.
        for task in completed.completed.iter() {
            with_load(
                &mut self.agents,
                &self.agent_index,
                &mut self.strangers,
                &AgentId::from(task.agent_id()),
                |load| load.hide(id, task.state()),
            );
        }
        completed.offers = Pages::default();
        completed.inverse_offers = Pages::default();
        completed.offered = Sum::default();
        let facts = Arc::new(FrameworkFacts {
            connected: false,
            active: false,
            recovered: false,
            unregistered_unix_ns: Some(unix_ns),
            ..(*completed.facts).clone()
        });
        completed.facts = Arc::clone(&facts);
        self.roles.subscribed(&facts.info, Way::Subtract);
        self.completed.push_back(entry);
        while self.completed.len() > self.memory.completed_frameworks {
            self.completed.pop_front();
        }
        self.tell(Happening::FrameworkRemoved(facts));
    }
}
