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
use crate::effect::{Change, Effect, Launch, TaskStage};
use crate::input::LinkId;
use crate::task::{Container, Task, TaskKey};

/// Why an order cannot be carried out; becomes the task's ending.
struct Rejection {
    state: TaskState,
    reason: Reason,
    message: String,
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
    /// Runs a task, once: an order whose position was seen, and a task that is known, are passed over.
    pub(crate) fn run_task(&mut self, now: Now, link: LinkId, run: RunTask) {
        let term = self
            .link
            .as_ref()
            .and_then(|link| link.registered.as_ref())
            .map(|registration| registration.term);
        let position = run.position.unwrap_or_default();
        if Some(position.term) != term {
            let reason = format!(
                "a launch of term {} arrived from the master of term {}",
                position.term,
                term.unwrap_or_default()
            );
            return self.close_link(link, reason);
        }
        if order(&position) <= order(&self.last_launch) {
            self.statistics.launches_repeated += 1;
            return;
        }
        self.last_launch = position;
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
        let key = (framework, TaskId::from(&info.task_id));
        if self.tasks.contains_key(&key) {
            self.statistics.launches_repeated += 1;
            return self.persist(changes, false);
        }
        self.statistics.launches += 1;
        let accepted = self.examine(&key, &info, &owner);
        let mut task = Task {
            info: Arc::new(info),
            raw: run.task_info,
            container: None,
            stage: TaskStage::Launching,
            pid: None,
            latest: None,
            kill: None,
            limitation: None,
            started_unix_ns: None,
            checks: None,
            health_failures: 0,
            completion_due_ns: None,
            forsaken: false,
        };
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
        let container = Container { task: key.clone(), started: None, destroying: false };
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
            task: task.info.clone(),
            framework_id: key.0,
            user: accepted.user,
            resources: accepted.resources,
        };
        self.effects.push_back(Effect::Launch { launch: Box::new(launch), after: self.position });
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
        if self.leaving.is_some() {
            return Err(Rejection {
                state: TaskState::TaskDropped,
                reason: Reason::AgentRemoved,
                message: "the agent is leaving the cluster".to_owned(),
            });
        }
        if let Some(shortage) = &self.shortage {
            return Err(Rejection {
                state: TaskState::TaskDropped,
                reason: Reason::ContainerLaunchFailed,
                message: shortage.clone(),
            });
        }
        if info.executor.is_some() {
            return Err(invalid(format!(
                "task '{}': executor is set, but this agent runs command tasks; set command instead",
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
