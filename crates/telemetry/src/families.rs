//! Metrics of many like things, told apart by labels: tasks, roles. Only Prometheus sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

/// What tells one thing from the others. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    of: Arc<Vec<(&'static str, String)>>,
    /// What tells apart the parts of one thing.
    part: Vec<(&'static str, &'static str)>,
}

impl Labels {
    pub fn new<'v>(labels: impl IntoIterator<Item = (&'static str, &'v str)>) -> Self {
        let owned = labels.into_iter().map(|(name, value)| (name, value.to_owned()));
        Labels { of: Arc::new(owned.collect()), part: Vec::new() }
    }

    /// These and more, for one part of the same thing.
    #[must_use]
    pub fn with(&self, part: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let mut labels = self.clone();
        labels.part.extend(part);
        labels
    }

    fn is_empty(&self) -> bool {
        self.of.is_empty() && self.part.is_empty()
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in &*self.of {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        for label in &self.part {
            label.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Values read for one rendering. Names are without the common beginning `mezzo_`, and counters without `_total`.
#[derive(Debug, Default)]
pub struct Families {
    all: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    kind: MetricType,
    values: Vec<(Labels, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Histogram { sum: f64, buckets: Vec<(f64, u64)> },
}

impl Families {
    /// An amount that only grows.
    pub fn counter(&mut self, name: &'static str, labels: &Labels, value: f64) {
        self.add(name, MetricType::Counter, labels, Value::Number(value));
    }

    /// A value that may rise and fall.
    pub fn gauge(&mut self, name: &'static str, labels: &Labels, value: f64) {
        self.add(name, MetricType::Gauge, labels, Value::Number(value));
    }

    /// Observations by size, with their sum. A bucket is its upper bound and the number of observations that are in no bucket
    /// before it; bounds rise, and what is above the last one has the bound [`f64::INFINITY`].
    pub fn histogram(
        &mut self,
        name: &'static str,
        labels: &Labels,
        sum: f64,
        mut buckets: Vec<(f64, u64)>,
    ) {
        // Without it the text would not be a histogram to Prometheus.
        if buckets.last().is_none_or(|(bound, _)| bound.is_finite()) {
            buckets.push((f64::INFINITY, 0));
        }
        self.add(name, MetricType::Histogram, labels, Value::Histogram { sum, buckets });
    }

    fn add(&mut self, name: &'static str, kind: MetricType, labels: &Labels, value: Value) {
        let family = self.all.entry(name).or_insert_with(|| Family { kind, values: Vec::new() });
        family.values.push((labels.clone(), value));
    }

    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, Family { kind, values }) in &self.all {
            let name = format!("mezzo_{name}");
            let mut family = encoder.encode_descriptor(&name, &name, None, *kind)?;
            for (labels, value) in values {
                if labels.is_empty() {
                    value.encode(*kind, &mut family)?;
                } else {
                    value.encode(*kind, &mut family.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricType, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Histogram { sum, buckets } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
            Value::Number(value) => match kind {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, f64, u64>(value, None),
                _ => metric.encode_gauge(value),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn parts_and_histograms_have_their_labels() {
        let metrics = Metrics::new();
        metrics.family_source(|families| {
            let task = Labels::new([("task", "a")]);
            let part = task.with([("family", "ipv4"), ("direction", "in")]);
            families.counter("task_network_bytes", &part, 7.0);
            let waits = vec![(0.25, 2), (1.0, 0), (f64::INFINITY, 1)];
            families.histogram("task_wait_seconds", &task, 9.5, waits);
            families.histogram("task_other_seconds", &task, 0.5, vec![(1.0, 1)]);
            families.gauge("entries", &Labels::default(), 3.0);
        });
        let text = metrics.render_prometheus();
        for line in [
            r#"mezzo_task_network_bytes_total{task="a",family="ipv4",direction="in"} 7.0"#,
            "# TYPE mezzo_task_wait_seconds histogram",
            r#"mezzo_task_wait_seconds_sum{task="a"} 9.5"#,
            r#"mezzo_task_wait_seconds_count{task="a"} 3"#,
            r#"mezzo_task_wait_seconds_bucket{le="0.25",task="a"} 2"#,
            r#"mezzo_task_wait_seconds_bucket{le="1.0",task="a"} 2"#,
            r#"mezzo_task_wait_seconds_bucket{le="+Inf",task="a"} 3"#,
            r#"mezzo_task_other_seconds_bucket{le="+Inf",task="a"} 1"#,
            "mezzo_entries 3.0",
        ] {
            assert!(text.lines().any(|held| held == line), "{line} is not in:\n{text}");
        }
    }
}
