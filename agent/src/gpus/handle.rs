//! The agent's GPUs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezzo_types::ContainerId;
use tokio::sync::Notify;

use super::holdings::Holdings;
use super::{Gpu, Inventory, TooFew};

/// An agent's GPUs and who has them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Gpus {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    inventory: Inventory,
    holdings: Mutex<Holdings>,
    /// Some GPU has another holder.
    changed: Notify,
}

impl Gpus {
    /// The first `offered` of the machine's GPUs are given to containers, in order.
    pub fn new(inventory: Inventory, offered: usize) -> Self {
        let ids = inventory.gpus().iter().take(offered).map(|gpu| gpu.id.clone());
        let holdings = Mutex::new(Holdings::new(ids));
        Gpus { inner: Arc::new(Inner { inventory, holdings, changed: Notify::new() }) }
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.inner.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a container `wanted` GPUs, by id; those that it has already if it has any. They are nobody else's
    /// before it is gone; once it is being destroyed, others may be told to wait for them.
    pub fn assign(&self, container: &ContainerId, wanted: usize) -> Result<Vec<String>, TooFew> {
        let mut holdings = self.holdings();
        let new = holdings.of(container).is_empty();
        let gpus = holdings.assign(container, wanted)?;
        if new && !gpus.is_empty() {
            tracing::info!(%container, gpus = gpus.join(","), "GPUs assigned");
        }
        Ok(gpus)
    }

    /// Gives a container that runs more GPUs, or takes some from it: it has `wanted` then. One that cannot have them keeps
    /// what it has.
    pub fn resize(&self, container: &ContainerId, wanted: usize) -> Result<Vec<String>, TooFew> {
        let before = self.of(container).len();
        let gpus = self.holdings().resize(container, wanted)?;
        if gpus.len() < before {
            self.inner.changed.notify_waiters();
        }
        Ok(gpus)
    }

    /// Takes up what the record of a container says. `started`: processes of it may be there.
    pub(crate) fn recover(&self, container: &ContainerId, ids: &[String], started: bool) {
        let mut gpus = Vec::new();
        for id in ids {
            if let Some(gpu) = self.find(id) {
                gpus.push(gpu.id.clone());
            } else {
                tracing::warn!(%container, id, "a container has a GPU that this machine has not any more");
                gpus.push(id.clone());
            }
        }
        self.holdings().recover(container, &gpus, started);
    }

    /// Ids of a container's GPUs.
    pub fn of(&self, container: &ContainerId) -> Vec<String> {
        self.holdings().of(container)
    }

    /// The GPU of this id, if the machine has it.
    pub fn find(&self, id: &str) -> Option<&Gpu> {
        self.inner.inventory.find(id)
    }

    /// Waits until no other container has any of this one's GPUs. Cancel-safe.
    pub(crate) async fn turn(&self, container: &ContainerId) {
        loop {
            let mut changed = std::pin::pin!(self.inner.changed.notified());
            // Before the look, so that no change is missed.
            changed.as_mut().enable();
            if self.holdings().has_all(container) {
                return;
            }
            let gpus = self.of(container).join(",");
            tracing::info!(%container, gpus, "waiting for a GPU whose last container is being destroyed");
            changed.await;
        }
    }

    /// The container is being destroyed.
    pub(crate) fn ending(&self, container: &ContainerId) {
        self.holdings().end(container);
    }

    /// The container is gone, and its record.
    pub(crate) fn release(&self, container: &ContainerId) {
        if self.holdings().release(container) {
            self.inner.changed.notify_waiters();
        }
    }
}
