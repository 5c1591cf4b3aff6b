//! RECONCILE_OPERATIONS: what the master knows of operations, told again.
//!
//! The table is Mesos' (`Master::reconcileOperations`). What is told carries no uuid: nobody
//! acknowledges it.

use mezzo_proto::v1;
use mezzo_proto::v1::OperationState;
use mezzo_proto::v1::scheduler::call;
use mezzo_types::{AgentId, FrameworkId, Position};

use crate::master::Master;
use crate::operation::Operation;

impl Master {
    /// Explicit (operations named) or implicit (none named: one event for every operation of the
    /// framework's that has an id).
    pub(crate) fn reconcile_operations(
        &mut self,
        framework_id: &FrameworkId,
        call: &call::ReconcileOperations,
    ) {
        let Some(framework) = self.frameworks.get(framework_id) else { return };
        let known =
            |id: &str| framework.operations.get(id).and_then(|uuid| self.operations.get(uuid));
        let answers: Vec<v1::OperationStatus> = if call.operations.is_empty() {
            framework.operations.keys().filter_map(|id| known(id)).map(|o| self.latest(o)).collect()
        } else {
            let asked = call.operations.iter();
            asked
                .map(|asked| match known(&asked.operation_id.value) {
                    Some(operation) => self.latest(operation),
                    None => self.unknown(asked),
                })
                .collect()
        };
        for status in answers {
            self.send_operation_status(framework_id, status, Position(0));
        }
    }

    /// The latest state; of an operation in flight on an agent that is away, how the agent is away.
    fn latest(&self, operation: &Operation) -> v1::OperationStatus {
        let id = &operation.agent;
        let agent = self.agents.get(id);
        if !operation.ended() && agent.is_some_and(|a| a.unreachable_since_unix_ns.is_some()) {
            let message = "Reconciliation: Agent is unreachable";
            return operation.status(OperationState::OperationUnreachable, message);
        }
        if !operation.ended() && self.recovered.contains(id) {
            let message = "Reconciliation: Agent is recovered but has not re-registered";
            return operation.status(OperationState::OperationRecovering, message);
        }
        v1::OperationStatus { uuid: None, ..operation.latest.clone() }
    }

    fn unknown(&self, asked: &call::reconcile_operations::Operation) -> v1::OperationStatus {
        let agent = asked.agent_id.as_ref().map(AgentId::from);
        let (state, message) = match &agent {
            None => (
                OperationState::OperationUnknown,
                "Operation is unknown and no 'agent_id' was provided".to_owned(),
            ),
            Some(id) if self.recovered.contains(id) => (
                OperationState::OperationRecovering,
                "Agent is recovered but has not re-registered".to_owned(),
            ),
            Some(id) => match self.agents.get(id) {
                Some(agent) if agent.unreachable_since_unix_ns.is_some() => {
                    (OperationState::OperationUnreachable, "Agent is unreachable".to_owned())
                }
                Some(_) => (OperationState::OperationUnknown, "Operation is unknown".to_owned()),
                None if self.gone.contains_key(id) => (
                    OperationState::OperationGoneByOperator,
                    "Agent marked gone by operator".to_owned(),
                ),
                None => (
                    OperationState::OperationUnknown,
                    "Both operation and agent are unknown".to_owned(),
                ),
            },
        };
        v1::OperationStatus {
            operation_id: Some(asked.operation_id.clone()),
            state: state as i32,
            message: Some(format!("Reconciliation: {message}")),
            agent_id: asked.agent_id.clone(),
            resource_provider_id: asked.resource_provider_id.clone(),
            ..v1::OperationStatus::default()
        }
    }
}
