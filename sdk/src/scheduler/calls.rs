//! The sending half of a subscription.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::error::{CallError, ServerKind};
use crate::link::Command;
use crate::scheduler::api::Api;
use crate::task::kill_policy;
use crate::v1::scheduler::{Call, OfferConstraints, call};
use crate::v1::{self, offer};

/// Tells the master things on behalf of the framework. Cheap to clone; any number of calls may be
/// under way at once, and the master handles them in the order of sending.
///
/// Every method returns when the master has answered. An accepted call means that it was
/// understood and passed on, not that it had its effect: that is reported by events.
///
/// # Errors
/// All methods fail with [`CallError`]: refused by the master with a code and a sentence, or
/// disconnected, or the subscription has ended.
#[derive(Clone)]
pub struct Calls {
    commands: mpsc::Sender<Command<Api>>,
    framework_id: v1::FrameworkId,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls")
            .field("framework_id", &self.framework_id.value)
            .finish_non_exhaustive()
    }
}

impl Calls {
    pub(crate) fn new(commands: mpsc::Sender<Command<Api>>, framework_id: v1::FrameworkId) -> Self {
        Calls { commands, framework_id }
    }

    /// The id that the master knows the framework by.
    pub fn framework_id(&self) -> &v1::FrameworkId {
        &self.framework_id
    }

