//! The readers' copy of the state, fed by the core's effects: reads never wait for the loop.

mod overview;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use mezzo_agent_core::{ExecutorPhase, ExecutorView, TaskStage, TaskView, ViewChange};
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{
    GetExecutors, GetFrameworks, GetTasks, get_executors, get_frameworks,
};
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, Resources, TaskId, Uuid16};
use tokio::sync::watch;

pub(crate) use overview::{Executor, Overview, WaitingTask};

use crate::meter::Metered;

/// Ended and acknowledged tasks that are remembered.
const COMPLETED_TASKS_MAX: usize = 1_000;
/// Ended executors that are remembered (Mesos: 150 per framework).
const COMPLETED_EXECUTORS_MAX: usize = 150;
/// Frameworks without tasks that are remembered (Mesos: 50).
const COMPLETED_FRAMEWORKS_MAX: usize = 50;
/// Statuses kept per task; more come only from tasks with changing health.
const STATUSES_MAX: usize = 16;

/// What GET_TASKS and its like answer from.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    agent: Option<Box<v1::AgentInfo>>,
    registered: Option<u64>,
    /// Only as long as the drain has something to end.
    drain: Option<(v1::DrainConfig, i64)>,
    frameworks: BTreeMap<FrameworkId, Arc<v1::FrameworkInfo>>,
    completed_frameworks: VecDeque<Arc<v1::FrameworkInfo>>,
    tasks: BTreeMap<(FrameworkId, TaskId), Entry>,
    completed: VecDeque<Entry>,
    /// Those that run; command tasks have none.
    executors: BTreeMap<(FrameworkId, ExecutorId), Box<ExecutorView>>,
    completed_executors: VecDeque<Box<ExecutorView>>,
    /// What the agent has, as operations left it.
    total: Resources,
    operations: BTreeMap<Uuid16, Box<v1::Operation>>,
}

#[derive(Debug)]
struct Entry {
    task: Box<TaskView>,
    statuses: VecDeque<v1::TaskStatus>,
    stage: watch::Sender<TaskStage>,
}

/// Where a task is, for those who read its files.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) framework: FrameworkId,
    pub(crate) task: TaskId,
    /// Whose sandbox it is in: its own, for a command task.
    pub(crate) executor: ExecutorId,
    pub(crate) container: Option<ContainerId>,
    /// Follows the task; closed once it is forgotten.
    pub(crate) stage: watch::Receiver<TaskStage>,
}

/// Numbers of tasks, by what they are doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    pub(crate) registered: bool,
    pub(crate) frameworks: usize,
    pub(crate) executors: ExecutorCensus,
    /// By the newest state; only of tasks that have not ended.
    pub(crate) tasks: BTreeMap<v1::TaskState, usize>,
    /// Resources of tasks that have not ended.
    pub(crate) used: mezzo_types::Quantities,
    pub(crate) total: mezzo_types::Quantities,
}

/// Numbers of executors; a command task is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecutorCensus {
    pub(crate) registering: usize,
    pub(crate) running: usize,
    pub(crate) terminating: usize,
}

impl ExecutorCensus {
    fn count_task(&mut self, state: v1::TaskState) {
        match state {
            v1::TaskState::TaskStaging | v1::TaskState::TaskStarting => self.registering += 1,
            v1::TaskState::TaskKilling => self.terminating += 1,
            _ => self.running += 1,
        }
    }

    fn count(&mut self, phase: ExecutorPhase) {
        match phase {
            ExecutorPhase::Registering | ExecutorPhase::Recovering => self.registering += 1,
            ExecutorPhase::Subscribed => self.running += 1,
            ExecutorPhase::Terminating => self.terminating += 1,
        }
    }
}

