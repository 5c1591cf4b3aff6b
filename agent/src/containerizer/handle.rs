//! The handle that the agent holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mezzo_agent_accounting::{Devices, Feature, Grant, PortPolicy, Status};
use mezzo_proto::storage::v1::ContainerRecord;
use mezzo_telemetry::Counter;
use mezzo_types::{AgentId, ContainerId, ExecutorId, FrameworkId, Resources};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{self, JoinSet};

use super::link::{LauncherLink, ORDERS_MAX, Routes, push};
use super::process::ExitWatch;
use super::recover::{self, Found};
use super::report::chain;
use super::run::{Command, Order, Run};
use super::update::Change;
use super::{
    Check, ContainerEvent, ContainerizerConfig, DeviceGuard, LaunchSpec, LaunchStage, Observed,
    Places, StartError,
};
use crate::accounts::{Accounts, Holder};
use crate::cgroups::{Cgroups, ContainerCgroup, Facts, Usage};
use crate::checks::Checks;
use crate::fetcher::{Fetcher, Fetches};
use crate::gpus::{Gpus, TooFew};
use crate::isolators::{Demand, Isolators};
use crate::sandbox::{SandboxError, SandboxOf, Sandboxes, sandbox_path};

/// Launches that make directories and control groups at the same time; the kernel does most of it under one lock, so more would only wait.
const LAUNCHES_AT_ONCE: usize = 8;
/// Tasks that fetch at the same time.
const FETCHES_AT_ONCE: usize = 8;
/// How long the launcher may take to end when asked to.
const LAUNCHER_END: Duration = Duration::from_secs(5);

/// What all containers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: ContainerizerConfig,
    pub(super) cgroups: Cgroups,
    pub(super) accounts: Accounts,
    /// What recovery found for the accounts, until they are opened.
    pub(super) accountable: Mutex<Vec<(Holder, ContainerCgroup, Grant)>>,
    /// Known when it was looked for.
    pub(super) device_guard: OnceLock<DeviceGuard>,
    pub(super) isolators: Isolators,
    pub(super) sandboxes: Sandboxes,
    pub(super) fetcher: Fetcher,
    /// Containers that could not be destroyed, or not for long.
    pub(super) destroy_errors: Counter,
    pub(super) link: LauncherLink,
    pub(super) routes: Routes,
    pub(super) null: OwnedFd,
    pub(super) checks: Arc<Checks>,
    pub(super) boot_id: String,
    pub(super) events: mpsc::Sender<ContainerEvent>,
    pub(super) launches: Semaphore,
    pub(super) fetches: Semaphore,
}

impl Shared {
    pub(super) fn gpus(&self) -> &Gpus {
        &self.config.isolation_options.gpus
    }

    pub(super) fn exit_dir(&self) -> PathBuf {
        self.config.runtime_dir.join("exits")
    }

    pub(super) fn exit_path(&self, name: &str) -> PathBuf {
        self.exit_dir().join(name)
    }

    pub(super) fn exit_name(id: &str) -> String {
        id.to_owned()
    }
}

/// All containers of an agent. Cheap to clone; every method returns at once unless it says that it blocks.
#[derive(Clone, Debug)]
pub struct Containerizer {
    shared: Arc<Shared>,
    /// `None` once stopped.
    runs: Arc<Mutex<Option<JoinSet<()>>>>,
}

impl Containerizer {
    /// Finds out what the machine has, takes the cgroup root and gets a launcher: the one that runs, or a new one. Events go to
    /// `events`; while it is full, containers wait. Call [`recover`](Self::recover) next.
    pub async fn start(
        config: ContainerizerConfig,
        events: mpsc::Sender<ContainerEvent>,
    ) -> Result<Self, StartError> {
        let started = task::spawn_blocking(move || Self::start_blocking(config, events));
        started.await.unwrap_or(Err(StartError::Stopping))
    }

