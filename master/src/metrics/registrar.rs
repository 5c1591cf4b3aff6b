//! The registry under Mesos' names: how long the log takes, how much waits for it, how large all of it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mezzo_telemetry::{Gauge, Metrics, Timer};

use crate::registry_store::RegistryStore;

/// Who wants to know how large the registry is has all of it read: once in so long.
const SIZE_HOLDS: Duration = Duration::from_secs(60);

/// What the leader's loop tells of itself.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    /// Commits that the loop has not taken yet. It has nothing else that it tells itself.
    pub(crate) dispatches: Gauge,
    /// Commands that wait to become part of an entry.
    pub(crate) queued: Gauge,
    /// From the loop's giving an entry to the log to its hearing that it is committed and applied.
    pub(crate) store: Timer,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            dispatches: metrics.gauge("master/event_queue_dispatches"),
            queued: metrics.gauge("registrar/queued_operations"),
            store: metrics.timer("registrar/state_store_ms"),
        }
    }
}

/// Makes the endpoints show how large the registry is, and what there is to say of its log.
pub(crate) fn register_registry(metrics: &Metrics, store: RegistryStore) {
    let size = Size { store, state: Arc::default() };
    size.read_again();
    metrics.source(move |readings| {
        // Whoever serves has recovered, and the group has one member (`log::NODE_ID`).
        readings.gauge("registrar/log/recovered", 1.0);
        readings.gauge("registrar/log/ensemble_size", 1.0);
        if let Some(bytes) = size.read_again() {
            readings.gauge("registrar/registry_size_bytes", bytes as f64);
        }
    });
}

#[derive(Debug, Clone)]
struct Size {
    store: RegistryStore,
    state: Arc<Mutex<SizeState>>,
}

#[derive(Debug, Default)]
struct SizeState {
    bytes: Option<u64>,
    /// When the latest reading began.
    since: Option<Instant>,
    reading: bool,
}

impl Size {
    /// What was found last. If that is long ago, somebody goes and looks, for those who ask next.
    fn read_again(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = state.since.is_none_or(|since| since.elapsed() >= SIZE_HOLDS);
        if stale
            && !state.reading
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.since = Some(Instant::now());
            state.reading = true;
            let this = self.clone();
            runtime.spawn_blocking(move || this.look());
        }
        state.bytes
    }

    fn look(&self) {
        let found = self.store.size();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reading = false;
        match found {
            Ok(bytes) => state.bytes = Some(bytes),
            Err(error) => {
                // What is not known is not shown.
                state.bytes = None;
                tracing::warn!(error = %mezzo_telemetry::chain(&error), "could not read the registry's size");
            }
        }
    }
}