impl View {
    pub(crate) fn apply(&self, change: ViewChange) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            ViewChange::Agent(info) => state.agent = Some(info),
            ViewChange::Registered(term) => state.registered = term,
            ViewChange::Drain(drain) => state.drain = drain,
            ViewChange::Framework(id, info) => {
                state.frameworks.insert(id, info);
            }
            ViewChange::FrameworkGone(id) => {
                if let Some(info) = state.frameworks.remove(&id) {
                    state.completed_frameworks.retain(|old| old.id != info.id);
                    push(&mut state.completed_frameworks, info, COMPLETED_FRAMEWORKS_MAX);
                }
            }
            ViewChange::Task(task) => state.put_task(task),
            ViewChange::TaskGone(framework, task) => {
                if let Some(mut entry) = state.tasks.remove(&(framework, task)) {
                    entry.stage.send_replace(TaskStage::Ended);
                    entry.task.stage = TaskStage::Ended;
                    push(&mut state.completed, entry, COMPLETED_TASKS_MAX);
                }
            }
            ViewChange::Executor(executor) => {
                let key = (executor.framework_id.clone(), executor.executor_id.clone());
                state.executors.insert(key, executor);
            }
            ViewChange::ExecutorGone(framework, executor) => {
                if let Some(executor) = state.executors.remove(&(framework, executor)) {
                    push(&mut state.completed_executors, executor, COMPLETED_EXECUTORS_MAX);
                }
            }
            ViewChange::Total(total) => state.total = *total,
            ViewChange::Operation(operation) => {
                if let Some(uuid) = Uuid16::from_slice(&operation.uuid.value) {
                    state.operations.insert(uuid, operation);
                }
            }
            ViewChange::OperationGone(uuid) => {
                state.operations.remove(&uuid);
            }
        }
        // As Mesos' agent: nothing is left that a drain could end.
        if state.frameworks.is_empty() && state.operations.is_empty() {
            state.drain = None;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations whose ending was not acknowledged yet.
    pub(crate) fn operations(&self) -> Vec<v1::Operation> {
        self.read().operations.values().map(|operation| (**operation).clone()).collect()
    }

    /// The order to drain, as long as it has something to end, and when it came (nanoseconds since the epoch).
    pub(crate) fn drain(&self) -> Option<(v1::DrainConfig, i64)> {
        self.read().drain
    }

    pub(crate) fn agent(&self) -> Option<v1::AgentInfo> {
        self.read().agent.as_deref().cloned()
    }

    /// Finds a task; without a framework, the only one of that id. The newest run comes first.
    ///
    /// # Errors
    /// The frameworks that have a task of that id, if there are several.
    pub(crate) fn locate(
        &self,
        framework: Option<&FrameworkId>,
        task: &TaskId,
    ) -> Result<Option<Located>, Vec<FrameworkId>> {
        let state = self.read();
        let matches = |entry: &&Entry| {
            entry.task.task_id == *task
                && framework.is_none_or(|wanted| entry.task.framework_id == *wanted)
        };
        let living: Vec<&Entry> = state.tasks.values().filter(matches).collect();
        let found: Vec<&Entry> = if living.is_empty() {
            state.completed.iter().rev().filter(matches).collect()
        } else {
            living
        };
        let Some(first) = found.first() else { return Ok(None) };
        let owner = &first.task.framework_id;
        if found.iter().any(|entry| entry.task.framework_id != *owner) {
            let owners = found.iter().map(|entry| entry.task.framework_id.clone());
            let owners: std::collections::BTreeSet<FrameworkId> = owners.collect();
            return Err(owners.into_iter().collect());
        }
        Ok(Some(Located {
            framework: owner.clone(),
            task: task.clone(),
            executor: first.executor_id(),
            container: first.task.container.clone(),
            stage: first.stage.subscribe(),
        }))
    }

    /// Framework and executor of every container that is known, ended ones included. A command task is its own executor.
    pub(crate) fn with_containers(&self) -> Vec<(FrameworkId, ExecutorId, ContainerId)> {
        let state = self.read();
        let of_task = |entry: &Entry| {
            let TaskView { framework_id, container, executor_id, .. } = &*entry.task;
            let own = executor_id.is_none().then(|| entry.executor_id())?;
            Some((framework_id.clone(), own, container.clone()?))
        };
        let of_executor = |executor: &ExecutorView| {
            let ExecutorView { framework_id, executor_id, container, .. } = executor;
            (framework_id.clone(), executor_id.clone(), container.clone())
        };
        let tasks = state.tasks.values().chain(&state.completed).filter_map(of_task);
        let executors = state.executors.values().chain(&state.completed_executors);
        tasks.chain(executors.map(|executor| of_executor(executor))).collect()
    }

    pub(crate) fn tasks(&self) -> GetTasks {
        self.read().tasks()
    }

    pub(crate) fn executors(&self) -> GetExecutors {
        let state = self.read();
        let told = |executor: Executor| get_executors::Executor { executor_info: executor.info };
        GetExecutors {
            executors: state.executors().map(told).collect(),
            completed_executors: state.completed_executors().map(told).collect(),
        }
    }

    pub(crate) fn frameworks(&self) -> GetFrameworks {
        self.read().frameworks()
    }

    /// What has a container and has not ended: command tasks and executors. All, or the one that the named task is in.
    pub(crate) fn metered(&self, only: Option<&(FrameworkId, TaskId)>) -> Vec<Metered> {
        let state = self.read();
        let Some(key) = only else {
            let executors = state.executors.values().map(|executor| metered(executor));
            return state.tasks.values().filter_map(Entry::metered).chain(executors).collect();
        };
        let Some(entry) = state.tasks.get(key) else { return Vec::new() };
        match &entry.task.executor_id {
            None => entry.metered().into_iter().collect(),
            Some(executor) => {
                let executor = state.executors.get(&(key.0.clone(), executor.clone()));
                // Under the name that was asked for.
                let named =
                    executor.map(|executor| Metered { task: key.1.clone(), ..metered(executor) });
                named.into_iter().collect()
            }
        }
    }

    pub(crate) fn census(&self) -> Census {
        let state = self.read();
        let mut census = Census {
            registered: state.registered.is_some(),
            frameworks: state.frameworks.len(),
            ..Census::default()
        };
        let quantities = |resources: &[v1::Resource]| {
            mezzo_types::Resources::from_proto(resources).unwrap_or_default().quantities()
        };
        if let Some(agent) = &state.agent {
            census.total = quantities(&agent.resources);
        }
        for entry in state.tasks.values().filter(|entry| entry.task.stage != TaskStage::Ended) {
            let newest = entry.task.status.as_ref().map(|status| status.state());
            let state = newest.unwrap_or(v1::TaskState::TaskStaging);
            *census.tasks.entry(state).or_default() += 1;
            if entry.task.executor_id.is_none() {
                census.executors.count_task(state);
            }
        }
        for executor in state.executors.values() {
            census.executors.count(executor.phase);
        }
        census.used = state.used().quantities();
        census
    }
}