    fn start_blocking(
        config: ContainerizerConfig,
        events: mpsc::Sender<ContainerEvent>,
    ) -> Result<Self, StartError> {
        for (what, path) in
            [("work directory", &config.work_dir), ("runtime directory", &config.runtime_dir)]
        {
            if !path.is_absolute() {
                return Err(StartError::Relative { what, path: path.clone() });
            }
        }
        let isolators = Isolators::parse(&config.isolation, &config.isolation_options)
            .map_err(StartError::Isolation)?;
        let facts = Facts::probe().map_err(StartError::Facts)?;
        let cgroups = Cgroups::open(&facts, &config.cgroups_root, &isolators.controllers())
            .map_err(StartError::Cgroups)?;
        let exits = config.runtime_dir.join("exits");
        for dir in [&config.work_dir, &exits] {
            fs::create_dir_all(dir)
                .map_err(|source| StartError::Directory { path: dir.clone(), source })?;
        }
        let sandboxes = Sandboxes::start(&config.work_dir, config.sandboxes)
            .map_err(|source| StartError::Sandboxes { path: config.work_dir.clone(), source })?;
        let null: OwnedFd = fs::File::open("/dev/null").map_err(StartError::Null)?.into();
        let checks = Arc::new(Checks::new().map_err(StartError::Null)?);
        let boot_id = mezzo_agent_sys::boot_id().map_err(StartError::BootId)?;
        let launcher_group = cgroups.launcher().map_err(StartError::Cgroups)?;
        let routes = Routes::default();
        let link = LauncherLink::new(
            config.launcher.clone(),
            config.runtime_dir.join("launcher.sock"),
            config.runtime_dir.join("launcher.log"),
            launcher_group.directories().map(|dir| dir.join("cgroup.procs")).collect(),
            routes.clone(),
        );
        link.client().map_err(StartError::Launcher)?;
        tracing::info!(
            layout = ?facts.layout(),
            isolation = isolators.names().join(","),
            root = config.cgroups_root,
            "containers are ready"
        );
        let shared = Arc::new(Shared {
            accounts: Accounts::new(config.accounts.clone(), &cgroups),
            accountable: Mutex::default(),
            device_guard: OnceLock::new(),
            config,
            cgroups,
            isolators,
            sandboxes,
            fetcher: Fetcher::default(),
            destroy_errors: Counter::default(),
            link,
            routes,
            null,
            checks,
            boot_id,
            events,
            launches: Semaphore::new(LAUNCHES_AT_ONCE),
            fetches: Semaphore::new(FETCHES_AT_ONCE),
        });
        Ok(Containerizer { shared, runs: Arc::new(Mutex::new(Some(JoinSet::new()))) })
    }

    /// This boot's id, as records keep it.
    pub fn boot_id(&self) -> &str {
        &self.shared.boot_id
    }

    /// Where the parts of a container will be, for its record.
    pub fn places(
        &self,
        agent: &AgentId,
        framework: &FrameworkId,
        executor: &ExecutorId,
        container: &ContainerId,
    ) -> Result<Places, SandboxError> {
        let of = SandboxOf {
            agent: agent.clone(),
            framework: framework.clone(),
            executor: executor.clone(),
            container: container.clone(),
        };
        Ok(Places {
            sandbox: sandbox_path(&self.shared.config.work_dir, &of)?,
            cgroup: self.shared.cgroups.path_of(container.as_str()),
            exit_file: Shared::exit_name(container.as_str()),
        })
    }

    /// Which GPUs a container has, by id: those that its resources ask for are given to it, unless it has some already. To be
    /// written down before the launch is ordered.
    pub fn assign_gpus(
        &self,
        container: &ContainerId,
        resources: &Resources,
    ) -> Result<Vec<String>, TooFew> {
        // A fraction fails at the launch, with a sentence; this rounds it down.
        let wanted = usize::try_from(resources.gpus().thousandths() / 1000).unwrap_or(0);
        self.shared.gpus().assign(container, wanted)
    }

