//! Orders to run tasks in an executor, which is started if it is the first one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_proto::internal::v1::{LaunchPosition, RunTaskGroup};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor_info;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ContainerId, FrameworkId, Now, Resources, TaskId};
use prost::Message;

use super::{Executor, ExecutorKey, ExecutorPhase, Parcel};
use crate::core::Core;
use crate::effect::{Change, Effect, Launch, Workload};
use crate::input::{Ending, LinkId};
use crate::launch::Rejection;
use crate::task::{Container, Owner, Part, Task, TaskKey};

/// Tasks for one executor that arrived as one order.
pub(crate) struct ExecutorOrder {
    pub(crate) owner: v1::FrameworkInfo,
    pub(crate) framework: FrameworkId,
    pub(crate) executor: v1::ExecutorInfo,
    /// Decoded, and as received.
    pub(crate) tasks: Vec<(v1::TaskInfo, Bytes)>,
    pub(crate) position: LaunchPosition,
    pub(crate) group: bool,
    /// The master counts the executor anew: it does not know of one.
    pub(crate) launch_executor: bool,
}

/// Where the tasks go.
enum Place {
    Running,
    /// A new executor, which runs as this user.
    New {
        user: String,
    },
}

impl Core {
    pub(crate) fn run_task_group(&mut self, now: Now, link: LinkId, run: RunTaskGroup) {
        let position = run.position.unwrap_or_default();
        if !self.take_order(link, position, "a launch", |all| &mut all.launches_repeated) {
            return;
        }
        let changes = vec![Change::PutLastLaunch(position)];
        let decode = |raw: Bytes| Some((v1::TaskInfo::decode(raw.clone()).ok()?, raw));
        let tasks: Option<Vec<_>> = run.task_infos.into_iter().map(decode).collect();
        let owner = run.framework_info.filter(|owner| owner.id.is_some());
        let (Some(tasks), Some(owner), Some(executor)) = (tasks, owner, run.executor_info) else {
            // As with a single task: registering anew tells the master.
            self.persist(changes, false);
            return self.close_link(link, "a launch of a task group arrived that cannot be read");
        };
        let framework = FrameworkId::new(owner.id.clone().unwrap_or_default().value);
        let order = ExecutorOrder {
            owner,
            framework,
            executor,
            tasks,
            position,
            group: true,
            launch_executor: run.launch_executor,
        };
        self.run_in_executor(now, order, changes);
    }

