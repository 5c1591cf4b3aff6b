//! An executor as a process that knows what it was handed, and the part of the story that it plays.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::internal::v1::{
    LaunchPosition, RunTask, RunTaskGroup, agent_to_master, master_to_agent,
};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor::{call, event};
use mezzo_types::ContainerId;

use super::super::executors::{call as call_of, executor, member, status, update_call};
use super::{Host, Story, framework};
use crate::{Effect, ExecutorEvent, ExecutorStreamId, Input, RequestId};

/// What one run of the executor knows.
#[derive(Debug, Default)]
pub(super) struct Puppet {
    stream: Option<ExecutorStreamId>,
    /// Its living tasks, and whether it said that they run.
    tasks: BTreeMap<String, bool>,
    /// Handed over, and no update of theirs acknowledged.
    unacknowledged: BTreeSet<String>,
    updates: Vec<v1::TaskStatus>,
    to_kill: Vec<String>,
}

/// All runs of the executor, and who counts them.
#[derive(Debug, Default)]
pub(super) struct Play {
    pub(super) puppets: BTreeMap<ContainerId, Puppet>,
    /// What the master believes.
    counted: bool,
    /// Changes that were not confirmed yet.
    grants: Vec<(ContainerId, u64)>,
    streams: u64,
    uuids: u8,
    epoch: u8,
}

impl Play {
    /// Takes what is for executors, or about them. Returns the container of one that is asked to end.
    pub(super) fn take(&mut self, effect: &Effect) -> Option<ContainerId> {
        match effect {
            Effect::Update { container, grant, .. } => {
                self.grants.push((container.clone(), *grant));
                None
            }
            Effect::Send { message, .. } => {
                match &message.message {
                    Some(agent_to_master::Message::ExecutorExited(_)) => self.counted = false,
                    Some(agent_to_master::Message::Register(register)) => {
                        self.counted = !register.executors.is_empty();
                    }
                    _ => {}
                }
                None
            }
            Effect::ExecutorEvent { stream, event, .. } => self.hear(*stream, event),
            _ => None,
        }
    }

    fn hear(&mut self, stream: ExecutorStreamId, event: &ExecutorEvent) -> Option<ContainerId> {
        let found = self.puppets.iter_mut().find(|(_, puppet)| puppet.stream == Some(stream));
        let (container, puppet) = found?;
        let mut launched = |id: &v1::TaskId| {
            let new = puppet.tasks.insert(id.value.clone(), false).is_none();
            assert!(new, "task {} is handed over twice", id.value);
            puppet.unacknowledged.insert(id.value.clone());
        };
        match event {
            ExecutorEvent::Launch(task) => launched(&task.info.task_id),
            ExecutorEvent::LaunchGroup(tasks) => {
                tasks.iter().for_each(|task| launched(&task.info.task_id));
            }
            ExecutorEvent::Other(event) => match event.r#type() {
                event::Type::Kill => {
                    puppet.to_kill.extend(event.kill.iter().map(|kill| kill.task_id.value.clone()));
                }
                event::Type::Acknowledged => {
                    let known = event.acknowledged.as_ref().expect("its body");
                    puppet.updates.retain(|held| held.uuid.as_ref() != Some(&known.uuid));
                    puppet.unacknowledged.remove(&known.task_id.value);
                }
                event::Type::Shutdown => return Some(container.clone()),
                _ => {}
            },
        }
        None
    }

    /// The connection of a run breaks.
    pub(super) fn cut(&mut self, container: &ContainerId) -> Option<ExecutorStreamId> {
        self.puppets.get_mut(container)?.stream.take()
    }

    /// The agent is gone, with all connections and all that it had not done.
    pub(super) fn lose_agent(&mut self) {
        self.grants.clear();
        self.puppets.values_mut().for_each(|puppet| puppet.stream = None);
    }

    fn uuid(&mut self) -> Vec<u8> {
        self.uuids = self.uuids.wrapping_add(1);
        self.epoch = self.epoch.wrapping_add(u8::from(self.uuids == 0));
        let mut uuid = vec![self.uuids; 16];
        uuid[1] = self.epoch;
        uuid
    }
}

