//! What always holds between two inputs.

use mezzo_types::{ContainerId, Position, Uuid16, is_terminal};

use crate::core::Core;
use crate::effect::{Effect, TaskStage};
use crate::executor::{Executor, ExecutorKey, ExecutorPhase};
use crate::task::{Owner, Task, TaskKey};
use crate::timers::Timer;

/// An invariant that does not hold: a bug. Each variant names the design's invariant it guards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("no-task-lost: task {0:?} lives but has no container")]
    NoContainer(TaskKey),
    #[error("no-task-lost: task {0:?} ended, but no update says so")]
    SilentEnding(TaskKey),
    #[error("updates-in-order: the newest status of task {0:?} is not the last of its updates")]
    NewestUpdate(TaskKey),
    #[error("updates-in-order: there are updates of task {0:?}, which is not known")]
    StrayUpdates(TaskKey),
    #[error("updates-in-order: {0}")]
    Updates(#[from] mezzo_status_updates::Violation),
    #[error("tasks-outlive-us: container {0} belongs to {1}, which has another")]
    TwoContainers(ContainerId, String),
    #[error("no-task-lost: executor {0:?} has not ended but has no container")]
    NoExecutorContainer(ExecutorKey),
    #[error("no-task-lost: executor {0:?} and task {1:?} do not know each other")]
    Stranger(ExecutorKey, TaskKey),
    #[error(
        "no-task-lost: task {1:?} waits for executor {0:?} without being in its queue, or twice"
    )]
    Queue(ExecutorKey, TaskKey),
    #[error("the timer of executor {0:?} is not set")]
    NoExecutorTimer(ExecutorKey),
    #[error("no-operation-lost: operation {0} ended, but no update says so")]
    SilentOperation(Uuid16),
    #[error("no-operation-lost: there are updates of an operation that is not known")]
    StrayOperation,
    #[error("no-operation-lost: the agent has {0}, which is not as much as it is configured with")]
    Total(String),
    #[error("no-operation-lost: {0} orders wait for nothing")]
    Waiting(usize),
    #[error("tasks-outlive-us: container {0} is of no living task and nothing ends it")]
    Orphan(ContainerId),
    #[error("persist-before-promise: an effect waits for position {0}, which comes later")]
    Position(Position),
    #[error("bounded: timer {0} waits for nothing")]
    StrayTimer(String),
    #[error("the timer of task {0:?} is not set")]
    NoTimer(TaskKey),
    #[error("framework {framework} is said to have {counted} tasks but has {tasks}")]
    FrameworkCount { framework: String, counted: usize, tasks: usize },
}

