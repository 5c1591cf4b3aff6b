//! What the agent counts, under the names that Mesos' monitoring documents (`docs/monitoring.md`).

mod kernel;
mod tasks;

use std::time::Duration;

use mezzo_agent_core::Statistics;
use mezzo_http_server::Gate;
use mezzo_proto::v1::TaskState;
use mezzo_store::Store;
use mezzo_telemetry::{Counter, Metrics, Readings};
use mezzo_types::{Quantities, ResourceName};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::containerizer::{Containerizer, DeviceGuard};
use crate::fetcher::Fetches;
use crate::sandbox::Sandboxes;
use crate::view::View;

pub(crate) use tasks::register as register_tasks;

/// States that a task is in for a while: gauges.
const NOW: [(TaskState, &str); 4] = [
    (TaskState::TaskStaging, "slave/tasks_staging"),
    (TaskState::TaskStarting, "slave/tasks_starting"),
    (TaskState::TaskRunning, "slave/tasks_running"),
    (TaskState::TaskKilling, "slave/tasks_killing"),
];

/// States that tasks end in: counters.
const ENDED: [(TaskState, &str); 7] = [
    (TaskState::TaskFinished, "slave/tasks_finished"),
    (TaskState::TaskFailed, "slave/tasks_failed"),
    (TaskState::TaskKilled, "slave/tasks_killed"),
    (TaskState::TaskError, "slave/tasks_error"),
    (TaskState::TaskLost, "slave/tasks_lost"),
    (TaskState::TaskDropped, "slave/tasks_dropped"),
    (TaskState::TaskGone, "slave/tasks_gone"),
];

const RESOURCES: [ResourceName; 4] =
    [ResourceName::CPUS, ResourceName::DISK, ResourceName::GPUS, ResourceName::MEM];

/// Makes the endpoints show what view and statistics hold at the moment they are asked.
pub(crate) fn register(
    metrics: &Metrics,
    view: View,
    statistics: watch::Receiver<Statistics>,
    sandboxes: Sandboxes,
    clock: Clock,
    recovery: Duration,
) {
    metrics.register_system();
    metrics.gauge("slave/recovery_time_secs").set(recovery.as_secs_f64());
    metrics.source(move |readings| {
        readings.gauge("slave/uptime_secs", clock.now().mono_ns as f64 / 1e9);
        read_view(&view, readings);
        read_statistics(&statistics.borrow(), readings);
        read_sandboxes(&sandboxes, readings);
    });
}

/// The store's: how long its syncs take, what waits in memory for the disk, whether new promises are refused,
/// whether the disk is slow.
pub(crate) fn register_store(metrics: &Metrics, store: &Store) {
    let syncs = metrics.timer("slave/store_sync_ms");
    store.observe_syncs(move |duration| syncs.observe(duration));
    let store = store.clone();
    metrics.source(move |readings| {
        let counts = store.counts();
        readings.counter("slave/store_writes", counts.writes);
        readings.counter("slave/store_syncs", counts.syncs);
        readings.gauge("slave/store_held", counts.held as f64);
        let refusing = store.check_room().is_err();
        readings.gauge("slave/store_refusing", f64::from(u8::from(refusing)));
        let slow = store.slowness().is_some();
        readings.gauge("slave/store_slow", f64::from(u8::from(slow)));
    });
}

/// Makes the endpoints show whether tasks are kept to their devices, and whether by eBPF. Nothing is shown before that is known.
pub(crate) fn register_device_guard(metrics: &Metrics, containers: Containerizer) {
    metrics.source(move |readings| {
        let Some(guard) = containers.device_guard() else { return };
        let shown = |is: bool| f64::from(u8::from(is));
        readings.gauge("slave/devices_guarded", shown(guard != DeviceGuard::Nobody));
        readings.gauge("slave/devices_guarded_by_ebpf", shown(guard == DeviceGuard::Ebpf));
    });
}

/// Makes the endpoints show which containers could not be destroyed, and what was fetched.
pub(crate) fn register_containers(metrics: &Metrics, destroy_errors: Counter, fetches: Fetches) {
    metrics.source(move |readings| {
        let errors = destroy_errors.get();
        readings.counter("containerizer/mesos/container_destroy_errors", errors);
        let Fetches { succeeded, failed } = &fetches;
        readings.counter("containerizer/fetcher/task_fetches_succeeded", succeeded.get());
        readings.counter("containerizer/fetcher/task_fetches_failed", failed.get());
        // There is no cache: every task fetches for itself.
        readings.gauge("containerizer/fetcher/cache_size_total_bytes", 0.0);
        readings.gauge("containerizer/fetcher/cache_size_used_bytes", 0.0);
    });
}

