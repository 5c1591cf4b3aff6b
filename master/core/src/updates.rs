//! Status updates on their way from agents to frameworks, and acknowledgements back.

use std::sync::Arc;

use mezzo_proto::internal::v1::{Acknowledge, StatusUpdate, master_to_agent};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{ForgetTasks, TaskKey};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::call;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, FrameworkId, Now, Position, TaskId, Uuid16};

use crate::effect::ViewChange;
use crate::input::LinkId;
use crate::master::Master;

impl Master {
    /// An agent reports: the newest state decides over resources, the update itself goes to the
    /// framework, and the agent repeats it until the acknowledgement has come back.
    pub(crate) fn status_update(
        &mut self,
        now: Now,
        link: LinkId,
        agent: &AgentId,
        update: StatusUpdate,
    ) {
        let framework = FrameworkId::from(update.framework_id.as_str());
        let latest = update.latest_state();
        let Some(status) = update.status else {
            self.statistics.updates_invalid += 1;
            return;
        };
        let id = TaskId::from(&status.task_id);
        let task = self
            .frameworks
            .get_mut(&framework)
            .and_then(|f| f.tasks.get_mut(&id))
            .filter(|task| task.agent == *agent);
        let Some(task) = task else {
            self.statistics.updates_invalid += 1;
            self.answer_stray(link, &framework, &id, status.uuid);
            return;
        };
        self.statistics.updates_valid += 1;
        if task.waits_for(&status) || task.has_acknowledged(&status) {
            return self.repeated_update(now, link, &framework, status, latest);
        }
        let shared = Arc::new(status.clone());
        if status.uuid.is_some() {
            task.unacknowledged = Some(Arc::clone(&shared));
        }
        // One that was told to have ended stays so: an agent never goes back, but a late message may.
        if !task.ending_told() {
            if mezzo_types::is_terminal(shared.state()) {
                self.statistics.task_ended(&framework, &shared);
            }
            task.last_status = Some(shared);
        }
        if is_on(Bug::MasterAcknowledgesUnread) {
            self.answer_stray(link, &framework, &id, status.uuid.clone());
        }
        self.set_task_state(now, &framework, &id, latest);
        self.view_task(&framework, &id);
        self.send_status(&framework, status, Position(0));
    }

    /// The agent was not told in time that the framework acknowledged. If the framework did, its word is
    /// passed on once more, and the framework is left alone; else it is told again. A master that is behind
    /// gets more of these, so they cost little: readers know the update already.
    fn repeated_update(
        &mut self,
        now: Now,
        link: LinkId,
        framework: &FrameworkId,
        status: v1::TaskStatus,
        latest: TaskState,
    ) {
        let id = TaskId::from(&status.task_id);
        let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(&id));
        let Some(task) = task else { return };
        let (waits, moved) = (task.waits_for(&status), task.state != latest);
        if moved {
            self.set_task_state(now, framework, &id, latest);
            self.view_task(framework, &id);
        }
        if waits {
            self.send_status(framework, status, Position(0));
        } else {
            self.answer_stray(link, framework, &id, status.uuid);
        }
    }

    /// Records the newest state of a task; a terminal one gives the resources back at once, before
    /// the framework acknowledges (as Mesos does).
    pub(crate) fn set_task_state(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        id: &TaskId,
        state: TaskState,
    ) {
        let task = self.frameworks.get_mut(framework).and_then(|f| f.tasks.get_mut(id));
        let Some(task) = task else { return };
        // Updates may come twice; an ending is never taken back by an older one.
        if mezzo_types::is_terminal(task.state) {
            return;
        }
        task.state = state;
        // Its history begins with its end, then.
        let unseen = task.counted.is_none().then(|| ViewChange::Task(task.to_view(None)));
        task.count_as(&mut self.statistics, Some(state));
        if mezzo_types::is_terminal(state) && task.holds_resources {
            task.holds_resources = false;
            self.allocator.recover(now, framework, &task.agent, &task.resources, None);
        }
        if let Some(unseen) = unseen {
            self.view(unseen);
        }
    }

    /// An update that the master does not wait for. Of a task of a removed framework: the agent may forget
    /// it. Otherwise its acknowledgement was lost, or is late, on the way back: the framework has seen it.
    fn answer_stray(
        &mut self,
        link: LinkId,
        framework: &FrameworkId,
        task: &TaskId,
        uuid: Option<bytes::Bytes>,
    ) {
        let Some(uuid) = uuid else { return };
        let acknowledge =
            Acknowledge { framework_id: framework.to_string(), task_id: task.to_string(), uuid };
        // That the task is not known may not be committed yet.
        let after = self.everything_so_far();
        self.send_agent(link, master_to_agent::Message::Acknowledge(acknowledge), after);
    }

    /// ACKNOWLEDGE: only the update that waits can be acknowledged. The ledger forgets a task before
    /// the agent may, so that a task that neither knows has ended for certain.
    pub(crate) fn acknowledge(&mut self, framework: &FrameworkId, call: &call::Acknowledge) {
        let id = TaskId::from(&call.task_id);
        let agent_id = AgentId::from(&call.agent_id);
        let task = self
            .frameworks
            .get_mut(framework)
            .and_then(|f| f.tasks.get_mut(&id))
            .filter(|task| task.agent == agent_id)
            .filter(|task| {
                task.unacknowledged.as_ref().is_some_and(|s| s.uuid.as_ref() == Some(&call.uuid))
            });
        let Some(task) = task else {
            self.statistics.acknowledgements_invalid += 1;
            return;
        };
        self.statistics.acknowledgements_valid += 1;
        let acknowledged = task.unacknowledged.take();
        task.acknowledged = Uuid16::from_slice(&call.uuid);
        let ended = acknowledged.is_some_and(|status| mezzo_types::is_terminal(status.state()));
        let link = self.agents.get(&agent_id).and_then(|agent| agent.link);
        let mut after = if ended { self.forget_task(framework, &id) } else { Position(0) };
        if is_on(Bug::MasterAcknowledgesEarly) {
            after = Position(0);
        }
        let Some(link) = link else { return };
        let message = Acknowledge {
            framework_id: framework.to_string(),
            task_id: id.to_string(),
            uuid: call.uuid.clone(),
        };
        self.send_agent(link, master_to_agent::Message::Acknowledge(message), after);
    }

    /// Takes an ended task out of memory and ledger.
    pub(crate) fn forget_task(&mut self, framework: &FrameworkId, id: &TaskId) -> Position {
        self.forget_tasks(std::iter::once(&(framework.clone(), id.clone())))
    }

    /// Takes tasks out of memory and ledger, all at once.
    pub(crate) fn forget_tasks<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a (FrameworkId, TaskId)>,
    ) -> Position {
        let mut tasks = Vec::new();
        for key @ (framework, id) in keys {
            let task = self.frameworks.get_mut(framework).and_then(|f| f.tasks.remove(id));
            let Some(mut task) = task else { continue };
            task.count_as(&mut self.statistics, None);
            if let Some(agent) = self.agents.get_mut(&task.agent) {
                agent.tasks.remove(key);
                if agent.drain.is_some() {
                    self.drained_maybe.insert(task.agent.clone());
                }
            }
            self.view(ViewChange::TaskCompleted(framework.clone(), id.clone()));
            tasks.push(TaskKey { framework_id: framework.to_string(), task_id: id.to_string() });
        }
        if tasks.is_empty() {
            return Position(0);
        }
        self.persist(CommandKind::ForgetTasks(ForgetTasks { tasks }))
    }
}
