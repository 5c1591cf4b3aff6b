//! The readers' copy of the state, fed by the core's effects: reads never wait for the loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use mezzo_agent_core::{TaskStage, TaskView, ViewChange};
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{
    GetExecutors, GetFrameworks, GetTasks, get_executors, get_frameworks,
};
use mezzo_types::{ContainerId, FrameworkId, TaskId, Uuid16};
use tokio::sync::watch;

use crate::meter::Metered;

/// Ended and acknowledged tasks that are remembered.
const COMPLETED_TASKS_MAX: usize = 1_000;
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
    frameworks: BTreeMap<FrameworkId, Arc<v1::FrameworkInfo>>,
    completed_frameworks: VecDeque<Arc<v1::FrameworkInfo>>,
    tasks: BTreeMap<(FrameworkId, TaskId), Entry>,
    completed: VecDeque<Entry>,
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
    pub(crate) container: Option<ContainerId>,
    /// Follows the task; closed once it is forgotten.
    pub(crate) stage: watch::Receiver<TaskStage>,
}

/// Numbers of tasks, by what they are doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    pub(crate) registered: bool,
    pub(crate) frameworks: usize,
    /// By the newest state; only of tasks that have not ended.
    pub(crate) tasks: BTreeMap<v1::TaskState, usize>,
    /// Resources of tasks that have not ended.
    pub(crate) used: mezzo_types::Quantities,
    pub(crate) total: mezzo_types::Quantities,
}

impl View {
    pub(crate) fn apply(&self, change: ViewChange) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            ViewChange::Agent(info) => state.agent = Some(info),
            ViewChange::Registered(term) => state.registered = term,
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
            // The amounts, which are all that is shown, are as they were configured.
            ViewChange::Total(_) => {}
            ViewChange::Operation(operation) => {
                if let Some(uuid) = Uuid16::from_slice(&operation.uuid.value) {
                    state.operations.insert(uuid, operation);
                }
            }
            ViewChange::OperationGone(uuid) => {
                state.operations.remove(&uuid);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations whose ending was not acknowledged yet.
    pub(crate) fn operations(&self) -> Vec<v1::Operation> {
        self.read().operations.values().map(|operation| (**operation).clone()).collect()
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
            container: first.task.container.clone(),
            stage: first.stage.subscribe(),
        }))
    }

    /// Framework and task of every container that is known, ended ones included.
    pub(crate) fn with_containers(&self) -> Vec<(FrameworkId, TaskId, ContainerId)> {
        let state = self.read();
        let container = |entry: &Entry| {
            let TaskView { framework_id, task_id, container, .. } = &*entry.task;
            Some((framework_id.clone(), task_id.clone(), container.clone()?))
        };
        state.tasks.values().chain(&state.completed).filter_map(container).collect()
    }

    pub(crate) fn tasks(&self) -> GetTasks {
        let state = self.read();
        let mut answer = GetTasks::default();
        for entry in state.tasks.values() {
            let task = entry.to_proto();
            match entry.task.stage {
                TaskStage::Launching | TaskStage::Running => answer.launched_tasks.push(task),
                TaskStage::Ended => answer.terminated_tasks.push(task),
            }
        }
        answer.completed_tasks = state.completed.iter().map(Entry::to_proto).collect();
        answer
    }

    pub(crate) fn executors(&self) -> GetExecutors {
        let state = self.read();
        let executor = |entry: &Entry| get_executors::Executor { executor_info: entry.executor() };
        GetExecutors {
            executors: state.tasks.values().map(executor).collect(),
            completed_executors: state.completed.iter().map(executor).collect(),
        }
    }

    pub(crate) fn frameworks(&self) -> GetFrameworks {
        let state = self.read();
        let framework = |info: &Arc<v1::FrameworkInfo>| get_frameworks::Framework {
            framework_info: (**info).clone(),
        };
        GetFrameworks {
            frameworks: state.frameworks.values().map(framework).collect(),
            completed_frameworks: state.completed_frameworks.iter().map(framework).collect(),
        }
    }

    /// Tasks that have a container and have not ended: all, or the one that is named.
    pub(crate) fn metered(&self, only: Option<&(FrameworkId, TaskId)>) -> Vec<Metered> {
        let state = self.read();
        match only {
            Some(key) => state.tasks.get(key).and_then(Entry::metered).into_iter().collect(),
            None => state.tasks.values().filter_map(Entry::metered).collect(),
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
        let mut used = mezzo_types::Resources::default();
        for entry in state.tasks.values().filter(|entry| entry.task.stage != TaskStage::Ended) {
            let newest = entry.task.status.as_ref().map(|status| status.state());
            *census.tasks.entry(newest.unwrap_or(v1::TaskState::TaskStaging)).or_default() += 1;
            let resources = &entry.task.info.resources;
            used += &mezzo_types::Resources::from_proto(resources).unwrap_or_default();
        }
        census.used = used.quantities();
        census
    }
}

impl State {
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
            executor_id: Some(v1::ExecutorId { value: self.task.task_id.to_string() }),
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
    fn executor(&self) -> v1::ExecutorInfo {
        let info = &self.task.info;
        v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: self.task.task_id.to_string() },
            framework_id: Some((&self.task.framework_id).into()),
            name: Some(format!("Command Executor (Task: {})", self.task.task_id)),
            command: info.command.clone(),
            resources: info.resources.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            ..v1::ExecutorInfo::default()
        }
    }

    fn metered(&self) -> Option<Metered> {
        if self.task.stage == TaskStage::Ended {
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
            info: Arc::default(),
            container: Some(format!("c-{framework}").into()),
            pid: None,
            stage,
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
