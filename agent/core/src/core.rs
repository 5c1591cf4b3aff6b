//! The state, and how an input finds its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mezzo_proto::internal::v1::{AgentToMaster, LaunchPosition, MasterToAgent, agent_to_master};
use mezzo_proto::storage::v1::AgentIdentity;
use mezzo_proto::v1;
use mezzo_status_updates::UpdateStreams;
use mezzo_types::{ContainerId, FrameworkId, IdSource, Now, Position, Resources, Uuid16};

use crate::config::Config;
use crate::drain::Draining;
use crate::effect::{Change, Effect, Persist, TaskView, ViewChange};
use crate::executor::{Executor, ExecutorKey};
use crate::input::{Input, LinkId};
use crate::link::Link;
use crate::operation::{Applying, Operation, OutgoingOperation};
use crate::statistics::Statistics;
use crate::task::{Container, Framework, Task, TaskKey};
use crate::timers::{Timer, Timers};
use crate::updates::Outgoing;

/// The agent's state machine. Made by [`Core::recover`], also at the first start.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    /// `info.id` is set once a master admitted the agent.
    pub(crate) identity: AgentIdentity,
    pub(crate) last_launch: LaunchPosition,
    pub(crate) frameworks: BTreeMap<FrameworkId, Framework>,
    pub(crate) tasks: BTreeMap<TaskKey, Task>,
    /// Those that have not ended. Command tasks have none.
    pub(crate) executors: BTreeMap<ExecutorKey, Executor>,
    /// Every container of which something may be left.
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    /// Containers of nobody that were found at the start and are being destroyed.
    pub(crate) strangers: BTreeSet<ContainerId>,
    pub(crate) updates: UpdateStreams<TaskKey, Outgoing>,
    /// What the agent has: what it was configured with, as operations left it.
    pub(crate) total: Resources,
    pub(crate) operations: BTreeMap<Uuid16, Operation>,
    pub(crate) operation_updates: UpdateStreams<Uuid16, OutgoingOperation>,
    /// Its directories are being made; the master's orders wait.
    pub(crate) applying: Option<Applying>,
    pub(crate) waiting: VecDeque<MasterToAgent>,
    pub(crate) link: Option<Link>,
    pub(crate) timers: Timers,
    pub(crate) ids: IdSource,
    pub(crate) effects: VecDeque<Effect>,
    /// Of the last Persist.
    pub(crate) position: Position,
    pub(crate) leaving: Option<Leaving>,
    pub(crate) draining: Option<Draining>,
    /// Why nothing new can be written down, if so: launches are refused with it.
    pub(crate) shortage: Option<String>,
    pub(crate) statistics: Statistics,
}

/// The agent ends all tasks and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Why, if it was not asked to.
    pub(crate) reason: Option<String>,
    /// The master knows, or would not listen.
    pub(crate) told: bool,
    /// Nothing is left to be done.
    pub(crate) done: bool,
}