    /// As [`assign_gpus`](Self::assign_gpus), for a container whose resources change while it runs. One that cannot have
    /// what it asks for keeps what it has, and its change fails.
    pub fn reassign_gpus(&self, container: &ContainerId, resources: &Resources) -> Vec<String> {
        let wanted = usize::try_from(resources.gpus().thousandths() / 1000).unwrap_or(0);
        self.shared.gpus().resize(container, wanted).unwrap_or_else(|error| {
            tracing::warn!(%container, %error, "no further GPUs for a container");
            self.shared.gpus().of(container)
        })
    }

    /// Takes up what an earlier run of the agent left: every container that is written down in this boot, known to the launcher or has a
    /// control group. Those that are not in `records` are nobody's and should be destroyed. From here on events tell what becomes
    /// of all of them; an ending that is returned here is not told again.
    pub async fn recover(
        &self,
        records: Vec<ContainerRecord>,
    ) -> Result<BTreeMap<ContainerId, Observed>, StartError> {
        let shared = Arc::clone(&self.shared);
        let this = self.clone();
        let looked = task::spawn_blocking(move || {
            let mut found = recover::look(&shared, &records)?;
            recover::witness(&shared, &mut found);
            *shared.accountable.lock().unwrap_or_else(PoisonError::into_inner) =
                recover::accountable(&found);
            recover::hold_gpus(&shared, &records, &found);
            for found in &found {
                shared.sandboxes.take_up(&found.id, &found.places.sandbox);
            }
            let recorded = records.iter().map(|record| record.container_id.as_str().into());
            Ok((found, recorded.collect::<BTreeSet<ContainerId>>()))
        });
        let (found, recorded) = looked.await.unwrap_or(Err(StartError::Stopping))?;
        let observed = found.into_iter().map(|found| this.take_up(found)).collect();
        self.shared.routes.settle();
        // Nothing waits for it: old sandboxes may be many.
        let sandboxes = self.shared.sandboxes.clone();
        task::spawn_blocking(move || sandboxes.scan(&recorded));
        Ok(observed)
    }

    fn take_up(&self, found: Found) -> (ContainerId, Observed) {
        let Found { id, observed, command, cgroup, places, told, account: _ } = found;
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        // A breach that is returned here is not told again.
        let limited = match &observed {
            Observed::NotStarted | Observed::Launching | Observed::Failed { .. } => false,
            Observed::Running { limitation, .. } | Observed::Ended { limitation, .. } => {
                limitation.is_some()
            }
        };
        let run = Run {
            shared: Arc::clone(&self.shared),
            id: id.clone(),
            places,
            orders: inbox,
            command,
            cgroup,
            exit: ExitWatch::none(),
            limited,
            looks: JoinSet::new(),
            early_signals: Vec::new(),
            early_changes: Vec::new(),
        };
        if self.shared.routes.add(id.clone(), orders.clone()) {
            if !told && matches!(command, Command::Running(_)) {
                // Its launcher is gone: it watches for itself.
                push(&orders, Order::LauncherLost);
            }
            self.spawn(run.live());
        }
        (id, observed)
    }

    /// Starts a container. All outcomes are events.
    pub fn launch(&self, spec: LaunchSpec) {
        let id = spec.container_id.clone();
        let places =
            self.places(&spec.agent_id, &spec.framework_id, &spec.executor_id, &spec.container_id);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let failed = |stage, message| {
            let event = ContainerEvent::LaunchFailed { container: id.clone(), stage, message };
            let events = self.shared.events.clone();
            self.spawn(async move {
                let _ = events.send(event).await;
            });
        };
        let places = match places {
            Ok(places) => places,
            Err(e) => return failed(LaunchStage::Sandbox, chain(&e)),
        };
        if !self.shared.routes.add(id.clone(), orders) {
            return failed(LaunchStage::Task, format!("container '{id}' exists already"));
        }
        let run = Run {
            shared: Arc::clone(&self.shared),
            id: id.clone(),
            places,
            orders: inbox,
            command: Command::None,
            cgroup: None,
            exit: ExitWatch::none(),
            limited: false,
            looks: JoinSet::new(),
            early_signals: Vec::new(),
            early_changes: Vec::new(),
        };
        self.spawn(run.launch(spec));
    }

