//! What each running task uses, for Prometheus, under stable labels.

use mezzo_agent_accounting::Feature;
use mezzo_telemetry::{Families, Labels, Metrics};

use super::kernel::{self, Whose};
use crate::accounts::Totals;
use crate::meter::{Features, Meter, Reading};

/// Has Prometheus see what each running task uses, what all that ever ran have used, and what is not counted.
pub(crate) fn register(metrics: &Metrics, meter: Meter) {
    metrics.family_source(move |families| {
        let (readings, totals) = meter.all();
        let on = &readings.features.on;
        for reading in &readings.tasks {
            let labels = Labels::new([
                ("framework", reading.of.framework.as_str()),
                // A command task is its own executor.
                ("executor", reading.of.task.as_str()),
                ("task", reading.of.task.as_str()),
                ("role", &reading.of.role),
            ]);
            controllers(families, &labels, reading);
            if let Some(usage) = &reading.kernel {
                kernel::add(families, Whose::Task, &labels, usage, on);
            }
        }
        let none = Labels::default();
        kernel::add(families, Whose::AllTasks, &none, &totals.usage, on);
        accounts(families, &readings.features, &totals);
    });
}

/// What the accounts themselves are like.
fn accounts(families: &mut Families, features: &Features, totals: &Totals) {
    let none = Labels::default();
    for feature in Feature::ALL {
        let on = f64::from(u8::from(features.on.contains(&feature)));
        families.gauge("ebpf_feature", &none.with([("feature", feature.name())]), on);
    }
    families.gauge("ebpf_entries", &none, totals.entries as f64);
    families.gauge("ebpf_capacity", &none, totals.capacity as f64);
    families.counter("ebpf_departures", &none, totals.departures as f64);
    for (kind, lost) in [("denial", totals.lost.denials), ("ending", totals.lost.endings)] {
        families.counter("ebpf_events_lost", &none.with([("kind", kind)]), lost as f64);
    }
}

/// What the control groups' controllers say. Those that are not there have no lines.
fn controllers(families: &mut Families, labels: &Labels, reading: &Reading) {
    if let Some(cpu) = &reading.usage.cpu {
        let seconds = |ns: u64| ns as f64 / 1e9;
        for (name, value) in [
            ("task_cpu_seconds", seconds(cpu.total_ns)),
            ("task_cpu_throttled_seconds", seconds(cpu.throttled_ns)),
            ("task_cpu_periods", cpu.periods as f64),
            ("task_cpu_throttled_periods", cpu.throttled_periods as f64),
        ] {
            families.counter(name, labels, value);
        }
    }
    if let Some(memory) = &reading.usage.memory {
        let limit = match memory.limit_bytes {
            u64::MAX => f64::INFINITY,
            bytes => bytes as f64,
        };
        for (name, value) in [
            ("task_memory_bytes", memory.bytes as f64),
            ("task_memory_peak_bytes", memory.peak_bytes as f64),
            ("task_memory_anon_bytes", memory.anon_bytes as f64),
            ("task_memory_cache_bytes", memory.cache_bytes as f64),
            ("task_memory_swap_bytes", memory.swap_bytes as f64),
            ("task_memory_limit_bytes", limit),
        ] {
            families.gauge(name, labels, value);
        }
    }
    if let Some(pids) = reading.usage.pids {
        families.gauge("task_threads", labels, pids as f64);
    }
    families.gauge("task_cpus_requested", labels, reading.of.cpus);
    families.gauge("task_cpus_limit", labels, reading.of.cpus_limit.unwrap_or(f64::INFINITY));
}
