//! Values read for one rendering.

use std::collections::BTreeMap;

/// What a source of metrics fills in when it is read; names are Mesos'.
#[derive(Debug, Default)]
pub struct Readings {
    pub(crate) values: BTreeMap<String, Reading>,
}

/// One value and what it is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    Counter(f64),
    Gauge(f64),
}

impl Readings {
    /// A number of events since the process began; never falls.
    pub fn counter(&mut self, name: impl Into<String>, value: u64) {
        self.values.insert(name.into(), Reading::Counter(value as f64));
    }

    /// A value that may rise and fall.
    pub fn gauge(&mut self, name: impl Into<String>, value: f64) {
        self.values.insert(name.into(), Reading::Gauge(value));
    }
}