impl State {
    fn tasks(&self) -> GetTasks {
        let mut answer = GetTasks::default();
        for entry in self.tasks.values() {
            let list = match entry.task.stage {
                TaskStage::Ended => &mut answer.terminated_tasks,
                _ if entry.task.waiting => &mut answer.queued_tasks,
                TaskStage::Launching | TaskStage::Running => &mut answer.launched_tasks,
            };
            list.push(entry.to_proto());
        }
        answer.completed_tasks = self.completed.iter().map(Entry::to_proto).collect();
        answer
    }

    /// Those that run, and what stands for them of command tasks.
    fn executors(&self) -> impl Iterator<Item = Executor> {
        let running = self.executors.values().map(|executor| Executor::of(executor));
        running.chain(self.tasks.values().filter_map(Entry::executor))
    }

    fn completed_executors(&self) -> impl Iterator<Item = Executor> {
        let completed = self.completed_executors.iter().map(|executor| Executor::of(executor));
        completed.chain(self.completed.iter().filter_map(Entry::executor))
    }

    fn frameworks(&self) -> GetFrameworks {
        let framework = |info: &Arc<v1::FrameworkInfo>| get_frameworks::Framework {
            framework_info: (**info).clone(),
        };
        GetFrameworks {
            frameworks: self.frameworks.values().map(framework).collect(),
            completed_frameworks: self.completed_frameworks.iter().map(framework).collect(),
        }
    }

