//! The plan of a start: what was written down, held against what is found on the host.
//!
//! | written down | found | what follows |
//! |---|---|---|
//! | ended | anything | its updates are sent again |
//! | launching | not started | `TASK_DROPPED` (`TASK_LOST`), `REASON_AGENT_RESTARTED` |
//! | launching | on its way | nothing: the launch goes on |
//! | launching | failed, or nobody can tell | `TASK_FAILED`, `REASON_CONTAINER_LAUNCH_FAILED`: it may have run |
//! | launching | runs | `TASK_RUNNING` |
//! | running | runs | nothing: the task never noticed |
//! | being killed | runs | SIGTERM again, and the rest of the grace period |
//! | being killed | not started | `TASK_KILLED`, `REASON_TASK_KILLED_DURING_LAUNCH` |
//! | not ended | ended | exactly that ending |
//!
//! Executors are held against the host first, and their tasks follow them:
//!
//! | executor | found | what follows |
//! |---|---|---|
//! | never started | nothing | its tasks: `TASK_DROPPED` (`TASK_LOST`), `REASON_AGENT_RESTARTED` |
//! | registering | on its way, or runs | it has the registration timeout anew; its tasks wait |
//! | subscribed | runs | it must subscribe within the re-registration timeout, else it is ended: `TASK_GONE` (`TASK_LOST`) |
//! | asked to end | runs | it is told again when it subscribes, and has its grace period anew |
//! | any | ended | its tasks: `TASK_FAILED`, `REASON_EXECUTOR_TERMINATED` or the limit that was met |
//!
//! A task that was not handed over before the stop is handed over after it. One that was, of which no update came and
//! which the executor does not name when it subscribes, did not reach it: `TASK_DROPPED`, as in Mesos.
//!
//! After a new boot no process of before can live, and records that were not forced to disk may be
//! older than what the master was told. Endings that are written down stand: they are sent again. Every
//! other task is forgotten without a word, and the master, who misses it in the registration, decides its
//! ending from its ledger. If the agent also changed in a way that it may not, it joins as a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mezzo_proto::internal::v1::LaunchPosition;
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, DrainRecord, ExecutorRecord, OperationRecord, ResourcesRecord,
    TaskRecord, task_record,
};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_status_updates::{Update, UpdateStreams};
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{ContainerId, FrameworkId, IdSource, Now, Position, TaskId, Uuid16, is_terminal};
use prost::Message;

use crate::compatibility::{self, RecoverError};
use crate::config::Config;
use crate::core::Core;
use crate::effect::{Change, Effect, TaskStage, ViewChange};
use crate::input::{Ending, Limitation};
use crate::kill::SIGTERM;
use crate::statistics::Statistics;
use crate::task::{Cause, Container, Kill, Owner, Part, Task, TaskKey};
use crate::timers::{Timer, Timers};
use crate::updates::Outgoing;

/// Everything that an earlier run of the agent wrote down. Empty at the first start.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub identity: Option<AgentIdentity>,
    pub last_launch: LaunchPosition,
    pub tasks: Vec<TaskRecord>,
    pub containers: Vec<ContainerRecord>,
    pub executors: Vec<ExecutorRecord>,
    pub resources: Option<ResourcesRecord>,
    pub operations: Vec<OperationRecord>,
    pub drain: Option<DrainRecord>,
    /// Records that could not be read at all.
    pub unreadable: u64,
}

/// What is left on the host of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// No process ever ran in it.
    NotStarted,
    /// The launcher is at it: a start or a failure will be reported.
    Launching,
    /// The launch failed for this reason; or nothing is left of it, and whether a process ever ran in it
    /// cannot be told.
    Failed {
        message: String,
    },
    Running {
        pid: i32,
        start_time_ticks: u64,
        limitation: Option<Limitation>,
    },
    Ended {
        ending: Ending,
        limitation: Option<Limitation>,
    },
}