    /// Launches tasks on an offer; what they leave of it goes back to the master and may be
    /// offered again at once. Without tasks, declines the offer for the default time.
    pub async fn launch(
        &self,
        offer: &v1::Offer,
        tasks: Vec<v1::TaskInfo>,
    ) -> Result<(), CallError> {
        if tasks.is_empty() {
            return self.decline(vec![offer.id.clone()], None).await;
        }
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch as i32),
            launch: Some(offer::operation::Launch { task_infos: tasks }),
            ..Default::default()
        };
        self.accept(vec![offer.id.clone()], vec![launch], Some(Duration::ZERO)).await
    }

    /// Uses offers, all of one agent, for operations. The rest is not offered again to this
    /// framework for `refuse` (the master's default is 5 s).
    pub async fn accept(
        &self,
        offer_ids: Vec<v1::OfferId>,
        operations: Vec<offer::Operation>,
        refuse: Option<Duration>,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Accept as i32),
            accept: Some(call::Accept { offer_ids, operations, filters: filters(refuse) }),
            ..Default::default()
        })
        .await
    }

    /// Gives offers back, not to be made again to this framework for `refuse` (the master's
    /// default is 5 s).
    pub async fn decline(
        &self,
        offer_ids: Vec<v1::OfferId>,
        refuse: Option<Duration>,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Decline as i32),
            decline: Some(call::Decline { offer_ids, filters: filters(refuse) }),
            ..Default::default()
        })
        .await
    }

    /// Asks for offers again, for these roles or, without any, for all: forgets what was declined
    /// and suppressed.
    pub async fn revive(&self, roles: Vec<String>) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Revive as i32),
            revive: Some(call::Revive { roles }),
            ..Default::default()
        })
        .await
    }

    /// Asks for no more offers, for these roles or, without any, for all.
    pub async fn suppress(&self, roles: Vec<String>) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Suppress as i32),
            suppress: Some(call::Suppress { roles }),
            ..Default::default()
        })
        .await
    }

    /// Asks for the end of a task. Not reliable across failures of the agent: repeat it until a
    /// terminal update comes. `grace` replaces the task's own time between SIGTERM and SIGKILL.
    pub async fn kill(
        &self,
        task_id: v1::TaskId,
        agent_id: Option<v1::AgentId>,
        grace: Option<Duration>,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Kill as i32),
            kill: Some(call::Kill { task_id, agent_id, kill_policy: grace.map(kill_policy) }),
            ..Default::default()
        })
        .await
    }

    /// Tells that an update has been dealt with.
    pub async fn acknowledge(&self, status: &v1::TaskStatus) -> Result<(), CallError> {
        match acknowledgement(status) {
            Some(call) => self.call(call).await,
            None => Err(CallError::Invalid {
                call: "ACKNOWLEDGE",
                problem: "a status with a uuid and an agent id",
            }),
        }
    }

    /// Queues a call without awaiting its answer. Completes when it is queued or can never be.
    /// Cancel-safe: the call is queued as the last thing.
    pub(crate) async fn queue(&self, mut call: Call) {
        let name = name_of(&call);
        call.framework_id = Some(self.framework_id.clone());
        if let Ok(permit) = self.commands.reserve().await {
            let (reply, _) = oneshot::channel();
            permit.send(Command { name, call, reply });
        }
    }

    /// Tells that news of an operation has been dealt with.
    pub async fn acknowledge_operation(
        &self,
        status: &v1::OperationStatus,
    ) -> Result<(), CallError> {
        match operation_acknowledgement(status) {
            Some(call) => self.call(call).await,
            None => Err(CallError::Invalid {
                call: "ACKNOWLEDGE_OPERATION_STATUS",
                problem: "a status with a uuid and an operation id",
            }),
        }
    }

    /// Asks once for the state of tasks, of all that the master knows if none is named. The answers
    /// come as updates without a uuid; where the master does not know yet, none comes.
    /// [`crate::Events::reconcile`] asks until all are answered.
    pub async fn reconcile(
        &self,
        tasks: impl IntoIterator<Item = (v1::TaskId, Option<v1::AgentId>)>,
    ) -> Result<(), CallError> {
        self.call(reconciliation(tasks)).await
    }

    /// Asks for the state of operations, of all that the master knows if none is named. The
    /// answers come as operation updates without a uuid.
    pub async fn reconcile_operations(
        &self,
        operations: impl IntoIterator<Item = call::reconcile_operations::Operation>,
    ) -> Result<(), CallError> {
        let operations = operations.into_iter().collect();
        self.call(Call {
            r#type: Some(call::Type::ReconcileOperations as i32),
            reconcile_operations: Some(call::ReconcileOperations { operations }),
            ..Default::default()
        })
        .await
    }

    /// Agrees to give resources back for a maintenance. To be done with the resources in time is
    /// left to the framework. Not to be asked again for `refuse`.
    pub async fn accept_inverse_offers(
        &self,
        offer_ids: Vec<v1::OfferId>,
        refuse: Option<Duration>,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::AcceptInverseOffers as i32),
            accept_inverse_offers: Some(call::AcceptInverseOffers {
                inverse_offer_ids: offer_ids,
                filters: filters(refuse),
            }),
            ..Default::default()
        })
        .await
    }

    /// Says that the resources will not be given back; the maintenance may come all the same. Not
    /// to be asked again for `refuse`.
    pub async fn decline_inverse_offers(
        &self,
        offer_ids: Vec<v1::OfferId>,
        refuse: Option<Duration>,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::DeclineInverseOffers as i32),
            decline_inverse_offers: Some(call::DeclineInverseOffers {
                inverse_offer_ids: offer_ids,
                filters: filters(refuse),
            }),
            ..Default::default()
        })
        .await
    }

    /// Asks for particular resources. Masters take note of it and offer as they always do.
    pub async fn request(&self, requests: Vec<v1::Request>) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Request as i32),
            request: Some(call::Request { requests }),
            ..Default::default()
        })
        .await
    }

    /// Sends data to an executor, at best effort.
    pub async fn message(
        &self,
        agent_id: v1::AgentId,
        executor_id: v1::ExecutorId,
        data: Vec<u8>,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Message as i32),
            message: Some(call::Message { agent_id, executor_id, data: data.into() }),
            ..Default::default()
        })
        .await
    }

    /// Ends an executor with all its tasks.
    pub async fn shutdown_executor(
        &self,
        agent_id: v1::AgentId,
        executor_id: v1::ExecutorId,
    ) -> Result<(), CallError> {
        self.call(Call {
            r#type: Some(call::Type::Shutdown as i32),
            shutdown: Some(call::Shutdown { executor_id, agent_id }),
            ..Default::default()
        })
        .await
    }

    /// Replaces the framework's description, its suppressed roles and its offer constraints.
    pub async fn update_framework(
        &self,
        framework: impl Into<v1::FrameworkInfo>,
        suppressed_roles: Vec<String>,
        offer_constraints: Option<OfferConstraints>,
    ) -> Result<(), CallError> {
        let mut framework_info = framework.into();
        framework_info.id = Some(self.framework_id.clone());
        self.call(Call {
            r#type: Some(call::Type::UpdateFramework as i32),
            update_framework: Some(Box::new(call::UpdateFramework {
                framework_info,
                suppressed_roles,
                offer_constraints,
            })),
            ..Default::default()
        })
        .await
    }

    /// Ends every task and removes the framework; its id cannot be used again. [`crate::Events`]
    /// then ends with [`crate::Ended::TornDown`].
    pub async fn teardown(&self) -> Result<(), CallError> {
        self.call(Call { r#type: Some(call::Type::Teardown as i32), ..Default::default() }).await
    }

    /// Sends any call, with the framework's id filled in.
    pub async fn call(&self, mut call: Call) -> Result<(), CallError> {
        let name = name_of(&call);
        call.framework_id = Some(self.framework_id.clone());
        let (reply, answer) = oneshot::channel();
        let command = Command { name, call, reply };
        if self.commands.send(command).await.is_err() {
            return Err(CallError::Ended { call: name });
        }
        // A session that breaks drops the replies it owes.
        let disconnected = CallError::Disconnected { server: ServerKind::Master, call: name };
        answer.await.unwrap_or(Err(disconnected))
    }
}

fn name_of(call: &Call) -> &'static str {
    let kind = call.r#type.and_then(|number| call::Type::try_from(number).ok());
    kind.unwrap_or(call::Type::Unknown).as_str_name()
}

