//! `Mesos-Stream-Id`: the names by which HTTP callers refer to their subscription.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mezzo_master_core::StreamId;

/// Open subscriptions by name. The lock is held for one look-up only.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamNames {
    open: Arc<Mutex<HashMap<String, StreamId>>>,
}

impl StreamNames {
    /// Names a stream: a random UUID, which clients insist on.
    pub(crate) fn add(&self, stream: StreamId) -> String {
        let name = uuid::Uuid::new_v4().to_string();
        self.lock().insert(name.clone(), stream);
        name
    }

    pub(crate) fn find(&self, name: &str) -> Option<StreamId> {
        self.lock().get(name).copied()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, StreamId>> {
        // A panic while holding it cannot leave the map half-written.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
