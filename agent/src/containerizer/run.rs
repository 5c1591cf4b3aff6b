//! One container's life, as one task of the runtime.

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mezzo_agent_core::CheckOutcome;
use mezzo_agent_launcher::{ClientError, Failure};
use mezzo_types::ContainerId;
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};

use super::destroy::destroy;
use super::handle::Shared;
use super::process::{ExitWatch, Process, recorded_ending, told_ending};
use super::report::chain;
use super::stage::{self, Failed, Staged};
use super::update::{Change, update};
use super::{Check, ContainerEvent, Ending, LaunchSpec, LaunchStage, Places};
use crate::cgroups::ContainerCgroup;
use crate::checks::Target;
use crate::isolators::{Breach, Limitation};

/// What reaches a container: the agent's orders, and what the launcher tells.
#[derive(Debug)]
pub(super) enum Order {
    Signal(i32),
    Check(Box<Check>),
    /// What the container may use changed.
    Update(Box<Change>),
    Destroy,
    /// The launcher's answer to the launch.
    Answered(Result<i32, ClientError>),
    Started {
        pid: i32,
        start_time_ticks: u64,
    },
    Failed(Failure),
    Exited {
        status: i32,
        recorded: bool,
    },
    LauncherLost,
}

/// Where the container's command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// No launch was ordered, or it failed: there is nothing to wait for.
    None,
    /// The launcher was asked; the answer is one of `Started`, `Failed` or an error.
    Asked,
    Running(Process),
    Ended,
}

/// A container that this agent looks after.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ContainerId,
    pub(super) places: Places,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) command: Command,
    pub(super) cgroup: Option<ContainerCgroup>,
    /// Set when the launcher cannot tell the ending.
    pub(super) exit: ExitWatch,
    pub(super) limited: bool,
    /// Looks under way; they end with this.
    pub(super) looks: JoinSet<()>,
    /// Signals that came before the command was there to get them.
    pub(super) early_signals: Vec<i32>,
    /// Changes of what the container may use that came before it had a control group.
    pub(super) early_changes: Vec<Change>,
}

impl Run {
    /// From an order to launch to the destruction.
    pub(super) async fn launch(mut self, spec: LaunchSpec) {
        if !self.have_gpus().await {
            return self.live().await;
        }
        let listened = match self.stage(spec).await {
            Ok(Some(early)) => self.asked(early).await,
            Ok(None) => true,
            Err(failed) => self.fail(failed).await,
        };
        if listened {
            self.live().await;
        }
    }