    /// Changes what the container of an executor may use. Answered by [`ContainerEvent::Updated`] unless the container ends.
    pub fn update(
        &self,
        container: &ContainerId,
        framework: &FrameworkId,
        executor: &ExecutorId,
        resources: Resources,
        grant: u64,
    ) {
        let change =
            Change { framework: framework.clone(), executor: executor.clone(), resources, grant };
        if !self.shared.routes.send(container.as_str(), Order::Update(Box::new(change))) {
            tracing::debug!(%container, grant, "no such container to change");
        }
    }

    /// Sends a signal to the container's command, at once or as soon as it runs. For SIGKILL use [`destroy`](Self::destroy): it cannot be
    /// passed on, and would hit the container's init.
    pub fn signal(&self, container: &ContainerId, signal: i32) {
        if !self.shared.routes.send(container.as_str(), Order::Signal(signal)) {
            tracing::debug!(%container, signal, "no such container to signal");
        }
    }

    /// Looks at a container whose command runs, once; answered by [`ContainerEvent::Checked`]. `false`: there is no such container.
    pub fn check(&self, container: &ContainerId, check: Check) -> bool {
        self.shared.routes.send(container.as_str(), Order::Check(Box::new(check)))
    }

    /// Ends the container in whatever stage it is: cancels its launch, kills its processes, removes its control groups. Answered by
    /// [`ContainerEvent::Destroyed`], also when there is no such container; before it, if its command ran and had not ended,
    /// by [`ContainerEvent::Exited`].
    pub fn destroy(&self, container: &ContainerId) {
        self.shared.gpus().ending(container);
        if self.shared.routes.send(container.as_str(), Order::Destroy) {
            return;
        }
        let event = ContainerEvent::Destroyed { container: container.clone() };
        let events = self.shared.events.clone();
        self.spawn(async move {
            let _ = events.send(event).await;
        });
    }

