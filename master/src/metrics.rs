//! What the master does under the names that Mesos' monitoring documents (`docs/monitoring.md`). All of it is
//! counted as it happens or read when somebody asks, and costs the same however large the cluster is.
//!
//! | module | what lives there |
//! |---|---|
//! | here | the core's statistics, the store, the port |
//! | `messages` | messages, endings of tasks and operations, by kind |
//! | `cluster` | resources, and frameworks one by one |
//! | `registrar` | the log and the registry |
//! | `allocator` | the allocator with a stop-watch |

mod allocator;
mod cluster;
mod messages;
mod registrar;

#[cfg(test)]
mod tests;

use mezzo_http_server::Gate;
use mezzo_master_core::Statistics;
use mezzo_proto::v1::TaskState;
use mezzo_store::Store;
use mezzo_telemetry::{Families, Labels, Metrics, Readings};
use tokio::sync::watch;

pub(crate) use allocator::TimedAllocator;
pub(crate) use cluster::register_view;
pub(crate) use registrar::{Meters, register_registry};

use crate::clock::Clock;
use crate::handle::Queues;

/// States that a task is in for a while: gauges.
const NOW: [(TaskState, &str); 5] = [
    (TaskState::TaskStaging, "master/tasks_staging"),
    (TaskState::TaskStarting, "master/tasks_starting"),
    (TaskState::TaskRunning, "master/tasks_running"),
    (TaskState::TaskKilling, "master/tasks_killing"),
    (TaskState::TaskUnreachable, "master/tasks_unreachable"),
];

/// States that tasks end in: counters.
const REACHED: [(TaskState, &str); 8] = [
    (TaskState::TaskFinished, "master/tasks_finished"),
    (TaskState::TaskFailed, "master/tasks_failed"),
    (TaskState::TaskKilled, "master/tasks_killed"),
    (TaskState::TaskError, "master/tasks_error"),
    (TaskState::TaskLost, "master/tasks_lost"),
    (TaskState::TaskDropped, "master/tasks_dropped"),
    (TaskState::TaskGone, "master/tasks_gone"),
    (TaskState::TaskGoneByOperator, "master/tasks_gone_by_operator"),
];

/// Makes the endpoints show what `statistics` holds at the moment they are asked.
pub(crate) fn register(metrics: &Metrics, statistics: watch::Receiver<Statistics>, clock: Clock) {
    metrics.register_system();
    let seen = statistics.clone();
    metrics.family_source(move |families| read_message_families(&seen.borrow(), families));
    metrics.source(move |readings| {
        let statistics = statistics.borrow();
        read(&statistics, clock, readings);
        messages::read(&statistics, readings);
        read_messages(&statistics, readings);
    });
}

/// The store's: how long its syncs take, what waits in memory for the disk, whether new promises are refused,
/// whether the disk is slow.
pub(crate) fn register_store(metrics: &Metrics, store: &Store) {
    let syncs = metrics.timer("master/store_sync_ms");
    store.observe_syncs(move |duration| syncs.observe(duration));
    let store = store.clone();
    metrics.source(move |readings| {
        let counts = store.counts();
        readings.counter("master/store_writes", counts.writes);
        readings.counter("master/store_syncs", counts.syncs);
        readings.gauge("master/store_held", counts.held as f64);
        let refusing = store.check_room().is_err();
        readings.gauge("master/store_refusing", f64::from(u8::from(refusing)));
        let slow = store.slowness().is_some();
        readings.gauge("master/store_slow", f64::from(u8::from(slow)));
    });
}

/// Makes the endpoints show how much waits for the leader's loop.
pub(crate) fn register_queues(metrics: &Metrics, queues: Queues) {
    metrics.source(move |readings| {
        readings.gauge("master/event_queue_messages", queues.agents() as f64);
        readings.gauge("master/event_queue_http_requests", queues.calls() as f64);
        // The loop calls the allocator: nothing ever waits for it. Mesos has the second name for old dashboards.
        readings.gauge("allocator/mesos/event_queue_dispatches", 0.0);
        readings.gauge("allocator/event_queue_dispatches", 0.0);
    });
}

