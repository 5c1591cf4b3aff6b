//! The allocator with a stop-watch: it reads no clock itself.

use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_master_allocator::{AgentOptions, DrfAllocator};
use mezzo_master_allocator::{Allocation, Allocator, FrameworkOptions, Quota, Violation};
use mezzo_telemetry::{Counter, Metrics, Timer};
use mezzo_types::{AgentId, Conversion, ConversionError, FrameworkId, Now, Resources};

/// Passes everything on, and tells how long passes take and how late they begin.
pub(crate) struct TimedAllocator {
    inner: DrfAllocator,
    runs: Counter,
    run: Timer,
    latency: Timer,
}

impl TimedAllocator {
    pub(crate) fn new(inner: DrfAllocator, metrics: &Metrics) -> Self {
        Self {
            inner,
            runs: metrics.counter("allocator/mesos/allocation_runs"),
            run: metrics.timer("allocator/mesos/allocation_run_ms"),
            latency: metrics.timer("allocator/mesos/allocation_run_latency_ms"),
        }
    }
}

impl Allocator for TimedAllocator {
    fn allocate(&mut self, now: Now) -> Vec<Allocation> {
        if let Some(late) = self.inner.poll_timeout().and_then(|due| now.mono_ns.checked_sub(due)) {
            self.latency.observe(Duration::from_nanos(late));
        }
        self.runs.inc();
        let _timing = self.run.start();
        self.inner.allocate(now)
    }

    fn add_framework(&mut self, now: Now, framework: &FrameworkId, options: FrameworkOptions) {
        self.inner.add_framework(now, framework, options);
    }

    fn update_framework(&mut self, now: Now, framework: &FrameworkId, options: FrameworkOptions) {
        self.inner.update_framework(now, framework, options);
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        self.inner.remove_framework(framework);
    }

    fn activate_framework(&mut self, now: Now, framework: &FrameworkId) {
        self.inner.activate_framework(now, framework);
    }

    fn deactivate_framework(&mut self, framework: &FrameworkId) {
        self.inner.deactivate_framework(framework);
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[String]) {
        self.inner.suppress(framework, roles);
    }

    fn revive(&mut self, now: Now, framework: &FrameworkId, roles: &[String]) {
        self.inner.revive(now, framework, roles);
    }

    fn add_agent(
        &mut self,
        now: Now,
        agent: &AgentId,
        total: Resources,
        used: BTreeMap<(FrameworkId, String), Resources>,
        options: AgentOptions,
    ) {
        self.inner.add_agent(now, agent, total, used, options);
    }

    fn update_agent(&mut self, now: Now, agent: &AgentId, total: Resources) {
        self.inner.update_agent(now, agent, total);
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        self.inner.remove_agent(agent);
    }

    fn activate_agent(&mut self, now: Now, agent: &AgentId) {
        self.inner.activate_agent(now, agent);
    }

    fn deactivate_agent(&mut self, agent: &AgentId) {
        self.inner.deactivate_agent(agent);
    }

    fn set_weight(&mut self, now: Now, role: &str, weight: f64) {
        self.inner.set_weight(now, role, weight);
    }

    fn set_quota(&mut self, now: Now, role: &str, quota: Quota) {
        self.inner.set_quota(now, role, quota);
    }

    fn await_agent(
        &mut self,
        agent: &AgentId,
        total: Resources,
        used: BTreeMap<String, Resources>,
    ) {
        self.inner.await_agent(agent, total, used);
    }

    fn charge(&mut self, framework: &FrameworkId, agent: &AgentId, resources: &Resources) {
        self.inner.charge(framework, agent, resources);
    }

    fn recover(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
        refuse: Option<Duration>,
    ) {
        self.inner.recover(now, framework, agent, resources, refuse);
    }

    fn convert_allocated(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        self.inner.convert_allocated(now, framework, agent, steps)
    }

    fn convert_available(
        &mut self,
        now: Now,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        self.inner.convert_available(now, agent, steps)
    }

    fn offer_ended(&mut self, now: Now, agent: &AgentId, resources: &Resources) {
        self.inner.offer_ended(now, agent, resources);
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.inner.poll_timeout()
    }

    fn check_invariants(&self) -> Result<(), Violation> {
        self.inner.check_invariants()
    }
}
