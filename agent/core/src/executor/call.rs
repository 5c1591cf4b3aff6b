//! Calls of executors, and their answers.

use mezzo_proto::internal::v1::{ExecutorMessage, agent_to_master};
use mezzo_proto::v1::executor::{Call, call};
use mezzo_types::{Now, Position};

use super::{ExecutorKey, ExecutorPhase};
use crate::core::Core;
use crate::effect::{Effect, ExecutorAnswer};
use crate::input::{ExecutorStreamId, RequestId};
use crate::record::text;

/// A call of an executor that was not taken, with one sentence for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorRefusal {
    /// HTTP 400.
    #[error("{0}")]
    BadRequest(String),
    /// HTTP 403.
    #[error("Executor is not subscribed")]
    NotSubscribed,
    /// HTTP 501.
    #[error("call type {0} is unknown")]
    Unknown(i32),
}

impl ExecutorRefusal {
    /// The status that the HTTP API answers with.
    pub fn http_code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::NotSubscribed => 403,
            Self::Unknown(_) => 501,
        }
    }
}

impl Core {
    /// Answers a call. Order of checks and texts: Mesos 1.11, `src/slave/http.cpp`.
    pub(crate) fn executor_call(
        &mut self,
        now: Now,
        request: RequestId,
        stream: Option<ExecutorStreamId>,
        call: Call,
    ) {
        let key = match self.caller(&call) {
            Ok(Some(key)) => key,
            Ok(None) => return self.answer(request, Ok(ExecutorAnswer::Accepted)),
            Err(refusal) => return self.answer(request, Err(refusal)),
        };
        match call.r#type() {
            call::Type::Subscribe => {
                let Some(stream) = stream else {
                    let refusal = "SUBSCRIBE is the first call of a stream".to_owned();
                    return self.answer(request, Err(ExecutorRefusal::BadRequest(refusal)));
                };
                // Before any event.
                self.answer(request, Ok(ExecutorAnswer::Subscribed));
                let subscribe = call.subscribe.unwrap_or_default();
                self.subscribe_executor(now, &key, stream, subscribe);
            }
            call::Type::Update => {
                if let Some(update) = call.update {
                    self.executor_update(now, &key, update.status);
                }
                self.answer(request, Ok(ExecutorAnswer::Accepted));
            }
            call::Type::Message => {
                let data = call.message.unwrap_or_default().data;
                self.message_of_executor(&key, data);
                self.answer(request, Ok(ExecutorAnswer::Accepted));
            }
            call::Type::Heartbeat | call::Type::Unknown => {}
        }
    }

    /// Who calls; nobody in particular with HEARTBEAT, which may hold any ids.
    fn caller(&self, call: &Call) -> Result<Option<ExecutorKey>, ExecutorRefusal> {
        let number = call.r#type.unwrap_or_default();
        let kind = call::Type::try_from(number).unwrap_or(call::Type::Unknown);
        if kind == call::Type::Heartbeat {
            return Ok(None);
        }
        let bad = |message: &str| Err(ExecutorRefusal::BadRequest(message.to_owned()));
        let key: ExecutorKey = ((&call.framework_id).into(), (&call.executor_id).into());
        if !self.frameworks.contains_key(&key.0) {
            return bad("Framework cannot be found");
        }
        let Some(executor) = self.executors.get(&key) else {
            return bad("Executor cannot be found");
        };
        let unknown =
            matches!(executor.phase, ExecutorPhase::Registering | ExecutorPhase::Recovering);
        if unknown && kind != call::Type::Subscribe {
            return Err(ExecutorRefusal::NotSubscribed);
        }
        match kind {
            call::Type::Unknown => Err(ExecutorRefusal::Unknown(number)),
            _ => Ok(Some(key)),
        }
    }

    fn answer(&mut self, request: RequestId, result: Result<ExecutorAnswer, ExecutorRefusal>) {
        let after = self.position;
        self.effects.push_back(Effect::ExecutorAnswer { request, result, after });
    }

    fn message_of_executor(&mut self, key: &ExecutorKey, data: bytes::Bytes) {
        let registered = self.link.as_ref().filter(|link| link.registered.is_some());
        let Some(link) = registered.map(|link| link.id) else {
            // Best effort, as in Mesos.
            self.statistics.messages_invalid += 1;
            return;
        };
        self.statistics.messages_valid += 1;
        let message =
            ExecutorMessage { framework_id: text(&key.0), executor_id: text(&key.1), data };
        self.send(link, agent_to_master::Message::ExecutorMessage(message), Position::NONE);
    }
}