    /// Waits for GPUs that another container still has, which is being destroyed. `false`: an order to destroy came before.
    async fn have_gpus(&mut self) -> bool {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let mut turn = std::pin::pin!(shared.gpus().turn(&id));
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: it is polled again until it is done.
                () = &mut turn => return true,
                // Cancel-safe: a message is taken or stays. Ends only with the containerizer.
                Some(order) = self.orders.recv() => match order {
                    Order::Signal(signal) => self.keep_signal(signal),
                    Order::Update(change) => self.keep_change(*change),
                    Order::Destroy => {
                        self.return_destroy();
                        return false;
                    }
                    // Nobody was asked for anything yet.
                    _ => {}
                },
            }
        }
    }

    /// From wherever the container stands to its destruction.
    pub(super) async fn live(mut self) {
        // Nobody listens: the agent is on its way out, the container is not.
        if self.attend().await {
            self.end().await;
        }
    }

    fn prepared(&self) -> ContainerEvent {
        ContainerEvent::Prepared { container: self.id.clone(), places: self.places.clone() }
    }

    /// Whether anybody still listens.
    async fn emit(&self, event: ContainerEvent) -> bool {
        self.shared.events.send(event).await.is_ok()
    }

    async fn fail(&self, Failed { stage, message }: Failed) -> bool {
        tracing::info!(container = %self.id, %stage, message, "a launch failed");
        self.emit(ContainerEvent::LaunchFailed { container: self.id.clone(), stage, message }).await
    }

    /// Puts everything in place and asks the launcher to start the command: one job of one thread, since
    /// each change of threads costs a launch a wake-up. Its answers come as orders; those that came early
    /// are returned. A `Destroy` meanwhile stays to be answered; `None`: it came early enough to cancel the launch.
    async fn stage(&mut self, spec: LaunchSpec) -> Result<Option<Vec<Order>>, Failed> {
        let cancel = Arc::new(AtomicBool::new(false));
        let staging =
            stage_all(Arc::clone(&self.shared), self.places.clone(), spec, Arc::clone(&cancel));
        let mut staging = std::pin::pin!(staging);
        let mut early = Vec::new();
        let mut cancelled = false;
        let staged = loop {
            tokio::select! {
                // Cancel-safe: it is polled again until it is done.
                staged = &mut staging => break staged,
                // Cancel-safe: a message is taken or stays. Ends only with the containerizer.
                Some(order) = self.orders.recv() => match order {
                    Order::Signal(signal) => self.keep_signal(signal),
                    Order::Update(change) => self.keep_change(*change),
                    Order::Destroy => {
                        cancelled = true;
                        cancel.store(true, Ordering::Relaxed);
                    }
                    // Of the launcher, which says each of a few things once.
                    order => early.push(order),
                },
            }
        };
        match staged {
            Ok(cgroup) => {
                self.cgroup = Some(cgroup);
                if cancelled {
                    self.return_destroy();
                }
                Ok(Some(early))
            }
            Err(failed) => {
                // It may have been made before the failure.
                self.cgroup = self.shared.cgroups.find(self.id.as_str()).ok().flatten();
                if !cancelled {
                    return Err(failed);
                }
                self.return_destroy();
                Ok(None)
            }
        }
    }

    /// Goes on from a request that was sent, with what came before that was known here. Whether anybody
    /// still listens.
    async fn asked(&mut self, early: Vec<Order>) -> bool {
        self.command = Command::Asked;
        if !self.emit(self.prepared()).await {
            return false;
        }
        for order in early {
            if !self.follow(order).await {
                return false;
            }
        }
        for change in std::mem::take(&mut self.early_changes) {
            if !self.change(change).await {
                return false;
            }
        }
        true
    }

    /// Puts the order to destroy back, behind what has come since.
    fn return_destroy(&self) {
        self.shared.routes.send(self.id.as_str(), Order::Destroy);
    }

    /// Watches until the order to destroy comes. `false`: nobody listens any more.
    async fn attend(&mut self) -> bool {
        let mut breach = self.watch();
        loop {
            tokio::select! {
                // Cancel-safe: a message is taken or stays.
                order = self.orders.recv() => {
                    let listened = match order {
                        None => false,
                        Some(Order::Destroy) => return true,
                        Some(order) => self.follow(order).await,
                    };
                    if !listened {
                        return false;
                    }
                }
                // Cancel-safe: what was breached is counted by the kernel.
                limitation = &mut breach => {
                    breach = Box::pin(future::pending());
                    match limitation {
                        Ok(limitation) => {
                            if !self.limit(limitation).await {
                                return false;
                            }
                        }
                        Err(e) => {
                            tracing::warn!(container = %self.id, error = chain(&e), "a watch on limits ended");
                        }
                    }
                }
                // Cancel-safe: readiness stays.
                () = self.exit.ended() => {
                    if !self.exited(recorded_ending(&self.exit_path())).await {
                        return false;
                    }
                }
            }
        }
    }

    fn exit_path(&self) -> std::path::PathBuf {
        self.shared.exit_path(&self.places.exit_file)
    }

    fn watch(&self) -> Breach {
        let nothing = || Box::pin(future::pending());
        match &self.cgroup {
            Some(cgroup) if matches!(self.command, Command::Asked | Command::Running(_)) => {
                self.shared.isolators.watch(cgroup).unwrap_or_else(|e| {
                    // The ending still finds what was breached.
                    tracing::warn!(container = %self.id, error = chain(&e), "limits are not watched");
                    nothing()
                })
            }
            _ => nothing(),
        }
    }

    /// One order other than `Destroy`; whether anybody still listens.
    async fn follow(&mut self, order: Order) -> bool {
        match (order, self.command) {
            (Order::Signal(signal), Command::Running(process)) => {
                self.signal(process, signal);
                true
            }
            (Order::Signal(signal), Command::Asked) => {
                self.keep_signal(signal);
                true
            }
            (Order::Check(check), Command::Running(process)) => {
                self.look(process, *check);
                true
            }
            (Order::Update(change), Command::Asked | Command::Running(_)) => {
                self.change(*change).await
            }
            (Order::Started { pid, start_time_ticks }, Command::Asked) => {
                self.started(Process { pid, start_time_ticks }).await
            }
            (Order::Failed(failure), Command::Asked) => {
                self.command = Command::None;
                let message = failure.to_string();
                self.fail(Failed { stage: LaunchStage::Launch, message }).await
            }
            (Order::Answered(Err(ClientError::Disconnected)), Command::Asked)
            | (Order::LauncherLost, Command::Asked) => self.find_out().await,
            (Order::Answered(Err(e)), Command::Asked) => {
                self.command = Command::None;
                self.fail(Failed::at(LaunchStage::Launch)(&e)).await
            }
            (Order::Exited { status, recorded }, Command::Running(_)) => {
                self.exited(told_ending(status, recorded)).await
            }
            (Order::LauncherLost, Command::Running(process)) => self.watch_alone(process).await,
            // Late or repeated: what it tells is known, or was given up.
            _ => true,
        }
    }

    /// The launcher ended while it started the container. What runs in the container goes on, what ended
    /// left its ending; without either, nobody can tell, and what is still on its way in must not arrive:
    /// the destruction that follows a failure sees to that.
    async fn find_out(&mut self) -> bool {
        if let Some(process) = self.cgroup.as_ref().and_then(Process::first_of) {
            return self.started(process).await && self.watch_alone(process).await;
        }
        let ending = recorded_ending(&self.exit_path());
        if ending != Ending::Unknown {
            return self.exited(ending).await;
        }
        self.command = Command::None;
        let message = "the launcher ended while it started the container; try again";
        self.fail(Failed { stage: LaunchStage::Launch, message: message.to_owned() }).await
    }

    /// The command runs. Whether anybody still listens.
    async fn started(&mut self, process: Process) -> bool {
        let Process { pid, start_time_ticks } = process;
        self.command = Command::Running(process);
        let started = ContainerEvent::Started { container: self.id.clone(), pid, start_time_ticks };
        let listened = self.emit(started).await;
        for signal in std::mem::take(&mut self.early_signals) {
            self.signal(process, signal);
        }
        listened
    }

    /// Watches a container whose launcher is gone.
    async fn watch_alone(&mut self, process: Process) -> bool {
        match ExitWatch::on(process) {
            Ok(Some(watch)) => {
                self.exit = watch;
                true
            }
            Ok(None) => self.exited(recorded_ending(&self.exit_path())).await,
            Err(e) => {
                tracing::error!(container = %self.id, error = %e, "a container's end cannot be watched");
                self.exited(Ending::Unknown).await
            }
        }
    }

    fn signal(&self, process: Process, signal: i32) {
        if let Err(e) = process.signal(signal) {
            tracing::warn!(container = %self.id, signal, error = %e, "could not signal a container");
        }
    }

    /// Looks at the command for one of its checks.
    fn look(&mut self, process: Process, check: Check) {
        // Those that have ended are let go of here: there are two at most.
        while self.looks.try_join_next().is_some() {}
        let target = Target {
            process: (process.pid, process.start_time_ticks),
            cgroup: self.cgroup.clone(),
            sandbox: self.places.sandbox.clone(),
        };
        let (shared, container) = (Arc::clone(&self.shared), self.id.clone());
        self.looks.spawn(async move {
            let Check { kind, probe, timeout } = check;
            let launcher = {
                let shared = Arc::clone(&shared);
                move || shared.link.client().ok()
            };
            let outcome = shared.checks.look(target, probe, timeout, launcher).await;
            if let CheckOutcome::Unavailable(why) = &outcome {
                tracing::warn!(%container, ?kind, why, "a check could not be carried out");
            }
            // Nobody listens: the agent is on its way out.
            let _ = shared.events.send(ContainerEvent::Checked { container, kind, outcome }).await;
        });
    }

    /// For a command that is not there yet. A signal that is sent twice before anybody gets it is one signal, as in the kernel.
    fn keep_signal(&mut self, signal: i32) {
        if !self.early_signals.contains(&signal) {
            self.early_signals.push(signal);
        }
    }

    /// The newest one counts, but each is answered.
    fn keep_change(&mut self, change: Change) {
        self.early_changes.retain(|earlier| earlier.grant != change.grant);
        self.early_changes.push(change);
    }

    /// Has the container use what it was given. Whether anybody still listens.
    async fn change(&mut self, change: Change) -> bool {
        let grant = change.grant;
        let result = match self.cgroup.clone() {
            None => Err("it has no control group".to_owned()),
            Some(cgroup) => {
                let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
                let sandbox = self.places.sandbox.clone();
                let changed =
                    task::spawn_blocking(move || update(&shared, &id, &cgroup, &sandbox, &change));
                let changed = changed.await;
                changed.unwrap_or_else(|e| Err(format!("the agent failed: {e}")))
            }
        };
        if let Err(error) = &result {
            tracing::warn!(container = %self.id, error, "a container could not be changed");
        }
        self.emit(ContainerEvent::Updated { container: self.id.clone(), grant, result }).await
    }

    async fn limit(&mut self, limitation: Limitation) -> bool {
        if std::mem::replace(&mut self.limited, true) {
            return true;
        }
        self.emit(ContainerEvent::Limited { container: self.id.clone(), limitation }).await
    }

    /// The command's ending, after the breach that caused it if one did.
    async fn exited(&mut self, ending: Ending) -> bool {
        let ending = self.witnessed(ending).await;
        self.command = Command::Ended;
        self.exit = ExitWatch::none();
        if !self.limited
            && let Some(cgroup) = &self.cgroup
        {
            match self.shared.isolators.breached(cgroup) {
                Ok(Some(limitation)) => {
                    self.limit(limitation).await;
                }
                Ok(None) => {}
                Err(e) => {
                    tracing::warn!(container = %self.id, error = chain(&e), "limits could not be checked");
                }
            }
        }
        self.emit(ContainerEvent::Exited { container: self.id.clone(), ending }).await
    }

    /// Where the init left no word, the kernel's.
    async fn witnessed(&self, ending: Ending) -> Ending {
        if ending != Ending::Unknown {
            return ending;
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let ended = task::spawn_blocking(move || shared.accounts.ended(&id)).await;
        ended.ok().flatten().map_or(Ending::Unknown, |status| told_ending(status, false))
    }

    /// Kills what is left, tells the ending if there is one to tell, removes the control groups.
    async fn end(mut self) {
        // What the kill does is no breach.
        self.limited = true;
        self.looks.shutdown().await;
        if matches!(self.command, Command::Asked | Command::Running(_)) {
            self.kill().await;
        }
        if let Some(cgroup) = self.cgroup.take() {
            mezzo_fault_points::hit!("agent.destroy.killed");
            destroy(&cgroup, &self.shared.destroy_errors).await;
            mezzo_fault_points::hit!("agent.destroy.removed");
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let _ = task::spawn_blocking(move || shared.accounts.remove(&id)).await;
        mezzo_fault_points::hit!("agent.destroy.accounted");
        self.shared.isolators.cleanup(self.id.as_str());
        self.shared.sandboxes.ended(&self.id);
        // Before the event: whoever hears it may use the id's absence.
        self.shared.routes.remove(&self.id);
        self.emit(ContainerEvent::Destroyed { container: self.id.clone() }).await;
    }

    /// Kills the command's processes and waits for its ending to be told.
    async fn kill(&mut self) {
        loop {
            if let Some(cgroup) = &self.cgroup
                && let Err(e) = cgroup.kill()
            {
                tracing::warn!(container = %self.id, error = chain(&e), "could not kill a container");
            }
            // Its init is in the group with all the rest, except on the way into it.
            match self.command {
                Command::Running(process) => self.signal(process, nix::libc::SIGKILL),
                Command::Asked => self.kill_by_launcher().await,
                _ => {}
            }
            tokio::select! {
                // Cancel-safe: a message is taken or stays.
                order = self.orders.recv() => match order {
                    None => return,
                    Some(Order::Signal(_) | Order::Update(_) | Order::Destroy) => {}
                    Some(order) => {
                        if !self.follow(order).await {
                            return;
                        }
                    }
                },
                // Cancel-safe: readiness stays.
                () = self.exit.ended() => {
                    self.exited(recorded_or_killed(&self.exit_path())).await;
                }
            }
            if matches!(self.command, Command::None | Command::Ended) {
                return;
            }
        }
    }

    async fn kill_by_launcher(&self) {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let killed = task::spawn_blocking(move || match shared.link.existing() {
            Some(client) => client.kill(id.as_str()),
            None => Ok(()),
        });
        if let Ok(Err(e)) = killed.await {
            // It may have ended meanwhile; its ending is on the way.
            tracing::debug!(container = %self.id, error = chain(&e), "the launcher did not kill");
        }
    }
}

/// The ending of a command whose container was killed by the agent: the kill itself, unless it ended before.
fn recorded_or_killed(exit_file: &std::path::Path) -> Ending {
    match recorded_ending(exit_file) {
        Ending::Unknown => Ending::Status(nix::libc::SIGKILL),
        known => known,
    }
}

/// The blocking parts of a launch, under their bounds; the request is on its way when it returns.
async fn stage_all(
    shared: Arc<Shared>,
    places: Places,
    spec: LaunchSpec,
    cancel: Arc<AtomicBool>,
) -> Result<ContainerCgroup, Failed> {
    let fetches = !spec.uris().is_empty();
    if !fetches {
        let _turn = shared.launches.acquire().await;
        let shared = Arc::clone(&shared);
        return blocking(move || {
            let housed = stage::house(&shared, &spec, &cancel)?;
            let staged = stage::isolate(&shared, &places, &spec, housed, &cancel)?;
            ask(&shared, &spec, &staged, &cancel)
        })
        .await;
    }
    // Downloads have a bound of their own, so that slow ones do not hold up launches that need none.
    let (housed, spec) = {
        let _turn = shared.fetches.acquire().await;
        let (shared, cancel) = (Arc::clone(&shared), Arc::clone(&cancel));
        blocking(move || Ok((stage::house(&shared, &spec, &cancel)?, spec))).await?
    };
    let _turn = shared.launches.acquire().await;
    let shared = Arc::clone(&shared);
    blocking(move || {
        let staged = stage::isolate(&shared, &places, &spec, housed, &cancel)?;
        ask(&shared, &spec, &staged, &cancel)
    })
    .await
}

/// Sends the request to the launcher; what comes of it comes as orders.
fn ask(
    shared: &Shared,
    spec: &LaunchSpec,
    staged: &Staged,
    cancel: &AtomicBool,
) -> Result<ContainerCgroup, Failed> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Failed::cancelled(LaunchStage::Launch));
    }
    let client = shared.link.client().map_err(|e| Failed::at(LaunchStage::Launch)(&e))?;
    let (routes, id) = (shared.routes.clone(), spec.container_id.clone());
    mezzo_fault_points::hit!("agent.launch.asking");
    client.launch_then(&staged.launch(spec, &shared.null), move |answer| {
        routes.send(id.as_str(), Order::Answered(answer));
    });
    mezzo_fault_points::hit!("agent.launch.asked");
    Ok(staged.cgroup.clone())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Failed { stage: LaunchStage::Task, message: format!("the agent failed: {e}") })
    })
}