impl Core {
    /// Checks everything: O(tasks). For tests and simulations.
    ///
    /// # Errors
    /// The first thing found that must never be.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        self.updates.check_invariants()?;
        for (key, task) in &self.tasks {
            self.check_task(key, task)?;
        }
        for (key, executor) in &self.executors {
            self.check_executor(key, executor)?;
        }
        for (id, container) in &self.containers {
            if self.belongs(id, &container.owner) || container.destroying {
                continue;
            }
            let living = match &container.owner {
                Owner::Task(key) => self.tasks.get(key).is_some_and(|task| !task.ended()),
                Owner::Executor(key) => self.executors.contains_key(key),
            };
            return Err(match living {
                true => Violation::TwoContainers(id.clone(), format!("{:?}", container.owner)),
                false => Violation::Orphan(id.clone()),
            });
        }
        for (id, framework) in &self.frameworks {
            let tasks = self.tasks.keys().filter(|key| key.0 == *id).count();
            let executors = self.executors.keys().filter(|key| key.0 == *id).count();
            if tasks != framework.tasks
                || executors != framework.executors
                || tasks + executors == 0
            {
                let (framework, counted) = (id.to_string(), framework.tasks);
                return Err(Violation::FrameworkCount { framework, counted, tasks });
            }
        }
        self.check_operations()?;
        self.check_timers()?;
        self.check_positions()
    }

    /// Whether the container is that of its owner, who has not ended.
    pub(crate) fn belongs(&self, id: &ContainerId, owner: &Owner) -> bool {
        match owner {
            Owner::Task(key) => self
                .tasks
                .get(key)
                .is_some_and(|task| task.container.as_ref() == Some(id) && !task.ended()),
            Owner::Executor(key) => {
                self.executors.get(key).is_some_and(|executor| executor.container == *id)
            }
        }
    }

    fn check_executor(&self, key: &ExecutorKey, executor: &Executor) -> Result<(), Violation> {
        if !self.containers.contains_key(&executor.container) {
            return Err(Violation::NoExecutorContainer(key.clone()));
        }
        for id in &executor.tasks {
            let task_key = (key.0.clone(), id.clone());
            let task = self.tasks.get(&task_key).filter(|task| !task.ended());
            let Some(part) = task.and_then(|task| task.part.as_ref()) else {
                return Err(Violation::Stranger(key.clone(), task_key));
            };
            let queued = executor.queue.iter().flat_map(|parcel| &parcel.tasks);
            let queued = queued.filter(|waiting| *waiting == id).count();
            let waits = !part.delivered && executor.phase != ExecutorPhase::Terminating;
            let ended = executor.phase == ExecutorPhase::Terminating;
            if part.executor != key.1 || (queued != usize::from(waits) && !ended) {
                return Err(Violation::Queue(key.clone(), task_key));
            }
        }
        let set = executor
            .due_ns
            .is_none_or(|due| self.timers.contains(due, &Timer::Executor(key.clone())));
        let needed =
            matches!(executor.phase, ExecutorPhase::Registering | ExecutorPhase::Recovering);
        if !set || (needed && executor.due_ns.is_none()) {
            return Err(Violation::NoExecutorTimer(key.clone()));
        }
        Ok(())
    }

    fn check_task(&self, key: &TaskKey, task: &Task) -> Result<(), Violation> {
        if let Some(executor) = task.executor().filter(|_| !task.ended()) {
            let of = (key.0.clone(), executor.clone());
            if self.executors.get(&of).is_none_or(|known| !known.tasks.contains(&key.1)) {
                return Err(Violation::Stranger(of, key.clone()));
            }
        }
        let container = task.container.as_ref().filter(|id| self.containers.contains_key(*id));
        if !task.ended() && container.is_none() {
            return Err(Violation::NoContainer(key.clone()));
        }
        if task.ended() != task.latest.as_ref().is_some_and(|latest| is_terminal(latest.state())) {
            return Err(Violation::SilentEnding(key.clone()));
        }
        let last = self.updates.pending(key).last();
        if task.ended() && last.is_none() {
            return Err(Violation::SilentEnding(key.clone()));
        }
        if let Some(last) = last
            && task.latest.as_ref() != Some(&last.body.status)
        {
            return Err(Violation::NewestUpdate(key.clone()));
        }
        let kill_due = task.kill.and_then(|kill| kill.due_ns);
        let kill = kill_due.is_none_or(|due| self.timers.contains(due, &Timer::Kill(key.clone())));
        let completion = task
            .completion_due_ns
            .is_none_or(|due| self.timers.contains(due, &Timer::Completion(key.clone())));
        let mut checks = task.checks.iter().flat_map(|checks| checks.due());
        let checks =
            checks.all(|(due, kind)| self.timers.contains(due, &Timer::Check(key.clone(), kind)));
        if kill && completion && checks { Ok(()) } else { Err(Violation::NoTimer(key.clone())) }
    }

    fn check_operations(&self) -> Result<(), Violation> {
        self.operation_updates.check_invariants()?;
        for uuid in self.operations.keys() {
            if self.operation_updates.pending(uuid).next().is_none() {
                return Err(Violation::SilentOperation(*uuid));
            }
        }
        if self.operation_updates.len() != self.operations.len() {
            return Err(Violation::StrayOperation);
        }
        let configured = mezzo_types::Resources::from_proto(&self.config.info.resources);
        let configured = configured.unwrap_or_default().quantities();
        if self.total.quantities() != configured {
            return Err(Violation::Total(self.total.to_string()));
        }
        if self.applying.is_none() && !self.waiting.is_empty() {
            return Err(Violation::Waiting(self.waiting.len()));
        }
        Ok(())
    }

    fn check_timers(&self) -> Result<(), Violation> {
        for timer in self.timers.iter() {
            let needed = match timer {
                Timer::Kill(key) => self
                    .tasks
                    .get(key)
                    .is_some_and(|task| task.kill.is_some_and(|kill| kill.due_ns.is_some())),
                Timer::Completion(key) => self.tasks.get(key).is_some_and(|task| {
                    task.stage == TaskStage::Running && task.completion_due_ns.is_some()
                }),
                Timer::Check(key, kind) => self.tasks.get(key).is_some_and(|task| {
                    let checks = task.checks.iter().flat_map(|checks| checks.due());
                    task.stage == TaskStage::Running
                        && checks.into_iter().any(|(_, due)| due == *kind)
                }),
                Timer::Executor(key) => {
                    self.executors.get(key).is_some_and(|executor| executor.due_ns.is_some())
                }
                Timer::Silence(link) => self.link.as_ref().is_some_and(|own| own.id == *link),
            };
            if !needed {
                return Err(Violation::StrayTimer(format!("{timer:?}")));
            }
        }
        Ok(())
    }

    fn check_positions(&self) -> Result<(), Violation> {
        let persists = |effect: &&Effect| matches!(effect, Effect::Persist(_));
        let ahead = self.effects.iter().filter(persists).count() as u64;
        let mut position = Position(self.position.0 - ahead);
        for effect in &self.effects {
            match effect {
                Effect::Persist(_) => position = position.next(),
                Effect::Send { after, .. }
                | Effect::Launch { after, .. }
                | Effect::Update { after, .. }
                | Effect::ExecutorAnswer { after, .. }
                | Effect::ExecutorEvent { after, .. }
                | Effect::CloseExecutor { after, .. }
                | Effect::Signal { after, .. }
                | Effect::Destroy { after, .. }
                | Effect::MakeVolumes { after, .. }
                | Effect::RemoveVolumes { after, .. }
                | Effect::Left { after, .. }
                    if *after > position =>
                {
                    return Err(Violation::Position(*after));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
