//! The handle.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mezzo_agent_accounting::{
    Accounting, Admission, AdmitError, Delays, Feature, Grant, Lost, Options, PortPolicy,
    ReadError, Status, TaskId as Number, Usage,
};
use mezzo_types::ContainerId;
use tokio::sync::watch;

use super::book::Book;
use super::keeper;
use super::{AccountsOptions, Holder, Refusal};
use crate::cgroups::{Cgroups, ContainerCgroup};

/// What the kernel counts and guards for the containers of this agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accounts {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: AccountsOptions,
    pub(super) settings: Option<Options>,
    stage: Mutex<Stage>,
    settled: Condvar,
    pub(super) book: Mutex<Book>,
    /// True when nothing is opened any more.
    opened: watch::Sender<bool>,
    pub(super) end: keeper::End,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has been asked for yet.
    Idle,
    Opening,
    Open(Arc<Accounting>),
    /// There is none, and why.
    Absent(String),
}

/// Why a container cannot be counted and guarded as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AdmitFailed {
    #[error("the container has no directory in the cgroup v2 tree")]
    NoCgroup(#[source] Option<io::Error>),
    #[error("the kernel does not take the container into its accounts")]
    Admit(#[source] AdmitError),
    #[error(
        "its ports cannot be guarded, which --ports-policy=enforce asks for: {0}; mend that, or give --ports-policy=observe"
    )]
    Unguarded(String),
}

/// What all containers together have used, and how full the maps are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of all that ever were, running ones included, since this agent took over.
    pub usage: Usage,
    /// Containers that have departed since.
    pub departures: u64,
    /// Containers that are in the maps, and how many could be.
    pub entries: u64,
    pub capacity: u64,
    /// Events that found no room.
    pub lost: Lost,
}

impl Accounts {
    pub(crate) fn new(options: AccountsOptions, cgroups: &Cgroups) -> Self {
        let pins = options.pins(cgroups.root());
        let settings = cgroups.unified_root().map(|root| Options {
            delays: options.delays,
            capacity: options.capacity,
            ..Options::new(root, pins)
        });
        let stage = if !options.enabled {
            Stage::Absent("it is switched off with --ebpf=off".to_owned())
        } else if settings.is_none() {
            Stage::Absent(
                "this machine has no cgroup v2 tree; mount one, for instance at /sys/fs/cgroup/unified"
                    .to_owned(),
            )
        } else {
            Stage::Idle
        };
        let (opened, _) = watch::channel(!matches!(stage, Stage::Idle));
        let shared = Shared {
            options,
            settings,
            stage: Mutex::new(stage),
            settled: Condvar::new(),
            book: Mutex::default(),
            opened,
            end: keeper::End::default(),
        };
        Accounts { shared: Arc::new(shared) }
    }

    /// Takes over what an earlier agent has left, or begins, with the containers that are there already. Returns at once; whoever
    /// needs the outcome waits for it.
    pub(crate) fn begin(&self, there: Vec<(Holder, ContainerCgroup, Grant)>) {
        let mut stage = self.shared.stage();
        match &*stage {
            Stage::Idle => *stage = Stage::Opening,
            Stage::Absent(reason) => {
                tracing::warn!("nothing is counted or guarded by eBPF: {reason}");
                drop(stage);
                // What they were held to holds on for those that run. A start that finds none detaches it.
                if there.is_empty() {
                    self.discard();
                } else {
                    tracing::warn!(
                        containers = there.len(),
                        "what an earlier agent attached goes on for what runs already"
                    );
                }
                return;
            }
            Stage::Opening | Stage::Open(_) => return,
        }
        drop(stage);
        let mut running = Vec::new();
        let mut book = self.shared.book();
        for (holder, cgroup, grant) in there {
            // A group that is being removed has nothing to count any more.
            if let Ok(number) = number(&cgroup) {
                book.enter(holder, number);
                running.push((number, grant));
            }
        }
        drop(book);
        keeper::start(Arc::clone(&self.shared), running);
    }

    /// Waits until it is open; `None` if it is not to be.
    fn wait(&self) -> Option<Arc<Accounting>> {
        let stage = self.shared.stage();
        let opening = |stage: &mut Stage| matches!(stage, Stage::Opening);
        let stage = self.shared.settled.wait_while(stage, opening);
        stage.unwrap_or_else(PoisonError::into_inner).open()
    }

