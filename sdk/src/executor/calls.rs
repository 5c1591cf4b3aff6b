//! The sending half of an executor's subscription.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::error::{CallError, ServerKind};
use crate::executor::api::{Api, Identity};
use crate::executor::ledger::Ledger;
use crate::link::Command;
use crate::v1;
use crate::v1::executor::{Call, call};

/// Tells the agent things on behalf of the executor. Cheap to clone.
#[derive(Clone)]
pub struct ExecutorCalls {
    commands: mpsc::Sender<Command<Api>>,
    identity: Identity,
    ledger: Ledger,
}

impl std::fmt::Debug for ExecutorCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutorCalls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl ExecutorCalls {
    pub(crate) fn new(
        commands: mpsc::Sender<Command<Api>>,
        identity: Identity,
        ledger: Ledger,
    ) -> Self {
        ExecutorCalls { commands, identity, ledger }
    }

    /// The executor's own id.
    pub fn executor_id(&self) -> &v1::ExecutorId {
        &self.identity.executor_id
    }

    /// Of whose tasks it takes care.
    pub fn framework_id(&self) -> &v1::FrameworkId {
        &self.identity.framework_id
    }

    /// Reports the state of a task. The uuid, the time, the source and the executor's id are
    /// filled in here.
    ///
    /// Returns when the agent has the update or, while there is no connection, when it is kept to
    /// be told as soon as there is one: updates are repeated after a reconnection until the agent
    /// confirms them, which [`crate::ExecutorEvent::Acknowledged`] tells. The last update of a
    /// task frees what the task had; an executor that is about to end waits for its confirmation.
    ///
    /// # Errors
    /// [`CallError`]: refused by the agent, and then it is not repeated; the subscription is over;
    /// or 65536 updates wait for confirmation.
    pub async fn update(&self, mut status: v1::TaskStatus) -> Result<(), CallError> {
        status.uuid = Some(Uuid::new_v4().into_bytes().to_vec().into());
        status.timestamp = Some(now());
        status.source = Some(v1::task_status::Source::Executor as i32);
        status.executor_id = Some(self.identity.executor_id.clone());
        if !self.ledger.updated(status.clone()) {
            let problem = "that some of the 65536 updates before it are confirmed by the agent";
            return Err(CallError::Invalid { call: "UPDATE", problem });
        }
        match self.call("UPDATE", self.identity.update(status)).await {
            // It is in the ledger.
            Err(CallError::Disconnected { .. }) => Ok(()),
            answer => answer,
        }
    }

    /// How many updates the agent has not confirmed yet.
    pub fn unconfirmed(&self) -> usize {
        self.ledger.unconfirmed()
    }

    /// Sends data to the framework's scheduler, at best effort.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn message(&self, data: Vec<u8>) -> Result<(), CallError> {
        let call = Call {
            message: Some(call::Message { data: data.into() }),
            ..self.identity.call(call::Type::Message)
        };
        self.call("MESSAGE", call).await
    }

    async fn call(&self, name: &'static str, call: Call) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command { name, call, reply }).await.is_err() {
            return Err(CallError::Ended { call: name });
        }
        // A session that breaks drops the replies it owes.
        let disconnected = CallError::Disconnected { server: ServerKind::Agent, call: name };
        answer.await.unwrap_or(Err(disconnected))
    }
}

/// Seconds since 1970, as messages have them.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
