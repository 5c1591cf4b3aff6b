//! Scheduler calls other than SUBSCRIBE: who may call, and where each goes.

use bytes::Bytes;
use mezzo_proto::internal::v1::{KillTask, master_to_agent};
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::Call;
use mezzo_proto::v1::scheduler::call::{self, Type};
use mezzo_types::{FrameworkId, Now, Position, TaskId};

use crate::effect::{Answer, Refusal};
use crate::input::{RequestId, StreamId};
use crate::master::Master;
use crate::subscribe::options;
use crate::validation;

impl Master {
    /// Checks the caller in Mesos' order (unknown framework, not subscribed, wrong stream), then
    /// carries the call out and answers it.
    pub(crate) fn scheduler_call(
        &mut self,
        now: Now,
        request: RequestId,
        stream: Option<StreamId>,
        call: Call,
        task_infos: Vec<Bytes>,
    ) {
        let id = match self.caller(stream, &call) {
            Ok(id) => id,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        let result = self.dispatch(now, &id, call, &task_infos);
        match result {
            Ok((answer, after)) => self.reply_after(request, Ok(answer), after),
            Err(refusal) => self.reply(request, Err(refusal)),
        }
    }

    pub(crate) fn caller(
        &self,
        stream: Option<StreamId>,
        call: &Call,
    ) -> Result<FrameworkId, Refusal> {
        validation::scheduler_call(call).map_err(|error| {
            Refusal::BadRequest(format!("Failed to validate scheduler::Call: {error}"))
        })?;
        let id = FrameworkId::from(call.framework_id.as_ref().ok_or_else(|| {
            Refusal::BadRequest("Expecting 'framework_id' to be present".to_owned())
        })?);
        let Some(framework) = self.frameworks.get(&id) else {
            return Err(Refusal::BadRequest(format!(
                "Framework cannot be found: no framework has the id '{id}'"
            )));
        };
        let Some(bound) = framework.stream else {
            return Err(Refusal::Forbidden(format!(
                "Framework is not subscribed: '{id}' has no open subscription, SUBSCRIBE first"
            )));
        };
        match stream {
            Some(named) if named == bound => Ok(id),
            Some(_) => Err(Refusal::BadRequest(format!(
                "The stream ID included in this request didn't match the stream ID of the \
                 framework '{id}'"
            ))),
            None => Err(Refusal::BadRequest(format!(
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header with the \
                 stream ID of the framework '{id}'"
            ))),
        }
    }

    fn dispatch(
        &mut self,
        now: Now,
        id: &FrameworkId,
        call: Call,
        task_infos: &[Bytes],
    ) -> Result<(Answer, Position), Refusal> {
        let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
        let at_once = (Answer::Accepted, Position(0));
        match kind {
            Some(Type::Accept) => {
                self.accept(now, id, call.accept.unwrap_or_default(), task_infos);
            }
            Some(Type::Decline) => {
                let decline = call.decline.unwrap_or_default();
                self.decline(now, id, &decline.offer_ids, decline.filters.as_ref());
            }
            Some(Type::Revive) => {
                let roles = call.revive.unwrap_or_default().roles;
                if self.are_roles_of(id, &roles) {
                    self.allocator.revive(now, id, &roles);
                }
            }
            Some(Type::Suppress) => {
                let roles = call.suppress.unwrap_or_default().roles;
                if self.are_roles_of(id, &roles) {
                    self.allocator.suppress(id, &roles);
                }
            }
            Some(Type::Kill) => self.kill(now, id, call.kill.unwrap_or_default()),
            Some(Type::Acknowledge) => {
                self.acknowledge(id, &call.acknowledge.unwrap_or_default());
            }
            Some(Type::Reconcile) => {
                self.reconcile(now, id, &call.reconcile.unwrap_or_default());
            }
            Some(Type::AcknowledgeOperationStatus) => {
                let call = call.acknowledge_operation_status.unwrap_or_default();
                self.acknowledge_operation(id, &call);
            }
            Some(Type::ReconcileOperations) => {
                self.reconcile_operations(id, &call.reconcile_operations.unwrap_or_default());
            }
            Some(Type::AcceptInverseOffers) => {
                let answer = call.accept_inverse_offers.unwrap_or_default();
                let filters = answer.filters.as_ref();
                self.answer_inverse_offers(now, id, &answer.inverse_offer_ids, filters, true);
            }
            Some(Type::DeclineInverseOffers) => {
                let answer = call.decline_inverse_offers.unwrap_or_default();
                let filters = answer.filters.as_ref();
                self.answer_inverse_offers(now, id, &answer.inverse_offer_ids, filters, false);
            }
            Some(Type::Teardown) => {
                let position = self.remove_framework(now, id);
                return Ok((Answer::Accepted, position));
            }
            Some(Type::UpdateFramework) => {
                let update = call.update_framework.unwrap_or_default();
                let position = self.update_framework(now, id, *update)?;
                return Ok((Answer::Done, position));
            }
            Some(Type::Message) => self.message_to_executor(id, call.message.unwrap_or_default()),
            Some(Type::Shutdown) => {
                self.shut_executor_down(id, &call.shutdown.unwrap_or_default());
            }
            // Taken and without effect, as with Mesos' allocator.
            Some(Type::Request) => {}
            Some(Type::Subscribe) => {
                return Err(Refusal::BadRequest(
                    "SUBSCRIBE opens a stream: it cannot be a call on one".to_owned(),
                ));
            }
            Some(Type::Unknown) | None => {
                return Err(Refusal::NotImplemented(format!(
                    "call type {} is unknown",
                    call.r#type.unwrap_or_default()
                )));
            }
        }
        Ok(at_once)
    }

    /// A REVIVE or SUPPRESS that names another role is without effect, and no refusal, as with Mesos: it may
    /// have crossed an UPDATE_FRAMEWORK on its way, and Mesos' own client library gives up after a refusal.
    fn are_roles_of(&self, id: &FrameworkId, roles: &[String]) -> bool {
        let framework = self.frameworks.get(id);
        framework.is_some_and(|f| roles.iter().all(|role| f.roles.contains(role)))
    }

    fn update_framework(
        &mut self,
        now: Now,
        id: &FrameworkId,
        update: call::UpdateFramework,
    ) -> Result<Position, Refusal> {
        if let Some(shortage) = &self.shortage {
            return Err(Refusal::Unavailable(shortage.clone()));
        }
        let info = update.framework_info;
        validation::framework_info(&info, self.config.root_submissions)
            .map_err(Refusal::BadRequest)?;
        validation::roles_subset(
            "update_framework.suppressed_roles",
            &update.suppressed_roles,
            &options(&info, &[]).roles,
        )
        .map_err(Refusal::BadRequest)?;
        let constraints = update.offer_constraints.as_ref();
        let roles = options(&info, &[]).roles;
        validation::offer_constraints("update_framework", constraints, &roles)
            .map_err(Refusal::BadRequest)?;
        if let Some(framework) = self.frameworks.get(id) {
            validation::framework_update(&framework.info, &info).map_err(Refusal::BadRequest)?;
        }
        Ok(self.replace_info(now, id, info, &update.suppressed_roles))
    }

    /// KILL of a framework. A task that is not known is answered like an explicit reconciliation; so
    /// is one whose agent is unreachable, beside that it is killed when the agent returns. A task that runs on
    /// another agent than the call names is left alone, as with Mesos: it is not the one that is meant.
    fn kill(&mut self, now: Now, id: &FrameworkId, kill: call::Kill) {
        let task = TaskId::from(&kill.task_id);
        let named = kill.agent_id.as_ref().map(|agent| agent.value.as_str());
        let placed = self.frameworks.get(id).and_then(|f| f.tasks.get(&task)).map(|t| &t.agent);
        if let (Some(named), Some(placed)) = (named, placed)
            && *placed != named
        {
            return;
        }
        let known = self.order_kill(id, &task, kill.kill_policy);
        let found = self.frameworks.get(id).and_then(|f| f.tasks.get(&task));
        if !known || found.is_some_and(|task| task.unreachable_since_unix_ns.is_some()) {
            let asked = call::reconcile::Task { task_id: kill.task_id, agent_id: kill.agent_id };
            self.reconcile_one(now, id, &asked);
        }
    }

    /// Sends the kill to the task's agent, now or when it comes back. Returns whether the task is
    /// known. A terminal task is left alone: its update is on the way.
    pub(crate) fn order_kill(
        &mut self,
        framework: &FrameworkId,
        id: &TaskId,
        policy: Option<v1::KillPolicy>,
    ) -> bool {
        let task = self.frameworks.get_mut(framework).and_then(|f| f.tasks.get_mut(id));
        let Some(task) = task else { return false };
        if mezzo_types::is_terminal(task.state) {
            return true;
        }
        task.kill = Some(policy);
        let Some(agent) = self.agents.get(&task.agent) else { return true };
        // The kill must not overtake the launch, which waits for its commit.
        if let Some(link) = agent.link {
            let message = KillTask {
                framework_id: framework.to_string(),
                task_id: id.to_string(),
                kill_policy: policy,
            };
            self.send_agent(link, master_to_agent::Message::KillTask(message), Position(0));
        }
        true
    }
}