    /// What tasks that have not ended and executors have.
    fn used(&self) -> Resources {
        let living = self.tasks.values().filter(|entry| entry.task.stage != TaskStage::Ended);
        let tasks = living.map(|entry| &entry.task.info.resources);
        let executors = self.executors.values().map(|executor| &executor.info.resources);
        tasks.chain(executors).map(|list| Resources::from_proto(list).unwrap_or_default()).sum()
    }

    fn put_task(&mut self, task: Box<TaskView>) {
        let key = (task.framework_id.clone(), task.task_id.clone());
        match self.tasks.get_mut(&key) {
            Some(entry) => {
                entry
                    .stage
                    .send_if_modified(|stage| std::mem::replace(stage, task.stage) != task.stage);
                entry.task = task;
                entry.note_status();
            }
            None => {
                let stage = watch::Sender::new(task.stage);
                let mut entry = Entry { task, statuses: VecDeque::new(), stage };
                entry.note_status();
                self.tasks.insert(key, entry);
            }
        }
    }
}

impl Entry {
    fn note_status(&mut self) {
        let Some(status) = &self.task.status else { return };
        if self.statuses.back().is_none_or(|last| last.uuid != status.uuid) {
            push(&mut self.statuses, (**status).clone(), STATUSES_MAX);
        }
    }

    fn to_proto(&self) -> v1::Task {
        let info = &self.task.info;
        let newest = self.task.status.as_deref();
        v1::Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: (&self.task.framework_id).into(),
            executor_id: Some((&self.executor_id()).into()),
            agent_id: info.agent_id.clone(),
            state: newest.map_or(v1::TaskState::TaskStaging as i32, |status| status.state),
            resources: info.resources.clone(),
            statuses: self.statuses.iter().cloned().collect(),
            status_update_state: newest.map(|status| status.state),
            status_update_uuid: newest.and_then(|status| status.uuid.clone()),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            user: info.command.as_ref().and_then(|command| command.user.clone()),
            limits: info.limits.clone(),
        }
    }

    /// A command task is its own executor.
    fn executor_id(&self) -> ExecutorId {
        let own = || ExecutorId::new(self.task.task_id.as_str());
        self.task.executor_id.clone().unwrap_or_else(own)
    }

    /// What stands for the executor of a command task.
    fn executor(&self) -> Option<Executor> {
        if self.task.executor_id.is_some() {
            return None;
        }
        let info = &self.task.info;
        let info = v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: self.task.task_id.to_string() },
            framework_id: Some((&self.task.framework_id).into()),
            name: Some(format!("Command Executor (Task: {})", self.task.task_id)),
            command: info.command.clone(),
            resources: info.resources.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            ..v1::ExecutorInfo::default()
        };
        Some(Executor { info, own: Resources::default() })
    }

    fn metered(&self) -> Option<Metered> {
        if self.task.stage == TaskStage::Ended || self.task.executor_id.is_some() {
            return None;
        }
        let info = &self.task.info;
        let role = info.resources.iter().find_map(|resource| resource.allocation_info.as_ref());
        let resources = mezzo_types::Resources::from_proto(&info.resources).unwrap_or_default();
        let cpus = resources.cpus().to_f64();
        let limit = info.limits.get("cpus").map_or(cpus, |limit| limit.value);
        let status = self.task.status.as_ref();
        Some(Metered {
            framework: self.task.framework_id.clone(),
            task: self.task.task_id.clone(),
            name: info.name.clone(),
            role: role.and_then(|info| info.role.clone()).unwrap_or_else(|| "*".to_owned()),
            container: self.task.container.clone()?,
            status: status.and_then(|status| status.container_status.clone()),
            cpus,
            cpus_limit: limit.is_finite().then_some(limit),
        })
    }
}