impl Core {
    /// Starts the machine. `observed` tells of every container that is written down in this boot or found
    /// on the host; `seed` makes ids and must differ from run to run.
    ///
    /// # Errors
    /// The configuration contradicts what the agent was when it joined the cluster.
    pub fn recover(
        now: Now,
        config: Config,
        checkpoint: Checkpoint,
        observed: &BTreeMap<ContainerId, Observed>,
        seed: [u64; 2],
    ) -> Result<Core, RecoverError> {
        let Checkpoint {
            identity,
            last_launch,
            tasks,
            containers,
            executors,
            resources,
            operations,
            drain,
            unreadable,
        } = checkpoint;
        let total = compatibility::reapply(&config.info.resources, resources.as_ref())?;
        let mut was =
            identity.filter(|was| was.info.as_ref().is_some_and(|info| info.id.is_some()));
        let mut info = config.info.clone();
        let highest_term = was.as_ref().map_or(0, |was| was.highest_term);
        let known = was.as_ref().and_then(|was| Some((was.info.as_ref()?, &was.boot_id)));
        if let Some((old, boot_id)) = known {
            let mut held = info.clone();
            // `--port=0` is whatever port is free.
            if config.any_port {
                held.port = old.port;
            }
            // Of a repaired identity only the id is left.
            let repaired = old.hostname.is_empty();
            match compatibility::check(config.reconfiguration_policy, old, &held) {
                Ok(()) => info.id = old.id.clone(),
                Err(_) if repaired => info.id = old.id.clone(),
                // Nothing of before lives, so nothing is lost that is not lost already: as in Mesos the
                // host joins as a new agent, and the old one becomes unreachable.
                Err(_) if *boot_id != config.boot_id => was = None,
                Err(error) => return Err(error),
            }
        }
        // Without an identity the records are leftovers of a cluster that the agent left.
        let member = was.is_some();
        let same_boot = was.as_ref().is_some_and(|was| was.boot_id == config.boot_id)
            || is_on(Bug::AgentIgnoresReboots);
        let identity = AgentIdentity {
            info: Some(info.clone()),
            boot_id: config.boot_id.clone(),
            highest_term,
        };
        let mut core = Core {
            updates: UpdateStreams::new(config.backoff),
            total,
            operations: BTreeMap::new(),
            operation_updates: UpdateStreams::new(config.backoff),
            applying: None,
            waiting: Default::default(),
            config,
            identity,
            // Launches are counted per agent.
            last_launch: if member { last_launch } else { LaunchPosition::default() },
            frameworks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            executors: BTreeMap::new(),
            containers: BTreeMap::new(),
            strangers: BTreeSet::new(),
            link: None,
            timers: Timers::default(),
            ids: IdSource::new(seed),
            effects: Default::default(),
            position: Position::NONE,
            leaving: None,
            draining: None,
            shortage: None,
            statistics: Statistics { recovery_errors: unreadable, ..Statistics::default() },
        };
        if was.as_ref().is_some_and(|was| *was != core.identity) {
            let identity = Box::new(core.identity.clone());
            core.persist(vec![Change::PutIdentity(identity)], true);
        }
        // Whoever it was, it is not any more: a new agent counts launches anew.
        if was.is_none() && (highest_term > 0 || last_launch != core.last_launch) {
            core.persist(
                vec![Change::DeleteIdentity, Change::PutLastLaunch(core.last_launch)],
                true,
            );
        }
        core.view(ViewChange::Agent(Box::new(info)));
        core.recover_total(resources.is_some() || !operations.is_empty());
        core.recover_operations(now, operations, member);
        for record in containers {
            core.recover_container(&record, member && same_boot, observed);
        }
        for record in executors {
            core.recover_executor(record, member && same_boot);
        }
        for record in tasks {
            core.recover_task(now, record, member, same_boot, observed);
        }
        core.resume_executors(now, observed);
        core.recover_drain(now, drain, member);
        core.destroy_orphans(observed);
        core.forward_updates();
        Ok(core)
    }

