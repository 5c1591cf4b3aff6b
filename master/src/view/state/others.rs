//! Executors and operations.

use std::sync::Arc;

use bytes::Bytes;
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::get_executors;
use mezzo_types::{AgentId, ExecutorId, FrameworkId, Resources};

use super::State;
use crate::view::role::Way;

impl State {
    pub(super) fn put_executor(
        &mut self,
        framework: &FrameworkId,
        agent: AgentId,
        info: v1::ExecutorInfo,
    ) {
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let key = (agent.clone(), ExecutorId::from(&info.executor_id));
        let executor =
            Arc::new(get_executors::Executor { agent_id: (&key.0).into(), executor_info: info });
        let held = held_by(&executor);
        let replaced = match index.executors.get(&key).and_then(|at| entry.executors.get_mut(*at)) {
            Some(place) => {
                let before = std::mem::replace(place, executor);
                Some(held_by(&before))
            }
            None => {
                index.executors.insert(key, entry.executors.push(executor));
                None
            }
        };
        if let Some(replaced) = &replaced {
            self.executor_holds(framework, &agent, replaced, Way::Subtract);
        }
        self.executor_holds(framework, &agent, &held, Way::Add);
    }

    pub(super) fn remove_executor(
        &mut self,
        framework: &FrameworkId,
        agent: AgentId,
        executor: ExecutorId,
    ) {
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(at) = index.executors.remove(&(agent.clone(), executor)) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let held = entry.executors.swap_remove(at).as_deref().map(held_by);
        if let Some(moved) = entry.executors.get(at) {
            let key = (
                AgentId::from(&moved.agent_id),
                ExecutorId::from(&moved.executor_info.executor_id),
            );
            index.executors.insert(key, at);
        }
        if let Some(held) = &held {
            self.executor_holds(framework, &agent, held, Way::Subtract);
        }
    }

    /// What an executor takes beside its tasks counts for framework, role and agent, from its launch on.
    fn executor_holds(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        held: &Resources,
        way: Way,
    ) {
        if let Some(entry) = self.framework_mut(framework) {
            entry.allocated.change(held, way);
        }
        self.roles.allocated(held, way);
        self.load(agent, |load| load.allocated.change(held, way));
    }

    pub(super) fn put_operation(&mut self, operation: v1::Operation) {
        let uuid = operation.uuid.value.clone();
        let operation = Arc::new(operation);
        match self.operation_index.get(&uuid).and_then(|at| self.operations.get_mut(*at)) {
            Some(place) => *place = operation,
            None => {
                self.operation_index.insert(uuid, self.operations.push(operation));
            }
        }
    }

    pub(super) fn remove_operation(&mut self, uuid: &Bytes) {
        let Some(at) = self.operation_index.remove(uuid) else { return };
        self.operations.swap_remove(at);
        if let Some(moved) = self.operations.get(at) {
            self.operation_index.insert(moved.uuid.value.clone(), at);
        }
    }
}

fn held_by(executor: &get_executors::Executor) -> Resources {
    Resources::from_proto(&executor.executor_info.resources).unwrap_or_default()
}