    pub(crate) fn run_in_executor(
        &mut self,
        now: Now,
        order: ExecutorOrder,
        mut changes: Vec<Change>,
    ) {
        let ids: Vec<TaskId> =
            order.tasks.iter().map(|(info, _)| TaskId::from(&info.task_id)).collect();
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            // The master validated the group, so this is nobody's fault here.
            self.persist(changes, false);
            let link = self.link.as_ref().map(|link| link.id);
            let reason = "a launch of a task group arrived that has two tasks of one id";
            return link.into_iter().for_each(|link| self.close_link(link, reason));
        }
        let known = |id: &TaskId| self.tasks.contains_key(&(order.framework.clone(), id.clone()));
        if ids.iter().any(known) {
            self.statistics.launches_repeated += ids.len() as u64;
            return self.persist(changes, false);
        }
        self.statistics.launches += ids.len() as u64;
        let key: ExecutorKey = (order.framework.clone(), (&order.executor.executor_id).into());
        let place = self.place(&key, &order);
        let owner = Arc::new(order.owner);
        let part = Part {
            executor: key.1.clone(),
            position: order.position,
            group: order.group,
            delivered: false,
            kill_policy: None,
        };
        let mut infos = Vec::new();
        for (info, raw) in order.tasks {
            let mut task = Task::new(info, raw);
            task.part = Some(part.clone());
            infos.push(task);
        }
        let user = match place {
            Ok(Place::Running) => None,
            Ok(Place::New { user }) => Some(user),
            Err(rejection) => {
                for (id, task) in ids.iter().zip(infos) {
                    self.insert_task((key.0.clone(), id.clone()), task, owner.clone());
                }
                self.reject(now, &key, &ids, &rejection, changes);
                if order.launch_executor {
                    // The master counts it, and would for ever.
                    self.put_executor_right(now, &key);
                }
                return;
            }
        };
        if user.is_some() {
            let executor = self.new_executor(&key, order.executor);
            let of = Owner::Executor(key.clone());
            let container = Container { owner: of, started: None, destroying: false };
            self.containers.insert(executor.container.clone(), container);
            self.insert_executor(key.clone(), executor, owner.clone());
        }
        let container = self.executors.get(&key).map(|executor| executor.container.clone());
        let pid = self.executors.get(&key).and_then(|executor| executor.pid);
        for (id, mut task) in ids.iter().zip(infos) {
            task.container = container.clone();
            task.pid = pid;
            self.insert_task((key.0.clone(), id.clone()), task, owner.clone());
        }
        if let Some(executor) = self.executors.get_mut(&key) {
            executor.tasks.extend(ids.iter().cloned());
            let grant = if user.is_some() { 0 } else { executor.grants + 1 };
            executor.queue.push_back(Parcel { tasks: ids.clone(), group: order.group, grant });
        }
        for id in &ids {
            changes.extend(self.task_record(&(key.0.clone(), id.clone())));
        }
        match (user, container) {
            (Some(user), Some(container)) => {
                self.start_executor(now, &key, container, user, changes);
            }
            _ => {
                self.persist(changes, false);
                self.grant(&key);
            }
        }
        for id in ids {
            self.view_task(&(key.0.clone(), id));
        }
    }

    fn new_executor(&mut self, key: &ExecutorKey, mut info: v1::ExecutorInfo) -> Executor {
        // As Mesos does: frameworks need not name themselves.
        info.framework_id = Some((&key.0).into());
        Executor {
            info: Arc::new(info),
            container: ContainerId::from(self.ids.next_uuid().to_string()),
            phase: ExecutorPhase::Registering,
            stream: None,
            pid: None,
            due_ns: None,
            tasks: BTreeSet::new(),
            queue: VecDeque::new(),
            served: false,
            grants: 0,
            granted: 0,
            granting: false,
            verdict: None,
            limitation: None,
        }
    }

    fn start_executor(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        container: ContainerId,
        user: String,
        mut changes: Vec<Change>,
    ) {
        changes.extend(self.container_record(&container));
        changes.extend(self.executor_record(key));
        self.persist(changes, false);
        let due = now.plus(self.config.executor_registration_timeout);
        self.set_executor_due(key, Some(due));
        self.statistics.executors_launched += 1;
        let (Some(executor), Some(framework)) =
            (self.executors.get(key), self.frameworks.get(&key.0))
        else {
            return;
        };
        let launch = Launch {
            container,
            agent_id: self.agent_id().cloned().unwrap_or_default().into(),
            framework_id: key.0.clone(),
            framework: framework.info.clone(),
            executor_id: key.1.clone(),
            workload: Workload::Executor(executor.info.clone()),
            user,
            resources: self.executor_resources(key),
        };
        self.effects.push_back(Effect::Launch { launch: Box::new(launch), after: self.position });
        self.view_executor(key);
    }

    fn place(&self, key: &ExecutorKey, order: &ExecutorOrder) -> Result<Place, Rejection> {
        self.takes_orders()?;
        let invalid = |message: String| {
            let reason = if order.group { Reason::TaskGroupInvalid } else { Reason::TaskInvalid };
            Rejection::error(reason, format!("executor '{}': {message}", key.1))
        };
        let info = &order.executor;
        if info.r#type() == executor_info::Type::Default {
            return Err(invalid(
                "type is DEFAULT, which this agent does not run; set type to CUSTOM and command to \
                 that of an executor"
                    .to_owned(),
            ));
        }
        let read = |what: &str, resources: &[v1::Resource]| {
            let resources = Resources::from_proto(resources)
                .map_err(|error| invalid(format!("{what}: {error}")))?;
            match self.unknown_resources(&resources) {
                None => Ok(()),
                Some(unknown) => Err(Rejection::dropped(
                    Reason::ResourcesUnknown,
                    format!(
                        "executor '{}': {what} name {unknown}, which the agent does not have: the operation \
                         that was to make it failed, or never arrived",
                        key.1
                    ),
                )),
            }
        };
        read("resources", &info.resources)?;
        for (task, _) in &order.tasks {
            read(&format!("resources of task '{}'", task.task_id.value), &task.resources)?;
        }
        let terminated = |message: &str| Rejection::dropped(Reason::ExecutorTerminated, message);
        match self.executors.get(key) {
            Some(_) if order.launch_executor => Err(terminated(
                "The master wants the executor to be launched, but it runs already: it is ended, try again",
            )),
            Some(executor) if executor.phase == ExecutorPhase::Terminating => {
                Err(terminated("The executor is being ended"))
            }
            Some(_) => Ok(Place::Running),
            None if !order.launch_executor => Err(terminated(
                "The executor ended before the task reached it: launch the task again",
            )),
            None => {
                let Some(command) = &info.command else {
                    return Err(invalid("command must be set".to_owned()));
                };
                let user = command.user.clone().unwrap_or_else(|| order.owner.user.clone());
                if user.is_empty() {
                    return Err(invalid(
                        "no user to run as; set command.user or the framework's user".to_owned(),
                    ));
                }
                Ok(Place::New { user })
            }
        }
    }

    fn reject(
        &mut self,
        now: Now,
        key: &ExecutorKey,
        ids: &[TaskId],
        rejection: &Rejection,
        changes: Vec<Change>,
    ) {
        let state = match rejection.state {
            TaskState::TaskDropped => self.lost_or(&key.0, TaskState::TaskDropped),
            state => state,
        };
        let mut changes = Some(changes);
        for id in ids {
            let task: TaskKey = (key.0.clone(), id.clone());
            let status = self.agent_status(now, &task, state, rejection.reason, &rejection.message);
            self.report(now, &task, status, changes.take().unwrap_or_default());
        }
    }

    /// The master counts an executor that was not started for it. One that runs nevertheless is ended, as in
    /// Mesos: which of both the master means cannot be told.
    fn put_executor_right(&mut self, now: Now, key: &ExecutorKey) {
        if self.executors.contains_key(key) {
            self.shut_executor_down(now, key);
        } else {
            self.tell_executor_exit(key, Ending::Unknown);
        }
    }
}