    fn recover_container(
        &mut self,
        record: &ContainerRecord,
        alive: bool,
        observed: &BTreeMap<ContainerId, Observed>,
    ) {
        let id = ContainerId::from(record.container_id.as_str());
        if !alive || record.boot_id != self.config.boot_id {
            // What is still there is nobody's: it is destroyed, and forgotten then.
            if !observed.contains_key(&id) {
                self.persist(vec![Change::DeleteContainer(id)], false);
            }
            return;
        }
        let started = (record.pid != 0).then_some((record.pid, record.start_time_ticks));
        let task = (record.framework_id.as_str().into(), record.executor_id.as_str().into());
        let owner = Owner::Task(task);
        self.containers.insert(id, Container { owner, started, destroying: false });
    }

    fn recover_task(
        &mut self,
        now: Now,
        record: TaskRecord,
        member: bool,
        same_boot: bool,
        observed: &BTreeMap<ContainerId, Observed>,
    ) {
        let owner = record.framework_info.clone().unwrap_or_default();
        let info = v1::TaskInfo::decode(record.task_info.as_ref());
        let (Some(framework), Ok(info)) = (owner.id.clone(), info) else {
            self.statistics.recovery_errors += 1;
            return;
        };
        let key: TaskKey = (FrameworkId::from(framework), TaskId::from(&info.task_id));
        if self.tasks.contains_key(&key) {
            // Two records of one task: at least one says something else than the key it lies under.
            self.statistics.recovery_errors += 1;
            return;
        }
        // An ending that waits to be acknowledged is one, whatever else the record says.
        let ended = record.phase() == task_record::Phase::Ended
            || record.updates.iter().any(|status| is_terminal(status.state()));
        if !member || !(same_boot || ended) {
            let deletion = Change::DeleteTask(key.0, key.1);
            self.persist(vec![deletion], false);
            return;
        }
        let container = (!record.container_id.is_empty())
            .then(|| ContainerId::from(record.container_id.as_str()));
        // A container whose record was lost is found by its task.
        if let Some(id) = container.as_ref().filter(|_| !ended && record.executor_id.is_empty()) {
            let owner = Owner::Task(key.clone());
            let lost = || Container { owner, started: None, destroying: false };
            self.containers.entry(id.clone()).or_insert_with(lost);
        }
        let started = container
            .as_ref()
            .and_then(|id| self.containers.get(id))
            .and_then(|container| container.started);
        let running = record.phase() == task_record::Phase::Running;
        let killing = record.phase() == task_record::Phase::Killing;
        let part = recovered_part(&record, killing);
        let of_executor = part.is_some();
        let task = Task {
            info: Arc::new(info),
            raw: record.task_info.clone(),
            container: container.clone(),
            stage: match (ended, started) {
                (true, _) => TaskStage::Ended,
                (false, _) if of_executor => recovered_stage(&record),
                (false, None) if !running => TaskStage::Launching,
                (false, _) => TaskStage::Running,
            },
            pid: started.map(|(pid, _)| pid),
            latest: record.latest.clone().map(Box::new),
            kill: killing.then(|| recovered_kill(now, &record, started.is_some() && !of_executor)),
            limitation: None,
            started_unix_ns: (record.started_unix_ns != 0).then_some(record.started_unix_ns),
            checks: None,
            health_failures: record.health_check_failures,
            completion_due_ns: None,
            forsaken: false,
            part,
        };
        self.insert_task(key.clone(), task, Arc::new(owner));
        self.recover_updates(now, &key, record.updates);
        self.view_task(&key);
        if of_executor {
            return self.join_executor(now, &key);
        }
        if let Some(container) = container.filter(|_| !ended) {
            let found = observed.get(&container).cloned();
            self.resume(now, &key, &container, found);
        }
    }

