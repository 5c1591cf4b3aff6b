//! What running tasks use, read from the kernel when somebody asks and never in between: from the files of their control groups,
//! and from the accounts that eBPF programs keep.

mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezzo_agent_accounting::{self as accounting, Feature, Status};
use mezzo_proto::v1;
use mezzo_proto::v1::agent::{Denial, FeatureOff, KernelStatistics};
use mezzo_types::{ContainerId, FrameworkId, TaskId};

use crate::accounts::Totals;
use crate::cgroups::Usage;
use crate::clock::Clock;
use crate::containerizer::Containerizer;
use crate::view::View;

/// A task that runs, as far as measuring it goes.
#[derive(Clone, Debug)]
pub(crate) struct Metered {
    pub(crate) framework: FrameworkId,
    pub(crate) task: TaskId,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) container: ContainerId,
    pub(crate) status: Option<v1::ContainerStatus>,
    /// Processors asked for, and the most it may use; none if only the machine limits it.
    pub(crate) cpus: f64,
    pub(crate) cpus_limit: Option<f64>,
}

/// What one task uses.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) of: Metered,
    pub(crate) usage: Usage,
    /// What the kernel counted of it; none if it is not in the accounts.
    pub(crate) kernel: Option<accounting::Usage>,
    /// Both as Mesos tells it.
    pub(crate) statistics: v1::ResourceStatistics,
}

/// What the kernel counts and guards on this machine, and what it does not, with the reasons.
#[derive(Clone, Debug, Default)]
pub(crate) struct Features {
    pub(crate) on: BTreeSet<Feature>,
    pub(crate) off: BTreeMap<Feature, String>,
}

/// What tasks use, in order of framework and task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) tasks: Vec<Reading>,
    pub(crate) features: Features,
}

impl Reading {
    /// What the kernel counted of it, as far as it counts here.
    pub(crate) fn kernel(&self, features: &Features) -> Option<KernelStatistics> {
        self.kernel.as_ref().map(|usage| kernel::statistics(usage, &features.on))
    }
}

impl Features {
    fn new(all: BTreeMap<Feature, Status>) -> Self {
        let mut features = Features::default();
        for (feature, status) in all {
            match status {
                Status::On => drop(features.on.insert(feature)),
                Status::Off(reason) => drop(features.off.insert(feature, reason)),
            }
        }
        features
    }

    /// Those that are off, for messages.
    pub(crate) fn told(&self) -> Vec<FeatureOff> {
        let off = |(feature, reason): (&Feature, &String)| FeatureOff {
            name: feature.name().to_owned(),
            reason: reason.clone(),
            instead: feature.fallback().to_owned(),
        };
        self.off.iter().map(off).collect()
    }
}

/// Reads what tasks use. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    view: View,
    containers: Option<Containerizer>,
    clock: Clock,
    /// One reading at a time: many who ask cost no more at once than one does.
    turn: Arc<Mutex<()>>,
}

impl Meter {
    pub(crate) fn new(view: View, containers: Containerizer, clock: Clock) -> Self {
        Meter { view, containers: Some(containers), clock, turn: Arc::default() }
    }

    /// Of an agent that has no containers.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        Meter {
            view: View::default(),
            containers: None,
            clock: Clock::start(),
            turn: Arc::default(),
        }
    }

    /// All running tasks, and what all that ever ran have used together. One that ends meanwhile is left out. Blocks for some reads
    /// of kernel files per task, and for one look at the kernel's accounts.
    pub(crate) fn all(&self) -> (Readings, Totals) {
        let Some(containers) = &self.containers else { return Default::default() };
        let _turn = self.turn();
        let features = Features::new(containers.features());
        let (mut kernel, totals) = containers.accounts().survey();
        let tasks = self.view.metered(None).into_iter();
        let read = |of: Metered| {
            let kernel = kernel.remove(&of.container);
            self.reading(containers, of, kernel, &features)
        };
        let tasks = tasks.filter_map(read).collect();
        (Readings { tasks, features }, totals)
    }

    /// Those running tasks that are wanted: nothing else is measured for it.
    pub(crate) fn some(&self, wanted: impl Fn(&Metered) -> bool) -> Readings {
        let Some(containers) = &self.containers else { return Readings::default() };
        let _turn = self.turn();
        let features = Features::new(containers.features());
        let tasks = self.view.metered(None).into_iter().filter(wanted);
        let tasks = self.each(containers, tasks, &features);
        Readings { tasks, features }
    }

    /// One task, if it runs, and what it was refused lately, oldest first.
    pub(crate) fn one(&self, key: &(FrameworkId, TaskId)) -> (Readings, Vec<Denial>) {
        let Some(containers) = &self.containers else { return Default::default() };
        let _turn = self.turn();
        let features = Features::new(containers.features());
        let accounts = containers.accounts();
        let tasks = self.each(containers, self.view.metered(Some(key)).into_iter(), &features);
        let refusals = tasks.iter().flat_map(|task| accounts.refusals(&task.of.container));
        let denials = refusals.filter_map(|refusal| kernel::denial(&refusal)).collect();
        (Readings { tasks, features }, denials)
    }

    /// Looks for each by itself in the kernel's accounts: for few.
    fn each(
        &self,
        containers: &Containerizer,
        tasks: impl Iterator<Item = Metered>,
        features: &Features,
    ) -> Vec<Reading> {
        let read = |of: Metered| {
            let kernel = containers.accounts().usage(&of.container);
            self.reading(containers, of, kernel, features)
        };
        tasks.filter_map(read).collect()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(
        &self,
        containers: &Containerizer,
        of: Metered,
        kernel: Option<accounting::Usage>,
        features: &Features,
    ) -> Option<Reading> {
        let usage = containers.usage(&of.container)?;
        let mut statistics = statistics(&of, &usage, self.clock.now().unix_secs_f64());
        if let Some(kernel) = &kernel {
            kernel::fill(&mut statistics, &kernel.counters, &features.on);
        }
        Some(Reading { of, usage, kernel, statistics })
    }
}

