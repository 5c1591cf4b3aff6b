//! Metrics of many like things, told apart by labels: tasks, roles. Only Prometheus sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// What tells one thing from the others. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Arc<Vec<(&'static str, String)>>);

impl Labels {
    pub fn new<'v>(labels: impl IntoIterator<Item = (&'static str, &'v str)>) -> Self {
        let owned = labels.into_iter().map(|(name, value)| (name, value.to_owned()));
        Labels(Arc::new(owned.collect()))
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
    values: Vec<(Labels, f64)>,
}

impl Families {
    /// An amount that only grows.
    pub fn counter(&mut self, name: &'static str, labels: &Labels, value: f64) {
        self.add(name, MetricType::Counter, labels, value);
    }

    /// A value that may rise and fall.
    pub fn gauge(&mut self, name: &'static str, labels: &Labels, value: f64) {
        self.add(name, MetricType::Gauge, labels, value);
    }

    fn add(&mut self, name: &'static str, kind: MetricType, labels: &Labels, value: f64) {
        let family = self.all.entry(name).or_insert_with(|| Family { kind, values: Vec::new() });
        family.values.push((labels.clone(), value));
    }

    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        for (name, Family { kind, values }) in &self.all {
            let name = format!("mezzo_{name}");
            let mut family = encoder.encode_descriptor(&name, &name, None, *kind)?;
            for (labels, value) in values {
                let mut metric = family.encode_family(&*labels.0)?;
                match kind {
                    MetricType::Counter => {
                        metric.encode_counter::<NoLabelSet, f64, u64>(value, None)?
                    }
                    _ => metric.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}