    fn now(&self) -> Option<Arc<Accounting>> {
        self.shared.stage().open()
    }

    /// Enters a container before any process is in its group, or changes what it may. Waits for the opening.
    ///
    /// # Errors
    /// The container must not start: it would not be guarded as it must be. Where there is no eBPF and nothing must be guarded,
    /// nothing fails.
    pub(crate) fn admit(
        &self,
        holder: Holder,
        cgroup: &ContainerCgroup,
        grant: &Grant,
    ) -> Result<(), AdmitFailed> {
        let accounting = self.wait();
        if grant.ports.policy == PortPolicy::Enforce
            && let Some(Status::Off(reason)) = self.features().remove(&Feature::Ports)
        {
            return Err(AdmitFailed::Unguarded(reason));
        }
        let Some(accounting) = accounting else { return Ok(()) };
        let number = number(cgroup)?;
        let container = holder.container.clone();
        self.shared.book().enter(holder, number);
        accounting.admit(number, grant).map_err(|error| {
            self.shared.book().leave(&container);
            AdmitFailed::Admit(error)
        })
    }

    /// Forgets a container whose last process is gone, and keeps what it has used in the totals.
    pub(crate) fn remove(&self, container: &ContainerId) {
        // What was heard of it would be nobody's afterwards.
        self.shared.drain();
        // While it is being opened: what the book does not know is removed then.
        let stage = self.shared.stage();
        let Some((holder, number)) = self.shared.book().leave(container) else { return };
        let Some(accounting) = stage.open() else { return };
        drop(stage);
        match accounting.remove(number) {
            Ok(usage) => {
                let usage = usage.unwrap_or_default();
                self.shared.book().depart(&usage);
                let counters = usage.counters;
                tracing::debug!(
                    framework = %holder.framework,
                    task = %holder.task,
                    container = %holder.container,
                    read_bytes = counters.read_bytes,
                    written_bytes = counters.written_bytes,
                    execs = counters.execs,
                    port_denials = counters.port_denials,
                    device_denials = counters.device_denials,
                    "final counters"
                );
            }
            Err(error) => {
                // The next start of the agent removes it.
                let error = mezzo_telemetry::chain(&error).to_string();
                tracing::warn!(container = %holder.container, error, "a container stays in the accounts");
            }
        }
    }

    /// What a container has used so far; `None` if it is not counted.
    pub fn usage(&self, container: &ContainerId) -> Option<Usage> {
        let accounting = self.now()?;
        let number = self.shared.book().number(container)?;
        let usage = accounting.usage(number).ok()??;
        Some(Usage { delays: self.delays(usage.delays), ..usage })
    }

    /// What all containers have used so far, in a few system calls.
    pub fn usages(&self) -> BTreeMap<ContainerId, Usage> {
        let Some(accounting) = self.now() else { return BTreeMap::new() };
        let (Ok(counters), Ok(delays)) = (accounting.snapshot(), accounting.delays()) else {
            return BTreeMap::new();
        };
        let delays = BTreeMap::from_iter(delays);
        let book = self.shared.book();
        let usage = |(number, counters): (Number, _)| {
            let delays = self.delays(delays.get(&number).copied().unwrap_or_default());
            Some((book.container(number)?.clone(), Usage { counters, delays }))
        };
        counters.into_iter().filter_map(usage).collect()
    }

    /// What was counted while they were kept says nothing when they are not.
    fn delays(&self, counted: Delays) -> Delays {
        if self.shared.options.delays { counted } else { Delays::default() }
    }

    /// What a container was kept from lately, oldest first.
    pub fn refusals(&self, container: &ContainerId) -> Vec<Refusal> {
        self.shared.drain();
        self.shared.book().refusals(container)
    }

    /// The wait status of a container's first process by the kernel's own word, for one whose init left none.
    pub(crate) fn ended(&self, container: &ContainerId) -> Option<i32> {
        self.wait()?;
        self.shared.drain();
        self.shared.book().ended(container)
    }