impl Story {
    fn some_puppet(&mut self) -> Option<ContainerId> {
        let runs = |id: &&ContainerId| self.host.get(*id) == Some(&Host::Running);
        let running: Vec<ContainerId> = self.play.puppets.keys().filter(runs).cloned().collect();
        let at = self.below(running.len());
        running.get(at).cloned()
    }

    pub(super) fn launch_in_executor(&mut self) {
        let count = 1 + self.below(2);
        let mut ids = Vec::new();
        for _ in 0..count {
            self.launched += 1;
            ids.push(format!("x{}", self.launched));
        }
        self.names.extend(ids.iter().cloned());
        self.world.sequence += 1;
        let position =
            Some(LaunchPosition { term: super::super::TERM, sequence: self.world.sequence });
        let launch_executor = !std::mem::replace(&mut self.play.counted, true);
        let raw = |id: &String| prost::Message::encode_to_vec(&member(id)).into();
        let message = match ids.as_slice() {
            [id] => master_to_agent::Message::RunTask(Box::new(RunTask {
                position,
                framework_info: Some(framework(&[])),
                task_info: raw(id),
                launch_executor,
            })),
            ids => master_to_agent::Message::RunTaskGroup(Box::new(RunTaskGroup {
                position,
                framework_info: Some(framework(&[])),
                executor_info: Some(executor("e")),
                task_infos: ids.iter().map(raw).collect(),
                launch_executor,
            })),
        };
        self.world.master_on(self.link, message);
    }

    pub(super) fn subscribe(&mut self) {
        let Some(id) = self.some_puppet() else { return };
        self.play.streams += 1;
        let stream = ExecutorStreamId(self.play.streams);
        let puppet = self.play.puppets.get_mut(&id).expect("it was picked");
        puppet.stream = Some(stream);
        let tasks = puppet.unacknowledged.iter().map(|id| member(id)).collect();
        let updates = puppet.updates.iter().cloned().map(|status| call::Update { status });
        let mut call = call_of(call::Type::Subscribe);
        call.subscribe = Some(call::Subscribe {
            unacknowledged_tasks: tasks,
            unacknowledged_updates: updates.collect(),
        });
        let (request, stream) = (RequestId(self.play.streams), Some(stream));
        self.world.handle(Input::ExecutorCall { request, stream, call: Box::new(call) });
    }

    /// An executor tells of one of its tasks, whether or not anybody hears it.
    pub(super) fn perform(&mut self) {
        let Some(id) = self.some_puppet() else { return };
        let choice = self.below(8);
        let uuid = self.play.uuid();
        let puppet = self.play.puppets.get_mut(&id).expect("it was picked");
        let killed = puppet.to_kill.pop().filter(|task| puppet.tasks.contains_key(task));
        let (task, state) = match killed {
            Some(task) => (task, TaskState::TaskKilled),
            None => {
                let at = choice % puppet.tasks.len().max(1);
                let Some((task, runs)) = puppet.tasks.iter_mut().nth(at) else { return };
                let state = match (std::mem::replace(runs, true), choice) {
                    (false, 0) => TaskState::TaskFailed,
                    (false, _) | (true, 1) => TaskState::TaskRunning,
                    (true, _) => TaskState::TaskFinished,
                };
                (task.clone(), state)
            }
        };
        if mezzo_types::is_terminal(state) {
            puppet.tasks.remove(&task);
        }
        let status = v1::TaskStatus { uuid: Some(uuid.into()), ..status(&task, state, 0) };
        puppet.updates.push(status.clone());
        let call = Box::new(update_call(status));
        let request = RequestId(1_000_000);
        self.world.handle(Input::ExecutorCall { request, stream: None, call });
    }

    /// The host tells of a change of a container.
    pub(super) fn confirm(&mut self) {
        if self.play.grants.is_empty() {
            return;
        }
        let (container, grant) = self.play.grants.remove(0);
        let result = match self.below(20) {
            0 => Err("no room".to_owned()),
            _ => Ok(()),
        };
        self.world.handle(Input::Updated { container, grant, result });
    }
}