    /// A task of an executor: what becomes of it is decided with the executor.
    fn join_executor(&mut self, now: Now, key: &TaskKey) {
        let Some(task) = self.tasks.get(key).filter(|task| !task.ended()) else { return };
        let Some(of) = task.executor().map(|executor| (key.0.clone(), executor.clone())) else {
            return;
        };
        match self.executors.get_mut(&of) {
            Some(executor) => {
                executor.tasks.insert(key.1.clone());
                let container = executor.container.clone();
                if let Some(task) = self.tasks.get_mut(key) {
                    task.container = Some(container);
                }
            }
            None => {
                self.statistics.recovery_errors += 1;
                let message = "The record of its executor is lost";
                let (state, reason) = (TaskState::TaskFailed, Reason::ExecutorTerminated);
                let status = self.agent_status(now, key, state, reason, message);
                self.end(now, key, status);
            }
        }
    }

    fn recover_updates(&mut self, now: Now, key: &TaskKey, updates: Vec<v1::TaskStatus>) {
        for status in updates {
            if is_on(Bug::AgentForgetsUpdates) {
                continue;
            }
            let uuid = status.uuid.as_deref().and_then(Uuid16::from_slice);
            let Some(uuid) = uuid else {
                self.statistics.recovery_errors += 1;
                continue;
            };
            let terminal = mezzo_types::is_terminal(status.state());
            // What was read from the store is as durable as it gets.
            let body = Outgoing { status: Box::new(status), after: Position::NONE };
            let update = Update { uuid, terminal, body };
            if self.updates.push(now, key.clone(), update).is_err() {
                self.statistics.recovery_errors += 1;
            }
        }
    }

    /// Picks up a task that had not ended when the agent stopped.
    fn resume(&mut self, now: Now, key: &TaskKey, id: &ContainerId, found: Option<Observed>) {
        let was_running = self.tasks.get(key).is_some_and(|task| task.stage == TaskStage::Running);
        let nothing = if was_running {
            Observed::Ended { ending: Ending::Unknown, limitation: None }
        } else {
            Observed::NotStarted
        };
        match found.unwrap_or(nothing) {
            Observed::NotStarted | Observed::Failed { .. } if was_running => {
                self.exited(now, id, Ending::Unknown);
            }
            Observed::Launching => {
                if self.tasks.get(key).is_some_and(|task| task.kill.is_some()) {
                    self.destroy(Some(id.clone()));
                }
            }
            Observed::Failed { message } => self.launch_failed(now, id, &message),
            Observed::NotStarted => {
                let killed = self.tasks.get(key).is_some_and(|task| task.kill.is_some());
                let status = if killed {
                    self.killed_during_launch(now, key)
                } else {
                    let state = self.lost_or(&key.0, TaskState::TaskDropped);
                    let message = "The agent was restarted before it started the command";
                    self.agent_status(now, key, state, Reason::AgentRestarted, message)
                };
                self.end(now, key, status);
                self.destroy(Some(id.clone()));
            }
            Observed::Running { pid, start_time_ticks, limitation } => {
                if was_running {
                    self.note_started(id, key, pid, start_time_ticks);
                    self.resume_running(now, key);
                } else {
                    self.started(now, id, pid, start_time_ticks);
                    if self.tasks.get(key).is_some_and(|task| task.kill.is_some()) {
                        self.destroy(Some(id.clone()));
                    }
                }
                if let Some(limitation) = limitation {
                    self.limited(id, limitation);
                }
            }
            Observed::Ended { ending, limitation } => {
                if let Some(limitation) = limitation {
                    self.limited(id, limitation);
                }
                self.exited(now, id, ending);
            }
        }
    }

    /// Writes down what the lost record of a running container told.
    fn note_started(&mut self, id: &ContainerId, key: &TaskKey, pid: i32, ticks: u64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.started.is_some() {
            return;
        }
        container.started = Some((pid, ticks));
        if let Some(task) = self.tasks.get_mut(key) {
            task.pid = Some(pid);
        }
        let record = self.container_record(id);
        self.persist(record.into_iter().collect(), false);
    }