    /// What is counted and guarded on this machine, and why not.
    pub fn features(&self) -> BTreeMap<Feature, Status> {
        let off = |reason: &str| {
            let off = |feature| (feature, Status::Off(reason.to_owned()));
            Feature::ALL.into_iter().map(off).collect()
        };
        match &*self.shared.stage() {
            Stage::Idle | Stage::Opening => off("it is being set up"),
            Stage::Open(accounting) => accounting.state().features.clone(),
            Stage::Absent(reason) => off(reason),
        }
    }

    /// Whether the kernel keeps containers to their devices. Waits for the opening.
    pub(crate) fn guards_devices(&self) -> bool {
        self.wait();
        self.features().get(&Feature::Devices) == Some(&Status::On)
    }

    /// What each container and what all of them have used, from one look at the maps.
    pub fn survey(&self) -> (BTreeMap<ContainerId, Usage>, Totals) {
        // Before the look: a container that departs meanwhile is then missing for once, but never there twice.
        let (departed, departures) = {
            let book = self.shared.book();
            (book.departed, book.departures)
        };
        let usages = self.usages();
        let mut totals = Totals { usage: departed, departures, ..Totals::default() };
        for usage in usages.values() {
            totals.usage += usage;
        }
        if let Some(open) = self.now() {
            totals.capacity = u64::from(open.capacity());
            totals.lost = open.lost().unwrap_or_default();
        }
        let mut book = self.shared.book();
        totals.entries = book.len() as u64;
        totals.usage = book.raise(&totals.usage);
        (usages, totals)
    }

    /// Resolves when it has been opened, or is not to be.
    pub(crate) async fn opened(&self) {
        let mut opened = self.shared.opened.subscribe();
        // The sender is in `self`.
        let _ = opened.wait_for(|opened| *opened).await;
    }

    /// Stops listening. The kernel goes on.
    pub(crate) fn stop(&self) {
        self.shared.end.signal();
    }

    /// Detaches everything, when no container is left and none will come, or when eBPF is not wanted any more.
    pub(crate) fn discard(&self) {
        let Some(settings) = &self.shared.settings else { return };
        if self.wait().is_some() {
            self.shared.settle(Err("the agent has left".to_owned()));
            self.stop();
        }
        if let Err(error) = mezzo_agent_accounting::discard(&settings.pins) {
            let error = mezzo_telemetry::chain(&error).to_string();
            tracing::warn!(error, "eBPF programs stay attached");
        }
    }
}

impl Stage {
    fn open(&self) -> Option<Arc<Accounting>> {
        match self {
            Stage::Open(accounting) => Some(Arc::clone(accounting)),
            _ => None,
        }
    }
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        // Nothing panics while it is held.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the opening. What is in the maps and in no book goes: it ended while no agent looked, or while this one opened.
    pub(super) fn settle(&self, outcome: Result<Accounting, String>) {
        let mut stage = self.stage();
        let mut stale = None;
        *stage = match outcome {
            Ok(accounting) => {
                let accounting = Arc::new(accounting);
                let book = self.book();
                let unknown = accounting.tasks().map(|mut there| {
                    there.retain(|number| !book.knows(*number));
                    there
                });
                stale = Some((Arc::clone(&accounting), unknown));
                Stage::Open(accounting)
            }
            Err(reason) => Stage::Absent(reason),
        };
        drop(stage);
        self.settled.notify_all();
        self.opened.send_replace(true);
        // They may be many, and no number is given twice: nobody has to wait for it.
        if let Some((accounting, unknown)) = stale
            && let Err(error) = unknown.and_then(|there| self.remove_stale(&accounting, &there))
        {
            let error = mezzo_telemetry::chain(&error).to_string();
            tracing::warn!(error, "containers that are gone stay in the accounts");
        }
    }

    fn remove_stale(&self, accounting: &Accounting, stale: &[Number]) -> Result<(), ReadError> {
        for number in stale {
            if let Some(usage) = accounting.remove(*number)? {
                self.book().depart(&usage);
            }
        }
        Ok(())
    }
}

/// What the kernel calls a container.
fn number(cgroup: &ContainerCgroup) -> Result<Number, AdmitFailed> {
    let directory: Option<&Path> = cgroup.unified();
    let directory = directory.ok_or(AdmitFailed::NoCgroup(None))?;
    Number::of(directory).map_err(|error| AdmitFailed::NoCgroup(Some(error)))
}

/// A task that runs already, for the opening.
pub(super) type Running = Vec<Admission>;
