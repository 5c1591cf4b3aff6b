//! Orders to run a task.

use std::sync::Arc;

use mezzo_proto::internal::v1::{LaunchPosition, RunTask};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{ContainerId, ExecutorId, FrameworkId, Now, Resources, TaskId};
use prost::Message;

use crate::core::Core;
use crate::effect::{Change, Effect, Launch, Workload};
use crate::executor::ExecutorOrder;
use crate::input::LinkId;
use crate::statistics::Statistics;
use crate::task::{Container, Owner, Task, TaskKey};

/// Why an order cannot be carried out; becomes the task's ending.
pub(crate) struct Rejection {
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Rejection {
    pub(crate) fn dropped(reason: Reason, message: impl Into<String>) -> Rejection {
        Rejection { state: TaskState::TaskDropped, reason, message: message.into() }
    }

    pub(crate) fn error(reason: Reason, message: impl Into<String>) -> Rejection {
        Rejection { state: TaskState::TaskError, reason, message: message.into() }
    }
}

/// What an accepted order comes to.
struct Accepted {
    resources: Resources,
    user: String,
}

pub(crate) fn order(position: &LaunchPosition) -> (u64, u64) {
    (position.term, position.sequence)
}

impl Core {
    /// Takes an order that must be taken once. `false` if it was dealt with: it was seen before, or the link is closed.
    /// `what` it is, and where it is counted if it was seen before.
    pub(crate) fn take_order(
        &mut self,
        link: LinkId,
        position: LaunchPosition,
        what: &str,
        repeated: fn(&mut Statistics) -> &mut u64,
    ) -> bool {
        let term = self
            .link
            .as_ref()
            .and_then(|link| link.registered.as_ref())
            .map(|registration| registration.term);
        if Some(position.term) != term {
            let reason = format!(
                "{what} of term {} arrived from the master of term {}",
                position.term,
                term.unwrap_or_default()
            );
            self.close_link(link, reason);
            return false;
        }
        if order(&position) <= order(&self.last_launch) {
            *repeated(&mut self.statistics) += 1;
            return false;
        }
        self.last_launch = position;
        true
    }

    /// Runs a task, once: an order whose position was seen, and a task that is known, are passed over.
    pub(crate) fn run_task(&mut self, now: Now, link: LinkId, run: RunTask) {
        let position = run.position.unwrap_or_default();
        if !self.take_order(link, position, "a launch", |all| &mut all.launches_repeated) {
            return;
        }
        let changes = vec![Change::PutLastLaunch(position)];
        let info = v1::TaskInfo::decode(run.task_info.as_ref());
        let owner = run.framework_info.filter(|owner| owner.id.is_some());
        let (Ok(info), Some(owner)) = (info, owner) else {
            // The master validated the task, so this is not the task's fault. Registering anew tells the
            // master that the launch arrived and the task is unknown, which ends the task there.
            self.persist(changes, false);
            return self.close_link(link, "a launch arrived that cannot be read");
        };
        let framework = FrameworkId::new(owner.id.clone().unwrap_or_default().value);
        if let (Some(executor), None) = (&info.executor, &info.command) {
            let order = ExecutorOrder {
                executor: executor.clone(),
                owner,
                framework,
                tasks: vec![(info, run.task_info)],
                position,
                group: false,
                launch_executor: run.launch_executor,
            };
            return self.run_in_executor(now, order, changes);
        }
        let key = (framework, TaskId::from(&info.task_id));
        if self.tasks.contains_key(&key) {
            self.statistics.launches_repeated += 1;
            return self.persist(changes, false);
        }
        self.statistics.launches += 1;
        let accepted = self.examine(&key, &info, &owner);
        let mut task = Task::new(info, run.task_info);
        let owner = Arc::new(owner);
        match accepted {
            Ok(accepted) => {
                let container = ContainerId::from(self.ids.next_uuid().to_string());
                task.container = Some(container.clone());
                self.insert_task(key.clone(), task, owner);
                self.launch(now, key, container, accepted, changes);
            }
            Err(Rejection { state, reason, message }) => {
                self.insert_task(key.clone(), task, owner);
                let state = if state == TaskState::TaskDropped {
                    self.lost_or(&key.0, state)
                } else {
                    state
                };
                let status = self.agent_status(now, &key, state, reason, message);
                self.report(now, &key, status, changes);
            }
        }
    }

    fn launch(
        &mut self,
        now: Now,
        key: TaskKey,
        id: ContainerId,
        accepted: Accepted,
        mut changes: Vec<Change>,
    ) {
        let owner = Owner::Task(key.clone());
        let container = Container { owner, started: None, destroying: false };
        self.containers.insert(id.clone(), container);
        if !is_on(Bug::AgentLaunchesUnwritten) {
            changes.extend(self.container_record(&id));
        }
        let status = self.status(now, &key, TaskState::TaskStarting, Source::Executor);
        self.report(now, &key, status, changes);
        let (Some(task), Some(framework)) = (self.tasks.get(&key), self.frameworks.get(&key.0))
        else {
            return;
        };
        let launch = Launch {
            container: id,
            agent_id: self.agent_id().cloned().unwrap_or_default().into(),
            framework: framework.info.clone(),
            executor_id: ExecutorId::new(key.1.as_str()),
            workload: Workload::Task(task.info.clone()),
            framework_id: key.0,
            user: accepted.user,
            resources: accepted.resources,
        };
        self.effects.push_back(Effect::Launch { launch: Box::new(launch), after: self.position });
    }

    /// Whether anything new can be run here at all.
    pub(crate) fn takes_orders(&self) -> Result<(), Rejection> {
        if self.leaving.is_some() {
            let message = "the agent is leaving the cluster";
            return Err(Rejection::dropped(Reason::AgentRemoved, message));
        }
        if self.draining.is_some() {
            let message = "the task arrived while the agent was drained";
            return Err(Rejection::dropped(Reason::AgentDraining, message));
        }
        match &self.shortage {
            Some(shortage) => {
                Err(Rejection::dropped(Reason::ContainerLaunchFailed, shortage.clone()))
            }
            None => Ok(()),
        }
    }

    fn examine(
        &self,
        key: &TaskKey,
        info: &v1::TaskInfo,
        owner: &v1::FrameworkInfo,
    ) -> Result<Accepted, Rejection> {
        let invalid = |message: String| Rejection {
            state: TaskState::TaskError,
            reason: Reason::TaskInvalid,
            message,
        };
        self.takes_orders()?;
        if info.executor.is_some() {
            return Err(invalid(format!(
                "task '{}': both command and executor are set; set one of them",
                key.1
            )));
        }
        let Some(command) = &info.command else {
            return Err(invalid(format!("task '{}': command must be set", key.1)));
        };
        let resources = Resources::from_proto(&info.resources)
            .map_err(|error| invalid(format!("task '{}': resources: {error}", key.1)))?;
        if let Some(unknown) = self.unknown_resources(&resources) {
            return Err(Rejection {
                state: TaskState::TaskDropped,
                reason: Reason::ResourcesUnknown,
                message: format!(
                    "task '{}' is to use {unknown}, which the agent does not have: the operation that was \
                     to make it failed, or never arrived",
                    key.1
                ),
            });
        }
        let user = command.user.clone().unwrap_or_else(|| owner.user.clone());
        if user.is_empty() {
            return Err(invalid(format!(
                "task '{}': no user to run as; set command.user or the framework's user",
                key.1
            )));
        }
        Ok(Accepted { resources, user })
    }
}