/// The container of an executor and its tasks.
fn metered(executor: &ExecutorView) -> Metered {
    let role = executor.resources.allocation_roles().first().map(|role| role.to_string());
    let cpus = executor.resources.cpus().to_f64();
    Metered {
        framework: executor.framework_id.clone(),
        // Readings are known by the id of what the container is for.
        task: TaskId::new(executor.executor_id.as_str()),
        name: executor.info.name.clone().unwrap_or_default(),
        role: role.unwrap_or_else(|| "*".to_owned()),
        container: executor.container.clone(),
        status: Some(v1::ContainerStatus {
            container_id: Some(executor.container.to_proto()),
            executor_pid: executor.pid.and_then(|pid| u32::try_from(pid).ok()),
            ..v1::ContainerStatus::default()
        }),
        cpus,
        cpus_limit: Some(cpus),
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(view: &View, framework: &str, stage: TaskStage, state: v1::TaskState) {
        let status = v1::TaskStatus {
            state: state as i32,
            uuid: Some(vec![state as u8; 16].into()),
            ..Default::default()
        };
        view.apply(ViewChange::Task(Box::new(TaskView {
            framework_id: framework.into(),
            task_id: "t".into(),
            executor_id: None,
            info: Arc::default(),
            container: Some(format!("c-{framework}").into()),
            pid: None,
            stage,
            waiting: false,
            status: Some(Box::new(status)),
        })));
    }

    #[test]
    fn a_task_moves_from_launched_to_completed() {
        let view = View::default();
        put(&view, "f", TaskStage::Launching, v1::TaskState::TaskStarting);
        let located = view.locate(None, &"t".into()).unwrap().unwrap();
        assert_eq!(*located.stage.borrow(), TaskStage::Launching);
        put(&view, "f", TaskStage::Running, v1::TaskState::TaskRunning);
        put(&view, "f", TaskStage::Running, v1::TaskState::TaskRunning);
        assert_eq!(*located.stage.borrow(), TaskStage::Running);
        let tasks = view.tasks();
        assert_eq!(tasks.launched_tasks[0].statuses.len(), 2);
        assert_eq!(view.census().tasks[&v1::TaskState::TaskRunning], 1);
        assert_eq!(view.metered(None).len(), 1);
        put(&view, "f", TaskStage::Ended, v1::TaskState::TaskFinished);
        assert_eq!(view.tasks().terminated_tasks.len(), 1);
        assert!(view.census().tasks.is_empty() && view.metered(None).is_empty());
        view.apply(ViewChange::TaskGone("f".into(), "t".into()));
        assert_eq!(view.tasks().completed_tasks.len(), 1);
        assert_eq!(*located.stage.borrow(), TaskStage::Ended);
    }

    #[test]
    fn a_drain_is_shown_as_long_as_there_is_something_to_end() {
        let view = View::default();
        let drain = || view.apply(ViewChange::Drain(Some((v1::DrainConfig::default(), 5))));
        drain();
        assert_eq!(view.drain(), None, "it was over at once");
        view.apply(ViewChange::Framework("f".into(), Arc::default()));
        drain();
        put(&view, "f", TaskStage::Running, v1::TaskState::TaskRunning);
        assert_eq!(view.drain(), Some((v1::DrainConfig::default(), 5)));
        view.apply(ViewChange::TaskGone("f".into(), "t".into()));
        view.apply(ViewChange::FrameworkGone("f".into()));
        assert_eq!(view.drain(), None);
        // What arrives then, and is turned down, does not bring it back.
        view.apply(ViewChange::Framework("f".into(), Arc::default()));
        assert_eq!(view.drain(), None);
    }

    #[test]
    fn tasks_of_two_frameworks_are_told_apart() {
        let view = View::default();
        put(&view, "f", TaskStage::Running, v1::TaskState::TaskRunning);
        put(&view, "g", TaskStage::Running, v1::TaskState::TaskRunning);
        let owners = view.locate(None, &"t".into()).unwrap_err();
        assert_eq!(owners, [FrameworkId::from("f"), FrameworkId::from("g")]);
        let found = view.locate(Some(&"g".into()), &"t".into()).unwrap().unwrap();
        assert_eq!(found.container, Some("c-g".into()));
        assert!(view.locate(None, &"u".into()).unwrap().is_none());
    }
}