/// `timestamp` is in seconds since 1970. What is not counted is absent.
fn statistics(of: &Metered, usage: &Usage, timestamp: f64) -> v1::ResourceStatistics {
    let count = |count: u64| Some(u32::try_from(count).unwrap_or(u32::MAX));
    let mut statistics = v1::ResourceStatistics {
        timestamp,
        cpus_limit: of.cpus_limit,
        cpus_soft_limit: Some(of.cpus),
        threads: usage.pids.and_then(count),
        ..v1::ResourceStatistics::default()
    };
    if let Some(cpu) = &usage.cpu {
        let seconds = |ns: u64| Some(ns as f64 / 1e9);
        statistics.cpus_user_time_secs = seconds(cpu.user_ns);
        statistics.cpus_system_time_secs = seconds(cpu.system_ns);
        statistics.cpus_nr_periods = count(cpu.periods);
        statistics.cpus_nr_throttled = count(cpu.throttled_periods);
        statistics.cpus_throttled_time_secs = seconds(cpu.throttled_ns);
    }
    if let Some(memory) = &usage.memory {
        let limit = |bytes: u64| (bytes != u64::MAX).then_some(bytes);
        statistics.mem_total_bytes = Some(memory.bytes);
        statistics.mem_total_memsw_bytes = Some(memory.bytes.saturating_add(memory.swap_bytes));
        statistics.mem_limit_bytes = limit(memory.limit_bytes);
        statistics.mem_soft_limit_bytes = limit(memory.soft_limit_bytes);
        // As Mesos has it: resident is what is anonymous, and "file" and "cache" are one.
        statistics.mem_rss_bytes = Some(memory.anon_bytes);
        statistics.mem_anon_bytes = Some(memory.anon_bytes);
        statistics.mem_file_bytes = Some(memory.cache_bytes);
        statistics.mem_cache_bytes = Some(memory.cache_bytes);
        statistics.mem_mapped_file_bytes = Some(memory.mapped_bytes);
        statistics.mem_unevictable_bytes = Some(memory.unevictable_bytes);
        statistics.mem_swap_bytes = Some(memory.swap_bytes);
    }
    statistics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::{CpuUsage, MemoryUsage};

    #[test]
    fn figures_are_in_mesos_units() {
        let of = Metered {
            framework: "f".into(),
            task: "t".into(),
            name: "t".to_owned(),
            role: "*".to_owned(),
            container: "c".into(),
            status: None,
            cpus: 0.5,
            cpus_limit: None,
        };
        let cpu = CpuUsage {
            user_ns: 1_500_000_000,
            throttled_ns: 20_000_000,
            periods: 7,
            ..CpuUsage::default()
        };
        let memory = MemoryUsage {
            bytes: 10,
            swap_bytes: 5,
            anon_bytes: 4,
            limit_bytes: u64::MAX,
            soft_limit_bytes: 32 << 20,
            ..MemoryUsage::default()
        };
        let usage = Usage { cpu: Some(cpu), memory: Some(memory), pids: Some(3) };
        let told = statistics(&of, &usage, 1.5);
        assert_eq!((told.timestamp, told.cpus_user_time_secs), (1.5, Some(1.5)));
        assert_eq!((told.cpus_throttled_time_secs, told.cpus_nr_periods), (Some(0.02), Some(7)));
        assert_eq!((told.cpus_limit, told.cpus_soft_limit), (None, Some(0.5)));
        assert_eq!((told.mem_total_memsw_bytes, told.mem_rss_bytes), (Some(15), Some(4)));
        assert_eq!((told.mem_limit_bytes, told.mem_soft_limit_bytes), (None, Some(32 << 20)));
        assert_eq!(told.threads, Some(3));
        let nothing = statistics(&of, &Usage::default(), 1.5);
        assert_eq!((nothing.cpus_soft_limit, nothing.cpus_user_time_secs), (Some(0.5), None));
        assert_eq!((nothing.mem_total_bytes, nothing.threads), (None, None));
    }
}
