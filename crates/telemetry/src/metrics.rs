//! The registry of a process's metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::families::Families;
use crate::readings::{Reading, Readings};
use crate::system;
use crate::timer::Timer;

/// Metrics by their Mesos names. Cheap to clone; clones share everything. A handle once obtained
/// is an atomic: using it takes no lock.
#[derive(Clone, Default)]
pub struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Mutex<BTreeMap<String, Held>>,
    sources: Mutex<Vec<Source>>,
    family_sources: Mutex<Vec<FamilySource>>,
    native: Mutex<Registry>,
}

type Source = Arc<dyn Fn(&mut Readings) + Send + Sync>;
type FamilySource = Arc<dyn Fn(&mut Families) + Send + Sync>;

#[derive(Clone)]
enum Held {
    Counter(Counter),
    Gauge(Gauge),
    Timer(Timer),
}

/// A number of events; only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `change`, which may be negative.
    pub fn add(&self, change: f64) {
        let update = |bits| Some((f64::from_bits(bits) + change).to_bits());
        // The closure always answers, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// The counter of that name, made on first use.
    ///
    /// # Panics
    /// If the name belongs to a metric of another kind: a mistake in the program.
    pub fn counter(&self, name: &str) -> Counter {
        match self.hold(name, || Held::Counter(Counter::default())) {
            Held::Counter(counter) => counter,
            _ => panic!("the metric {name} is not a counter"),
        }
    }

    /// The gauge of that name, made on first use; 0 until set.
    ///
    /// # Panics
    /// If the name belongs to a metric of another kind: a mistake in the program.
    pub fn gauge(&self, name: &str) -> Gauge {
        match self.hold(name, || Held::Gauge(Gauge::default())) {
            Held::Gauge(gauge) => gauge,
            _ => panic!("the metric {name} is not a gauge"),
        }
    }

    /// The timer of that name, made on first use. Names end in `_ms`.
    ///
    /// # Panics
    /// If the name belongs to a metric of another kind: a mistake in the program.
    pub fn timer(&self, name: &str) -> Timer {
        match self.hold(name, || Held::Timer(Timer::new())) {
            Held::Timer(timer) => timer,
            _ => panic!("the metric {name} is not a timer"),
        }
    }

    /// A gauge that is computed whenever metrics are read.
    pub fn gauge_fn(&self, name: &str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        let name = name.to_owned();
        self.source(move |readings| readings.gauge(name.as_str(), read()));
    }

    /// Metrics that are kept elsewhere: `read` is called whenever metrics are read, and fills in
    /// as many as there are just then. It should be quick and must not register metrics.
    pub fn source(&self, read: impl Fn(&mut Readings) + Send + Sync + 'static) {
        lock(&self.shared.sources).push(Arc::new(read));
    }

    /// Metrics with labels, read whenever Prometheus asks. May block for a while: [`Metrics::render_prometheus`] then does.
    pub fn family_source(&self, read: impl Fn(&mut Families) + Send + Sync + 'static) {
        lock(&self.shared.family_sources).push(Arc::new(read));
    }

    /// The machine's `system/…` gauges.
    pub fn register_system(&self) {
        self.source(|readings| system::read(Path::new("/proc"), Path::new("/sys"), readings));
    }

    /// Registers families with labels of their own; only Prometheus sees these.
    pub fn register_native(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut lock(&self.shared.native));
    }

    /// Every metric by its Mesos name; what is not a finite number is left out.
    pub fn snapshot(&self) -> BTreeMap<String, f64> {
        let mut all: BTreeMap<String, f64> = BTreeMap::new();
        for (name, reading) in self.read_sources().values {
            let (Reading::Counter(value) | Reading::Gauge(value)) = reading;
            all.insert(name, value);
        }
        for (name, held) in self.held() {
            match held {
                Held::Counter(counter) => drop(all.insert(name, counter.get() as f64)),
                Held::Gauge(gauge) => drop(all.insert(name, gauge.get())),
                Held::Timer(timer) => all.extend(timer.statistics(&name)),
            }
        }
        all.retain(|_, value| value.is_finite());
        all
    }

    /// Mesos' `/metrics/snapshot`: one flat JSON object, sorted by name.
    pub fn render_snapshot(&self) -> String {
        let mut json = String::from("{");
        for (at, (name, value)) in self.snapshot().into_iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            write_json_string(&mut json, &name);
            // Writing to a string cannot fail.
            let _ = write!(json, ":{value}");
        }
        json.push('}');
        json
    }

    /// The OpenMetrics text that Prometheus reads. `master/tasks_running` becomes
    /// `mezzo_master_tasks_running`, a counter ends in `_total`, a timer `…_ms` becomes a
    /// histogram `…_seconds`.
    pub fn render_prometheus(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Rendering(self.clone())));
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode_registry(&mut out, &registry);
        let _ = text::encode_registry(&mut out, &lock(&self.shared.native));
        let _ = text::encode_eof(&mut out);
        out
    }

    fn hold(&self, name: &str, make: impl FnOnce() -> Held) -> Held {
        lock(&self.shared.held).entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// A copy, so that nothing is computed under the lock.
    fn held(&self) -> Vec<(String, Held)> {
        let held = lock(&self.shared.held);
        held.iter().map(|(name, held)| (name.clone(), held.clone())).collect()
    }

    fn read_family_sources(&self) -> Families {
        let sources = lock(&self.shared.family_sources).clone();
        let mut families = Families::default();
        for source in sources {
            source(&mut families);
        }
        families
    }

    fn read_sources(&self) -> Readings {
        let sources = lock(&self.shared.sources).clone();
        let mut readings = Readings::default();
        for source in sources {
            source(&mut readings);
        }
        readings
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A registry is still whole when a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Rendering(Metrics);

impl Collector for Rendering {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut all: BTreeMap<String, Held> = BTreeMap::new();
        let mut readings = self.0.read_sources().values;
        for (name, held) in self.0.held() {
            readings.remove(&name);
            all.insert(name, held);
        }
        // Two Mesos names may derive the same name; the text may have it only once.
        let mut written = BTreeSet::new();
        let mut one = |mesos_name: &str, metric: &dyn Encodable| {
            let name = prometheus_name(mesos_name, metric.kind());
            if !written.insert(name.clone()) {
                return Ok(());
            }
            let encoder = encoder.encode_descriptor(&name, mesos_name, None, metric.kind())?;
            metric.encode(encoder)
        };
        for (name, held) in &all {
            match held {
                Held::Counter(counter) => one(name, &ConstCounter::new(counter.get()))?,
                Held::Gauge(gauge) => one(name, &ConstGauge::new(gauge.get()))?,
                Held::Timer(timer) => one(name, &timer.histogram)?,
            }
        }
        for (name, reading) in &readings {
            match *reading {
                Reading::Counter(value) => one(name, &ConstCounter::new(value))?,
                Reading::Gauge(value) => one(name, &ConstGauge::new(value))?,
            }
        }
        self.0.read_family_sources().encode(&mut encoder)
    }
}

/// [`EncodeMetric`] without its type parameters.
trait Encodable {
    fn kind(&self) -> MetricType;
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder)
    -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> Encodable for M {
    fn kind(&self) -> MetricType {
        self.metric_type()
    }

    fn encode(
        &self,
        encoder: prometheus_client::encoding::MetricEncoder,
    ) -> Result<(), fmt::Error> {
        EncodeMetric::encode(self, encoder)
    }
}

fn prometheus_name(mesos_name: &str, kind: MetricType) -> String {
    let (base, unit) = match (kind, mesos_name.strip_suffix("_ms")) {
        (MetricType::Histogram, Some(base)) => (base, "_seconds"),
        _ => (mesos_name, ""),
    };
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("mezzo_{}{unit}", base.chars().map(allowed).collect::<String>())
}

fn write_json_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::families::Labels;

    #[test]
    fn handles_of_one_name_share_one_value() {
        let metrics = Metrics::new();
        metrics.counter("master/tasks_finished").inc();
        metrics.clone().counter("master/tasks_finished").add(2);
        let gauge = metrics.gauge("master/tasks_running");
        gauge.set(5.0);
        gauge.add(-1.5);
        assert_eq!(
            metrics.render_snapshot(),
            r#"{"master/tasks_finished":3,"master/tasks_running":3.5}"#
        );
    }

    #[test]
    #[should_panic(expected = "the metric master/elected is not a counter")]
    fn a_name_has_one_kind() {
        let metrics = Metrics::new();
        metrics.gauge("master/elected");
        metrics.counter("master/elected");
    }

    #[test]
    fn sources_are_read_each_time() {
        let metrics = Metrics::new();
        let tasks = Counter::default();
        let seen = tasks.clone();
        metrics.source(move |readings| {
            readings.counter("a/finished", seen.get());
            readings.gauge("a/nothing", f64::NAN);
        });
        metrics.gauge_fn("b/up", || 1.0);
        assert_eq!(metrics.render_snapshot(), r#"{"a/finished":0,"b/up":1}"#);
        tasks.inc();
        assert_eq!(metrics.snapshot()["a/finished"], 1.0);
    }

    #[test]
    fn names_are_escaped_and_the_snapshot_is_json() {
        let metrics = Metrics::new();
        metrics.gauge("roles/a\"\\\n/x").set(1e300);
        metrics.register_system();
        let json: serde_json::Value = serde_json::from_str(&metrics.render_snapshot()).unwrap();
        assert_eq!(json["roles/a\"\\\n/x"], 1e300);
        assert!(json["system/cpus_total"].as_f64().unwrap() >= 1.0);
    }

    #[test]
    fn prometheus_sees_every_kind_under_a_derived_name() {
        let metrics = Metrics::new();
        metrics.counter("master/tasks_finished").add(3);
        metrics.gauge("master/tasks_running").set(2.0);
        metrics.gauge("master/tasks-running").set(9.0);
        metrics.timer("registrar/state_store_ms").observe(Duration::from_millis(3));
        metrics.source(|readings| readings.counter("agent/x", 1));
        let family = prometheus_client::metrics::family::Family::<
            Vec<(String, String)>,
            prometheus_client::metrics::counter::Counter,
        >::default();
        metrics.register_native(|registry| registry.register("calls", "Calls", family.clone()));
        family.get_or_create(&vec![("type".to_owned(), "ACCEPT".to_owned())]).inc();
        metrics.family_source(|families| {
            for (task, seconds) in [("a", 1.5), ("b\"", 2.0)] {
                let labels = Labels::new([("task", task), ("role", "*")]);
                families.counter("task_cpu_seconds", &labels, seconds);
                families.gauge("task_memory_bytes", &labels, 4096.0);
            }
        });
        let text = metrics.render_prometheus();
        for line in [
            "# TYPE mezzo_master_tasks_finished counter",
            "mezzo_master_tasks_finished_total 3",
            // The one that sorts first wins where two derive the same name.
            "mezzo_master_tasks_running 9.0",
            "# TYPE mezzo_registrar_state_store_seconds histogram",
            "mezzo_registrar_state_store_seconds_count 1",
            "mezzo_agent_x_total 1.0",
            "calls_total{type=\"ACCEPT\"} 1",
            "# TYPE mezzo_task_cpu_seconds counter",
            "mezzo_task_cpu_seconds_total{task=\"a\",role=\"*\"} 1.5",
            "mezzo_task_cpu_seconds_total{task=\"b\\\"\",role=\"*\"} 2.0",
            "mezzo_task_memory_bytes{task=\"a\",role=\"*\"} 4096.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|held| held == line), "{line} is not in:\n{text}");
        }
        assert_eq!(text.matches("# TYPE mezzo_master_tasks_running ").count(), 1);
        assert!(text.ends_with("# EOF\n"));
    }
}