impl Core {
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::LinkUp { link } => self.link_up(now, link),
            Input::LinkDown { link } => self.link_down(link),
            Input::Master { link, message } => self.master_message(now, link, *message),
            Input::Started { container, pid, start_time_ticks } => {
                self.started(now, &container, pid, start_time_ticks);
            }
            Input::LaunchFailed { container, message } => {
                self.launch_failed(now, &container, &message);
            }
            Input::Limited { container, limitation } => self.limited(&container, limitation),
            Input::Exited { container, ending } => self.exited(now, &container, ending),
            Input::Destroyed { container } => self.destroyed(now, &container),
            Input::Checked { container, kind, outcome } => {
                self.checked(now, &container, kind, &outcome);
            }
            Input::Updated { container, grant, result } => self.updated(&container, grant, result),
            Input::ExecutorCall { request, stream, call } => {
                self.executor_call(now, request, stream, *call);
            }
            Input::ExecutorGone { stream } => self.executor_gone(stream),
            Input::VolumesMade { operation, outcome } => {
                self.volumes_made(now, operation, outcome);
            }
            Input::Room { shortage } => self.shortage = shortage,
            Input::Leave => self.leave(now, None),
        }
        self.forward_updates();
        self.forward_operations();
    }

    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Kill(key) => self.grace_over(&key),
                Timer::Completion(key) => self.completion_time_over(now, &key),
                Timer::Check(key, kind) => self.check_due(&key, kind),
                Timer::Silence(link) => self.silence_over(now, link),
                Timer::Executor(key) => self.executor_time_over(&key),
            }
        }
        self.updates.handle_timeout(now);
        self.operation_updates.handle_timeout(now);
        self.forward_updates();
        self.forward_operations();
    }

    /// Monotonic time, in nanoseconds, at which [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        let updates = [self.updates.poll_timeout(), self.operation_updates.poll_timeout()];
        let timers = [self.timers.next(), updates[0], updates[1]];
        timers.into_iter().flatten().min()
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The agent as the cluster knows it; `id` is unset before the first registration.
    pub fn info(&self) -> Option<&v1::AgentInfo> {
        self.identity.info.as_ref()
    }

    /// What the agent has, as operations left it.
    pub fn total(&self) -> &Resources {
        &self.total
    }

    pub(crate) fn agent_id(&self) -> Option<&v1::AgentId> {
        self.identity.info.as_ref()?.id.as_ref()
    }

    pub(crate) fn persist(&mut self, changes: Vec<Change>, synced: bool) {
        self.position = self.position.next();
        self.effects.push_back(Effect::Persist(Persist { changes, synced }));
    }

    pub(crate) fn send(
        &mut self,
        link: LinkId,
        message: agent_to_master::Message,
        after: Position,
    ) {
        let message = Box::new(AgentToMaster { message: Some(message) });
        self.effects.push_back(Effect::Send { link, message, after });
    }

    pub(crate) fn view(&mut self, change: ViewChange) {
        self.effects.push_back(Effect::View(change));
    }

    pub(crate) fn view_task(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let view = TaskView {
            framework_id: key.0.clone(),
            task_id: key.1.clone(),
            executor_id: task.executor().cloned(),
            info: task.info.clone(),
            container: task.container.clone(),
            pid: task.pid,
            stage: task.stage,
            waiting: task.part.as_ref().is_some_and(|part| !part.delivered),
            status: task.latest.clone(),
        };
        self.view(ViewChange::Task(Box::new(view)));
    }

    /// Adds a task; its framework is known from the first task or executor to the last.
    pub(crate) fn insert_task(&mut self, key: TaskKey, task: Task, owner: Arc<v1::FrameworkInfo>) {
        self.know_framework(&key.0, owner).tasks += 1;
        self.tasks.insert(key, task);
    }

    pub(crate) fn know_framework(
        &mut self,
        id: &FrameworkId,
        owner: Arc<v1::FrameworkInfo>,
    ) -> &mut Framework {
        if self.frameworks.get(id).is_none_or(|framework| framework.info != owner) {
            self.view(ViewChange::Framework(id.clone(), owner.clone()));
        }
        let framework = self.frameworks.entry(id.clone()).or_insert_with(|| Framework {
            info: owner.clone(),
            tasks: 0,
            executors: 0,
        });
        framework.info = owner;
        framework
    }

    /// Forgets a framework of which neither a task nor an executor is left.
    pub(crate) fn drop_framework_if_idle(&mut self, id: &FrameworkId) {
        let idle = |framework: &Framework| framework.tasks == 0 && framework.executors == 0;
        if self.frameworks.get(id).is_some_and(idle) {
            self.frameworks.remove(id);
            self.view(ViewChange::FrameworkGone(id.clone()));
        }
    }

    /// The framework says something else of itself. Tasks that are launched later bring it as well.
    pub(crate) fn update_framework(&mut self, info: v1::FrameworkInfo) {
        let Some(id) = info.id.as_ref().map(FrameworkId::from) else { return };
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        if *framework.info == info {
            return;
        }
        let info = Arc::new(info);
        framework.info = info.clone();
        self.view(ViewChange::Framework(id.clone(), info));
        let own = self.tasks.keys().filter(|key| key.0 == id);
        let records: Vec<Change> = own.filter_map(|key| self.task_record(key)).collect();
        self.persist(records, false);
    }

    /// Forgets a task that ended and whose ending is nobody's business any more.
    pub(crate) fn forget_task(&mut self, key: &TaskKey) {
        if !self.drop_task(key) {
            return;
        }
        self.persist(vec![Change::DeleteTask(key.0.clone(), key.1.clone())], false);
        self.go_if_ended();
    }

    /// Takes a task out of memory. Returns whether there was one.
    pub(crate) fn drop_task(&mut self, key: &TaskKey) -> bool {
        let Some(task) = self.tasks.remove(key) else { return false };
        self.cancel_timers(key, &task);
        self.updates.forget(key);
        self.view(ViewChange::TaskGone(key.0.clone(), key.1.clone()));
        if let Some(framework) = self.frameworks.get_mut(&key.0) {
            framework.tasks -= 1;
        }
        if !task.ended() {
            self.leave_executor(key, task.executor());
        }
        self.drop_framework_if_idle(&key.0);
        true
    }

    pub(crate) fn cancel_timers(&mut self, key: &TaskKey, task: &Task) {
        if let Some(due) = task.kill.and_then(|kill| kill.due_ns) {
            self.timers.cancel(due, Timer::Kill(key.clone()));
        }
        if let Some(due) = task.completion_due_ns {
            self.timers.cancel(due, Timer::Completion(key.clone()));
        }
        for (due, kind) in task.checks.iter().flat_map(|checks| checks.due()) {
            self.timers.cancel(due, Timer::Check(key.clone(), kind));
        }
    }
}