    fn resume_running(&mut self, now: Now, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let container = task.container.clone();
        if let Some(due) = task.kill.and_then(|kill| kill.due_ns) {
            // The signal may not have been sent; a command that got it already ends anyway.
            self.timers.set(due, Timer::Kill(key.clone()));
            self.signal(container, SIGTERM);
            return;
        }
        let (failures, untold) = (task.health_failures, task.latest.is_none());
        let told = task.latest.as_ref().filter(|latest| latest.state() == TaskState::TaskRunning);
        let told = told.and_then(|latest| latest.timestamp).map(|seconds| (seconds * 1e9) as i64);
        // Records of older agents do not have it; theirs was told once, at the start.
        let started = task.started_unix_ns.or(told);
        if untold {
            let status = self.status(now, key, TaskState::TaskRunning, Source::Executor);
            self.report(now, key, status, Vec::new());
        }
        if let Some(started) = started {
            self.watch_completion_time(now, key, started);
        }
        self.begin_checks(now, key, started.unwrap_or(now.unix_ns), failures);
    }

    /// Containers that belong to no living task.
    fn destroy_orphans(&mut self, observed: &BTreeMap<ContainerId, Observed>) {
        let living = |core: &Core, id: &ContainerId| {
            if is_on(Bug::AgentDestroysStrangers) {
                return false;
            }
            core.containers.get(id).is_some_and(|container| core.belongs(id, &container.owner))
        };
        let known: Vec<ContainerId> =
            self.containers.keys().filter(|id| !living(self, id)).cloned().collect();
        for id in known {
            self.destroy(Some(id));
        }
        for id in observed.keys().filter(|id| !self.containers.contains_key(*id)) {
            let after = self.position;
            self.effects.push_back(Effect::Destroy { container: id.clone(), after });
            self.strangers.insert(id.clone());
        }
    }
}

/// What the record says of the task's executor; `None` for a command task.
fn recovered_part(record: &TaskRecord, killing: bool) -> Option<Part> {
    if record.executor_id.is_empty() {
        return None;
    }
    let grace = (killing && record.kill_grace_ns >= 0)
        .then_some(v1::DurationInfo { nanoseconds: record.kill_grace_ns });
    Some(Part {
        executor: record.executor_id.as_str().into(),
        position: record.position.unwrap_or_default(),
        group: record.group,
        delivered: record.delivered,
        kill_policy: grace.map(|grace| v1::KillPolicy { grace_period: Some(grace) }),
    })
}

/// A task of an executor runs when the executor said so.
fn recovered_stage(record: &TaskRecord) -> TaskStage {
    match record.latest.as_ref().map(v1::TaskStatus::state) {
        Some(TaskState::TaskRunning | TaskState::TaskKilling) => TaskStage::Running,
        _ => TaskStage::Launching,
    }
}

/// The kill as it was when the agent stopped; its grace period went on meanwhile. A command that never
/// started has none.
fn recovered_kill(now: Now, record: &TaskRecord, started: bool) -> Kill {
    let grace = Duration::from_nanos(u64::try_from(record.kill_grace_ns).unwrap_or(0));
    let passed = now.unix_ns.saturating_sub(record.kill_ordered_unix_ns);
    let passed = Duration::from_nanos(u64::try_from(passed).unwrap_or(0));
    let passed_ns = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
    Kill {
        ordered_unix_ns: record.kill_ordered_unix_ns,
        ordered_ns: now.mono_ns.saturating_sub(passed_ns),
        grace,
        due_ns: started.then(|| now.plus(grace.saturating_sub(passed))),
        cause: match record.kill_cause() {
            task_record::KillCause::Ordered => Cause::Ordered,
            task_record::KillCause::CompletionTime => Cause::CompletionTime,
            task_record::KillCause::Unhealthy => Cause::Unhealthy,
            task_record::KillCause::Draining => Cause::Draining,
        },
    }
}
