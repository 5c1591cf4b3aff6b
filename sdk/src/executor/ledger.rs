//! What the agent has not confirmed yet, kept to be told again after a reconnection.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::bytes::Bytes;

use crate::v1;
use crate::v1::executor::call;

/// More updates than any agent lets pile up: it confirms one when it is on its disk.
const MAX_UPDATES: usize = 65_536;

/// Shared by the handle, which adds updates, and the connection, which removes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    /// Launched, and no update of theirs confirmed yet.
    tasks: HashMap<String, v1::TaskInfo>,
    /// In the order in which they were made.
    updates: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    status: v1::TaskStatus,
    /// Part of the latest SUBSCRIBE.
    told: bool,
}

impl Ledger {
    pub(crate) fn launched(&self, tasks: impl IntoIterator<Item = v1::TaskInfo>) {
        self.entries()
            .tasks
            .extend(tasks.into_iter().map(|task| (task.task_id.value.clone(), task)));
    }

    /// False if there is no room.
    pub(crate) fn updated(&self, status: v1::TaskStatus) -> bool {
        let mut entries = self.entries();
        let room = entries.updates.len() < MAX_UPDATES;
        if room {
            entries.updates.push_back(Entry { status, told: false });
        }
        room
    }

    /// The agent has the update, and with it the task.
    pub(crate) fn acknowledged(&self, task: &v1::TaskId, uuid: &Bytes) {
        let mut entries = self.entries();
        entries.tasks.remove(&task.value);
        entries.forget(uuid);
    }

    /// The agent does not want it, now or ever.
    pub(crate) fn refused(&self, uuid: &Bytes) {
        self.entries().forget(uuid);
    }

    pub(crate) fn unconfirmed(&self) -> usize {
        self.entries().updates.len()
    }

    /// What a new subscription has to say. All of it counts as told.
    pub(crate) fn subscribe(&self) -> call::Subscribe {
        let mut entries = self.entries();
        for entry in &mut entries.updates {
            entry.told = true;
        }
        let update = |entry: &Entry| call::Update { status: entry.status.clone() };
        call::Subscribe {
            unacknowledged_tasks: entries.tasks.values().cloned().collect(),
            unacknowledged_updates: entries.updates.iter().map(update).collect(),
        }
    }

    /// Made since the latest SUBSCRIBE was written. For the moment at which that subscription stands.
    pub(crate) fn untold(&self) -> Vec<v1::TaskStatus> {
        let mut entries = self.entries();
        let untold = entries.updates.iter_mut().filter(|entry| !entry.told);
        let take = |entry: &mut Entry| {
            entry.told = true;
            entry.status.clone()
        };
        untold.map(take).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every change is whole, so what a panicking thread left is good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// The agent confirms in order, so the one that is looked for is near the front.
    fn forget(&mut self, uuid: &Bytes) {
        let position =
            self.updates.iter().position(|entry| entry.status.uuid.as_ref() == Some(uuid));
        if let Some(position) = position {
            self.updates.remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str) -> v1::TaskInfo {
        v1::TaskInfo { task_id: v1::TaskId { value: id.to_owned() }, ..Default::default() }
    }

    fn status(task: &str, uuid: u8) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            uuid: Some(vec![uuid; 16].into()),
            ..Default::default()
        }
    }

    fn uuids(updates: &[v1::TaskStatus]) -> Vec<u8> {
        updates.iter().filter_map(|status| status.uuid.as_ref()?.first().copied()).collect()
    }

    #[test]
    fn a_task_is_kept_until_its_first_update_is_confirmed() {
        let ledger = Ledger::default();
        ledger.launched([task("a"), task("b")]);
        assert!(ledger.updated(status("a", 1)) && ledger.updated(status("a", 2)));
        ledger.acknowledged(&task("a").task_id, &vec![1; 16].into());
        let subscribe = ledger.subscribe();
        assert_eq!(subscribe.unacknowledged_tasks, [task("b")]);
        let updates = subscribe.unacknowledged_updates.into_iter().map(|update| update.status);
        assert_eq!(uuids(&Vec::from_iter(updates)), [2]);
        ledger.refused(&vec![2; 16].into());
        assert!(ledger.subscribe().unacknowledged_updates.is_empty());
    }

    #[test]
    fn what_was_made_during_a_subscription_is_sent_after_it_in_order() {
        let ledger = Ledger::default();
        ledger.updated(status("a", 1));
        ledger.subscribe();
        ledger.updated(status("a", 2));
        ledger.updated(status("a", 3));
        assert_eq!(uuids(&ledger.untold()), [2, 3]);
        assert_eq!(uuids(&ledger.untold()), [0; 0]);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let ledger = Ledger::default();
        for _ in 0..MAX_UPDATES {
            assert!(ledger.updated(status("a", 1)));
        }
        assert!(!ledger.updated(status("a", 1)));
    }
}
