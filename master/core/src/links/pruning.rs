//! The lists of unreachable and gone agents are pruned by age and by number, as Mesos prunes its
//! registry.

use std::collections::BTreeSet;
use std::time::Duration;

use mezzo_proto::storage::v1::RemoveAgent;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_types::{AgentId, Now};

use crate::effect::ViewChange;
use crate::master::Master;
use crate::timers::Timer;

/// Agents that one pass drops of each list, so that it neither holds the loop up nor makes a huge entry
/// in the log; the next pass follows at once when there are more.
const PASS_MAX: usize = 1000;

/// Between two passes of one pruning.
const NEXT_PASS: Duration = Duration::from_millis(100);

impl Master {
    pub(crate) fn await_pruning(&mut self, now: Now) {
        let due = now.plus(self.config.registry_gc_interval);
        self.timers.set(due, Timer::RegistryGc);
    }

    /// Drops what is too old or too much.
    pub(crate) fn prune_registry(&mut self, now: Now) {
        let unreachable = self.expired(now, &self.unreachable);
        let gone = self.expired(now, &self.gone_by_age);
        let more = unreachable.len() == PASS_MAX || gone.len() == PASS_MAX;
        for (_, id) in unreachable {
            self.forget_agent(now, &id);
        }
        for entry in gone {
            let id = entry.1.clone();
            self.gone_by_age.remove(&entry);
            self.gone.remove(&id);
            self.persist(CommandKind::RemoveAgent(RemoveAgent { agent_id: id.to_string() }));
            self.view(ViewChange::AgentRemoved(id));
        }
        if more {
            self.timers.set(now.plus(NEXT_PASS), Timer::RegistryGc);
        } else {
            self.await_pruning(now);
        }
    }

    fn expired(&self, now: Now, list: &BTreeSet<(i64, AgentId)>) -> Vec<(i64, AgentId)> {
        let age = i64::try_from(self.config.registry_max_agent_age.as_nanos()).unwrap_or(i64::MAX);
        let oldest = now.unix_ns.saturating_sub(age);
        let surplus = list.len().saturating_sub(self.config.registry_max_agent_count);
        list.iter()
            .enumerate()
            .take(PASS_MAX)
            .take_while(|(index, (since, _))| *index < surplus || *since < oldest)
            .map(|(_, entry)| entry.clone())
            .collect()
    }
}
