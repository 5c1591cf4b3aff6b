//! Whether the offers of an ACCEPT are good, and what is told when they are not.

use std::collections::BTreeSet;

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, FrameworkId, Now, OfferId, Position, TaskId};

use crate::master::Master;
use crate::offers::Offer;
use crate::status::{from_master, lost_or};

impl Master {
    /// All offers must be outstanding, distinct, the framework's, of one agent and one role, and
    /// the agent linked.
    pub(super) fn check_offers(
        &self,
        framework: &FrameworkId,
        ids: &[v1::OfferId],
    ) -> Result<(), String> {
        if ids.is_empty() {
            return Err("offer_ids is empty: ACCEPT must name at least one offer".to_owned());
        }
        let mut seen = BTreeSet::new();
        let mut first: Option<&Offer> = None;
        for id in ids {
            let id = OfferId::from(id);
            if !seen.insert(id.clone()) {
                return Err(format!("offer_ids names '{id}' twice: each offer may appear once"));
            }
            let offer = self.offers.get(&id).filter(|offer| offer.framework == *framework);
            let Some(offer) = offer else {
                return Err(format!(
                    "offer_ids names '{id}', which is no longer valid: it was used, declined or \
                     rescinded, or never was this framework's"
                ));
            };
            let first = *first.get_or_insert(offer);
            if offer.agent != first.agent {
                return Err(format!(
                    "offer_ids names offers of two agents, '{}' and '{}': all must be of one agent",
                    first.agent, offer.agent
                ));
            }
            if offer.role != first.role {
                return Err(format!(
                    "offer_ids names offers to two roles, '{}' and '{}': all must be to one role",
                    first.role, offer.role
                ));
            }
        }
        Ok(())
    }

    /// The offers were not good, or nothing can be promised: every operation on them fails.
    pub(super) fn refuse_operations(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        operations: &[v1::offer::Operation],
        reason: Reason,
        message: &str,
    ) {
        let aware = self.frameworks.get(framework).is_some_and(|f| f.partition_aware());
        let state = lost_or(aware, TaskState::TaskDropped);
        for operation in operations {
            let launch = operation.launch.iter().flat_map(|l| &l.task_infos);
            let group = operation.launch_group.iter().flat_map(|l| &l.task_group.tasks);
            for task in launch.chain(group) {
                let status = from_master(
                    now,
                    &TaskId::from(&task.task_id),
                    Some(&AgentId::from(&task.agent_id)),
                    state,
                    Some(reason),
                    message,
                );
                self.statistics.task_moved(None, Some(state as i32));
                self.statistics.task_moved(Some(state as i32), None);
                self.statistics.task_ended(framework, &status);
                self.send_status(framework, status, Position(0));
            }
            if operation.launch.is_none() && operation.launch_group.is_none() {
                let state = v1::OperationState::OperationError;
                self.statistics.operations.came(operation.r#type(), state);
            }
            if let Some(id) = &operation.id {
                self.send_operation_error(framework, None, id, message);
            }
        }
    }

    pub(super) fn send_operation_error(
        &mut self,
        framework: &FrameworkId,
        agent: Option<&AgentId>,
        id: &v1::OperationId,
        message: &str,
    ) {
        let status = v1::OperationStatus {
            operation_id: Some(id.clone()),
            state: v1::OperationState::OperationError as i32,
            message: Some(message.to_owned()),
            agent_id: agent.map(Into::into),
            ..v1::OperationStatus::default()
        };
        self.send_operation_status(framework, status, Position(0));
    }
}