    /// Drops what is kept of a container that was destroyed and whose record is deleted: its GPUs, its exit file, and its entry in
    /// the launcher.
    pub fn forget(&self, container: &ContainerId) {
        self.shared.gpus().release(container);
        let (shared, id) = (Arc::clone(&self.shared), container.clone());
        // Not awaited: nothing depends on it, and a later start would clean up as well.
        task::spawn_blocking(move || {
            let name = Shared::exit_name(id.as_str());
            if Path::new(&name).file_name() != Some(name.as_ref()) {
                return; // no container of ours has such an id
            }
            mezzo_fault_points::hit!("agent.forget.exit_file");
            let path = shared.exit_path(&name);
            if let Err(e) = fs::remove_file(&path)
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), error = %e, "could not remove an exit file");
            }
            mezzo_fault_points::hit!("agent.forget.launcher");
            if let Some(client) = shared.link.existing()
                && let Err(e) = client.forget(id.as_str())
            {
                // It may be another launcher than the one that started the container.
                tracing::debug!(container = %id, error = chain(&e), "the launcher did not forget");
            }
        });
    }

    /// What a container uses now; `None` if it has no control group. Blocks for a few reads of kernel files.
    pub fn usage(&self, container: &ContainerId) -> Option<Usage> {
        let cgroup = self.shared.cgroups.find(container.as_str()).ok()??;
        self.shared.isolators.usage(&cgroup).ok()
    }

    /// Whether a launcher is connected, as far as is known.
    #[cfg(test)]
    pub(super) fn has_launcher(&self) -> bool {
        self.shared.link.existing().is_some()
    }

    /// Has the kernel count and guard, from now on by this agent's rules. To be called after [`recover`](Self::recover), by an agent that
    /// goes on: one that does not leaves all as it was.
    pub fn account(&self) {
        let mut accountable =
            self.shared.accountable.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.accounts.begin(std::mem::take(&mut accountable));
        if self.shared.isolators.names().contains(&"devices") {
            // So that it is told without a launch.
            let shared = Arc::clone(&self.shared);
            task::spawn_blocking(move || shared.device_guard().clone());
        }
    }

    /// What the kernel counts and guards.
    pub fn accounts(&self) -> &Accounts {
        &self.shared.accounts
    }

    /// What is counted and guarded here, and why not. What no isolator asks for is off.
    pub(crate) fn features(&self) -> BTreeMap<Feature, Status> {
        let mut features = self.shared.accounts.features();
        let plan = self.shared.isolators.prepare(&Demand::default()).unwrap_or_default();
        let grant = plan.grant;
        let unasked = [
            (
                Feature::Ports,
                grant.ports.policy == PortPolicy::Off,
                "--ports-policy is off, or --isolation has no ports",
            ),
            (Feature::Devices, grant.devices == Devices::Unguarded, "--isolation has no devices"),
        ];
        for (feature, unasked, reason) in unasked {
            let status = features.entry(feature).or_insert(Status::On);
            if unasked && *status == Status::On {
                *status = Status::Off(reason.to_owned());
            }
        }
        features
    }

    /// Waits for the accounts to be opened. Why ports are not guarded although they must be; `None` if all is as it should be.
    pub async fn unguarded(&self) -> Option<String> {
        let plan = self.shared.isolators.prepare(&Demand::default());
        let demanded = plan.is_ok_and(|plan| plan.grant.ports.policy == PortPolicy::Enforce);
        self.shared.accounts.opened().await;
        match self.shared.accounts.features().remove(&Feature::Ports) {
            Some(Status::Off(reason)) if demanded => Some(reason),
            _ => None,
        }
    }

    /// What keeps containers to their devices; `None` while that is being found out, and where devices are not isolated.
    pub fn device_guard(&self) -> Option<DeviceGuard> {
        self.shared.device_guard.get().cloned()
    }

    /// How many containers could not be destroyed, or not for long.
    pub(crate) fn destroy_errors(&self) -> &Counter {
        &self.shared.destroy_errors
    }

    pub(crate) fn fetches(&self) -> &Fetches {
        self.shared.fetcher.fetches()
    }

    pub(crate) fn sandboxes(&self) -> &Sandboxes {
        &self.shared.sandboxes
    }

    pub fn runtime_dir(&self) -> &Path {
        &self.shared.config.runtime_dir
    }

    pub fn work_dir(&self) -> &Path {
        &self.shared.config.work_dir
    }

    /// Stops looking after containers; they and the launcher go on. The cgroup root is free for another containerizer when the last
    /// clone of this one is dropped.
    pub async fn stop(&self) {
        self.shared.sandboxes.stop();
        self.shared.accounts.stop();
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut runs) = runs {
            runs.shutdown().await;
        }
        let shared = Arc::clone(&self.shared);
        let closed = task::spawn_blocking(move || shared.link.close());
        let _ = closed.await;
    }

    /// Stops, and ends the launcher and removes the agent's empty control groups too, so that nothing is left of an agent without containers.
    /// The launcher refuses to end while containers run; then they and it go on.
    pub async fn stop_for_good(&self) {
        let shared = Arc::clone(&self.shared);
        let ended = task::spawn_blocking(move || shared.link.shut_down()).await;
        let ended = match ended {
            Ok(Err(e)) => {
                tracing::warn!(error = chain(&e), "the launcher goes on");
                false
            }
            _ => true,
        };
        self.stop().await;
        if ended && let Ok(group) = self.shared.cgroups.launcher() {
            let _ = group.wait_empty(LAUNCHER_END).await;
            self.shared.cgroups.remove_unused();
            let shared = Arc::clone(&self.shared);
            let _ = task::spawn_blocking(move || shared.accounts.discard()).await;
        }
    }

    fn spawn(&self, run: impl Future<Output = ()> + Send + 'static) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runs) = &mut *runs else { return };
        // Containers that have ended are let go of here, so that the set is as large as what lives.
        while runs.try_join_next().is_some() {}
        runs.spawn(run);
    }
}