/// Makes the endpoints show how full the port is.
pub(crate) fn register_port(metrics: &Metrics, gate: Gate) {
    metrics.source(move |readings| {
        readings.gauge("slave/http_connections", gate.open() as f64);
        readings.counter("slave/http_connections_refused", gate.refused());
        readings.counter("slave/http_connections_displaced", gate.displaced());
        readings.counter("slave/http_connections_overdue", gate.overdue());
    });
}

fn read_view(view: &View, readings: &mut Readings) {
    let census = view.census();
    readings.gauge("slave/registered", f64::from(u8::from(census.registered)));
    readings.gauge("slave/frameworks_active", census.frameworks as f64);
    let mut count = |name: &str, state: &[TaskState]| {
        let tasks = state.iter().filter_map(|state| census.tasks.get(state)).sum::<usize>();
        readings.gauge(name, tasks as f64);
    };
    for (state, name) in NOW {
        count(name, &[state]);
    }
    let executors = &census.executors;
    readings.gauge("slave/executors_registering", executors.registering as f64);
    readings.gauge("slave/executors_running", executors.running as f64);
    readings.gauge("slave/executors_terminating", executors.terminating as f64);
    for name in &RESOURCES {
        let of = |quantities: &Quantities| quantities.get(name).to_f64();
        let (total, used) = (of(&census.total), of(&census.used));
        readings.gauge(format!("slave/{name}_total"), total);
        readings.gauge(format!("slave/{name}_used"), used);
        let percent = if total > 0.0 { used / total } else { 0.0 };
        readings.gauge(format!("slave/{name}_percent"), percent);
        // Nothing is oversubscribed, so no resource is revocable.
        for part in ["total", "used", "percent"] {
            readings.gauge(format!("slave/{name}_revocable_{part}"), 0.0);
        }
    }
    // Nobody is: only what uses revocable resources could be.
    readings.counter("slave/executors_preempted", 0);
}

fn read_sandboxes(sandboxes: &Sandboxes, readings: &mut Readings) {
    let removals = sandboxes.removals();
    readings.gauge("gc/path_removals_pending", removals.pending as f64);
    readings.counter("gc/path_removals_succeeded", removals.succeeded);
    readings.counter("gc/path_removals_failed", removals.failed);
    let age = sandboxes.allowed_age().as_secs_f64();
    readings.gauge("slave/executor_directory_max_allowed_age_secs", age);
}

fn read_statistics(statistics: &Statistics, readings: &mut Readings) {
    let ended = |state| statistics.tasks_ended.get(&state).copied().unwrap_or_default();
    for (state, name) in ENDED {
        readings.counter(name, ended(state));
    }
    for (name, value) in [
        ("slave/container_launch_errors", statistics.container_launch_errors),
        ("slave/valid_status_update_acknowledgements", statistics.acknowledgements_valid),
        ("slave/invalid_status_update_acknowledgements", statistics.acknowledgements_invalid),
        ("slave/executors_terminated", statistics.executors_ended),
        ("slave/valid_status_updates", statistics.updates_valid),
        ("slave/invalid_status_updates", statistics.updates_invalid),
        ("slave/valid_framework_messages", statistics.messages_valid),
        ("slave/invalid_framework_messages", statistics.messages_invalid),
        ("slave/launches", statistics.launches),
        ("slave/launches_repeated", statistics.launches_repeated),
        ("slave/registrations", statistics.registrations),
        ("slave/health_checks", statistics.health_checks),
        ("slave/health_checks_failed", statistics.health_checks_failed),
        ("slave/checks", statistics.checks),
        ("slave/checks_failed", statistics.checks_failed),
        ("slave/checks_unavailable", statistics.checks_unavailable),
    ] {
        readings.counter(name, value);
    }
    readings.gauge("slave/recovery_errors", statistics.recovery_errors as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exporters_of_mesos_read_is_there() {
        let metrics = Metrics::new();
        metrics.source(|readings| read_view(&View::default(), readings));
        let (errors, fetches) = (Counter::default(), Fetches::default());
        register_containers(&metrics, errors.clone(), fetches.clone());
        errors.inc();
        fetches.succeeded.add(3);
        fetches.failed.add(2);
        let shown = metrics.snapshot();
        for (name, value) in [
            ("slave/cpus_revocable_total", 0.0),
            ("slave/mem_revocable_used", 0.0),
            ("slave/gpus_revocable_percent", 0.0),
            ("slave/disk_revocable_total", 0.0),
            ("slave/executors_preempted", 0.0),
            ("containerizer/mesos/container_destroy_errors", 1.0),
            ("containerizer/fetcher/task_fetches_succeeded", 3.0),
            ("containerizer/fetcher/task_fetches_failed", 2.0),
            ("containerizer/fetcher/cache_size_total_bytes", 0.0),
            ("containerizer/fetcher/cache_size_used_bytes", 0.0),
        ] {
            assert_eq!(shown.get(name), Some(&value), "{name}");
        }
    }
}