/// Makes the endpoints show how full the port is.
pub(crate) fn register_port(metrics: &Metrics, gate: Gate) {
    metrics.source(move |readings| {
        readings.gauge("master/http_connections", gate.open() as f64);
        readings.counter("master/http_connections_refused", gate.refused());
        readings.counter("master/http_connections_displaced", gate.displaced());
        readings.counter("master/http_connections_overdue", gate.overdue());
    });
}

fn read(statistics: &Statistics, clock: Clock, readings: &mut Readings) {
    readings.gauge("master/elected", 1.0);
    readings.gauge("master/uptime_secs", clock.now().mono_ns as f64 / 1e9);
    for (state, name) in NOW {
        readings.gauge(name, at(&statistics.tasks_now, state).max(0) as f64);
    }
    for (state, name) in REACHED {
        readings.counter(name, at(&statistics.tasks_reached, state));
    }
    for (name, value) in [
        ("master/frameworks_connected", statistics.frameworks_connected),
        ("master/frameworks_active", statistics.frameworks_connected),
        ("master/frameworks_disconnected", statistics.frameworks_disconnected),
        ("master/frameworks_inactive", statistics.frameworks_disconnected),
        ("master/slaves_connected", statistics.agents_connected),
        ("master/slaves_active", statistics.agents_connected),
        ("master/slaves_disconnected", statistics.agents_disconnected),
        ("master/slaves_inactive", statistics.agents_disconnected),
        ("master/slaves_unreachable", statistics.agents_unreachable),
        ("master/outstanding_offers", statistics.outstanding_offers),
    ] {
        readings.gauge(name, value as f64);
    }
    for (name, value) in [
        ("master/slave_registrations", statistics.agents_registered),
        ("master/slave_reregistrations", statistics.agents_reregistered),
        ("master/slave_unreachable_scheduled", statistics.unreachable_scheduled),
        ("master/slave_unreachable_canceled", statistics.unreachable_canceled),
        ("master/slave_unreachable_completed", statistics.unreachable_completed),
        ("master/slave_removals", statistics.removals),
        ("master/slave_removals/reason_unhealthy", statistics.removals_unhealthy),
        ("master/slave_removals/reason_unregistered", statistics.removals_unregistered),
        ("master/slave_removals/reason_gone", statistics.removals_gone),
        ("master/recovery_slave_removals", statistics.recovery_removals),
        ("master/valid_status_updates", statistics.updates_valid),
        ("master/invalid_status_updates", statistics.updates_invalid),
        ("master/valid_status_update_acknowledgements", statistics.acknowledgements_valid),
        ("master/invalid_status_update_acknowledgements", statistics.acknowledgements_invalid),
        ("master/valid_framework_to_executor_messages", statistics.messages_to_executors_valid),
        ("master/invalid_framework_to_executor_messages", statistics.messages_to_executors_invalid),
        ("master/valid_executor_to_framework_messages", statistics.messages_of_executors_valid),
        ("master/invalid_executor_to_framework_messages", statistics.messages_of_executors_invalid),
        ("master/offers_sent", statistics.offers_sent),
        ("master/offers_accepted", statistics.offers_accepted),
        ("master/offers_declined", statistics.offers_declined),
        ("master/offers_rescinded", statistics.offers_rescinded),
        ("master/scheduler_calls", statistics.calls),
    ] {
        readings.counter(name, value);
    }
}

/// How many calls the frameworks of each principal sent, and how many were carried out: those that wait for a
/// rate limit are the difference (`docs/framework-rate-limiting.md` of Mesos).
fn read_messages(statistics: &Statistics, readings: &mut Readings) {
    for (principal, counts) in statistics.messages.iter() {
        let name = |what: &str| format!("frameworks/{principal}/{what}");
        readings.counter(name("messages_received"), counts.received());
        readings.counter(name("messages_processed"), counts.processed());
    }
}

/// The same for Prometheus, which has labels for it.
fn read_message_families(statistics: &Statistics, families: &mut Families) {
    for (principal, counts) in statistics.messages.iter() {
        let labels = Labels::new([("principal", principal.as_str())]);
        families.counter("framework_messages_received", &labels, counts.received() as f64);
        families.counter("framework_messages_processed", &labels, counts.processed() as f64);
    }
}

fn at<T: Copy + Default>(by_state: &[T; 14], state: TaskState) -> T {
    usize::try_from(state as i32).ok().and_then(|i| by_state.get(i).copied()).unwrap_or_default()
}
