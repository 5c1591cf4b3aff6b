//! What agents report of operations, and what frameworks acknowledge.

use mezzo_proto::internal::v1::OperationUpdate;
use mezzo_proto::v1::scheduler::call;
use mezzo_types::{AgentId, FrameworkId, Now, Position, Uuid16};

use crate::master::Master;
use crate::operation::is_terminal;

impl Master {
    /// An agent reports how an operation went: the books follow, and the framework is told if it gave
    /// the operation an id. The agent repeats it until the acknowledgement has come back.
    pub(crate) fn operation_update(&mut self, now: Now, agent: &AgentId, update: OperationUpdate) {
        let (Some(uuid), Some(mut status)) =
            (Uuid16::from_slice(&update.operation_uuid), update.status)
        else {
            self.statistics.operation_updates_invalid += 1;
            return;
        };
        let known = self.operations.get(&uuid).filter(|operation| operation.agent == *agent);
        let Some(operation) = known else {
            // Its acknowledgement was lost on the way, or its framework is gone.
            self.statistics.operation_updates_invalid += 1;
            let after = self.everything_so_far();
            self.acknowledge_to_agent(agent, None, uuid, status.uuid.map(|u| u.value), after);
            return;
        };
        self.statistics.operation_updates_valid += 1;
        status.operation_id = operation.info.id.clone();
        let framework = operation.framework.clone();
        let feedback = self.wants_feedback(operation);
        let ended = operation.ended();
        let terminal = is_terminal(status.state());
        if !ended && terminal {
            self.end_operation(now, uuid, status.clone());
        }
        if let Some(framework) = framework.as_ref().filter(|_| feedback) {
            if let Some(operation) = self.operations.get_mut(&uuid)
                && status.uuid.is_some()
            {
                operation.unacknowledged = Some(Box::new(status.clone()));
            }
            self.send_operation_status(framework, status, Position(0));
            return;
        }
        let after = if terminal { self.forget_operations(&[uuid]) } else { Position(0) };
        let status_uuid = status.uuid.map(|uuid| uuid.value);
        self.acknowledge_to_agent(agent, framework.as_ref(), uuid, status_uuid, after);
    }

    /// ACKNOWLEDGE_OPERATION_STATUS: only the status that waits can be acknowledged. The log forgets the
    /// operation before the agent may, so that one which neither knows was never carried out or is over.
    pub(crate) fn acknowledge_operation(
        &mut self,
        framework_id: &FrameworkId,
        call: &call::AcknowledgeOperationStatus,
    ) {
        let framework = self.frameworks.get(framework_id);
        let uuid = framework.and_then(|f| f.operations.get(&call.operation_id.value).copied());
        let operation = uuid.and_then(|uuid| self.operations.get_mut(&uuid));
        let waiting = operation.filter(|operation| {
            let asked = call.agent_id.as_ref().map(AgentId::from);
            let waiting = operation.unacknowledged.as_ref().and_then(|s| s.uuid.as_ref());
            asked.as_ref() == Some(&operation.agent)
                && waiting.is_some_and(|waiting| waiting.value == call.uuid)
        });
        let Some(operation) = waiting else {
            self.statistics.operation_acknowledgements_invalid += 1;
            return;
        };
        self.statistics.operation_acknowledgements_valid += 1;
        let (uuid, agent) = (operation.uuid, operation.agent.clone());
        let acknowledged = operation.unacknowledged.take();
        let terminal = acknowledged.is_some_and(|status| is_terminal(status.state()));
        let after = if terminal { self.forget_operations(&[uuid]) } else { Position(0) };
        let status_uuid = Some(call.uuid.clone());
        self.acknowledge_to_agent(&agent, Some(framework_id), uuid, status_uuid, after);
    }

    /// What waits for the framework's acknowledgement is told again when it comes back.
    pub(crate) fn resend_operations(&mut self, framework: &FrameworkId) {
        let Some(known) = self.frameworks.get(framework) else { return };
        let operations = known.operations.values().filter_map(|uuid| self.operations.get(uuid));
        let waiting: Vec<_> = operations
            .filter_map(|operation| operation.unacknowledged.as_deref().cloned())
            .collect();
        for status in waiting {
            self.send_operation_status(framework, status, Position(0));
        }
    }

    /// The framework is gone for good: nobody waits for what its operations came to. Those in flight go
    /// on, and are forgotten when they end.
    pub(crate) fn release_operations(&mut self, framework: &FrameworkId, uuids: &[Uuid16]) {
        for uuid in uuids {
            let Some(operation) = self.operations.get_mut(uuid) else { continue };
            let Some(status) = operation.unacknowledged.take() else { continue };
            let agent = operation.agent.clone();
            let after = self.forget_operations(&[*uuid]);
            let status_uuid = status.uuid.map(|uuid| uuid.value);
            self.acknowledge_to_agent(&agent, Some(framework), *uuid, status_uuid, after);
        }
    }
}