/// None for a status that nobody waits to see acknowledged.
pub(crate) fn acknowledgement(status: &v1::TaskStatus) -> Option<Call> {
    let acknowledge = call::Acknowledge {
        agent_id: status.agent_id.clone()?,
        task_id: status.task_id.clone(),
        uuid: status.uuid.clone()?,
    };
    Some(Call {
        r#type: Some(call::Type::Acknowledge as i32),
        acknowledge: Some(acknowledge),
        ..Default::default()
    })
}

/// None for a status that nobody waits to see acknowledged.
pub(crate) fn operation_acknowledgement(status: &v1::OperationStatus) -> Option<Call> {
    let acknowledge = call::AcknowledgeOperationStatus {
        agent_id: status.agent_id.clone(),
        resource_provider_id: status.resource_provider_id.clone(),
        uuid: status.uuid.as_ref()?.value.clone(),
        operation_id: status.operation_id.clone()?,
    };
    Some(Call {
        r#type: Some(call::Type::AcknowledgeOperationStatus as i32),
        acknowledge_operation_status: Some(acknowledge),
        ..Default::default()
    })
}

/// RECONCILE of these tasks, of all if there are none.
pub(crate) fn reconciliation(
    tasks: impl IntoIterator<Item = (v1::TaskId, Option<v1::AgentId>)>,
) -> Call {
    let tasks = tasks
        .into_iter()
        .map(|(task_id, agent_id)| call::reconcile::Task { task_id, agent_id })
        .collect();
    Call {
        r#type: Some(call::Type::Reconcile as i32),
        reconcile: Some(call::Reconcile { tasks }),
        ..Default::default()
    }
}

fn filters(refuse: Option<Duration>) -> Option<v1::Filters> {
    refuse.map(|refuse| v1::Filters { refuse_seconds: Some(refuse.as_secs_f64()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_updates_with_a_uuid_can_be_acknowledged() {
        let mut status = v1::TaskStatus {
            agent_id: Some(v1::AgentId { value: "a".to_owned() }),
            ..Default::default()
        };
        assert!(acknowledgement(&status).is_none());
        status.uuid = Some(vec![7u8; 16].into());
        let call = acknowledgement(&status).expect("a call");
        assert_eq!(call.acknowledge.expect("body").uuid.as_ref(), [7u8; 16]);
    }
}
