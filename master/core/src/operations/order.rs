//! Operators' operations: on resources of an agent that nobody holds.

use mezzo_proto::storage::v1::PutOperations;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::v1;
use mezzo_types::{AgentId, Conversion, Now, OfferId, ResourceOperation};

use super::touches;
use crate::effect::{Answer, Refusal};
use crate::input::RequestId;
use crate::master::Master;
use crate::validation;

impl Master {
    /// RESERVE_RESOURCES and its kin. Offers that hold what is needed are rescinded, one by one, until
    /// there is enough (as Mesos does); answered once the log has the operation.
    pub(crate) fn operator_operation(
        &mut self,
        now: Now,
        request: RequestId,
        agent: &AgentId,
        operation: &v1::offer::Operation,
        principal: Option<&str>,
    ) {
        match self.try_operator_operation(now, agent, operation, principal) {
            Ok(position) => self.reply_after(request, Ok(Answer::Accepted), position),
            Err(refusal) => self.reply(request, Err(refusal)),
        }
    }

    fn try_operator_operation(
        &mut self,
        now: Now,
        id: &AgentId,
        operation: &v1::offer::Operation,
        principal: Option<&str>,
    ) -> Result<mezzo_types::Position, Refusal> {
        let Some(agent) = self.agents.get(id).filter(|a| a.unreachable_since_unix_ns.is_none())
        else {
            return Err(Refusal::BadRequest(format!(
                "No agent found with specified ID: '{id}' is not registered; `mezzo agents` lists them"
            )));
        };
        let operation = ResourceOperation::from_proto(operation).map_err(|fault| {
            let name = operation.r#type().as_str_name();
            Refusal::BadRequest(format!("Invalid {name} operation on agent '{id}': {fault}"))
        })?;
        let name = operation.kind().as_str_name();
        let context = validation::operation::Context {
            caller: validation::operation::Caller::Operator,
            principal,
            total: &agent.total,
            used: &self.used_volumes(id),
        };
        validation::operation::check(&operation, &context).map_err(|message| {
            Refusal::BadRequest(format!("Invalid {name} operation on agent '{id}': {message}"))
        })?;
        if let Some(shortage) = &self.shortage {
            return Err(Refusal::Unavailable(shortage.clone()));
        }
        let Some(link) = agent.link else {
            return Err(Refusal::Conflict(format!(
                "agent '{id}' is disconnected: try again when it is back"
            )));
        };
        let steps = operation.conversions();
        agent.total.convert(&steps).map_err(|error| {
            Refusal::Conflict(format!("{name} cannot be applied to agent '{id}': {error}"))
        })?;
        self.free(now, id, &steps).map_err(|message| {
            Refusal::Conflict(format!("{name} cannot be applied to agent '{id}': {message}"))
        })?;
        let Some((placement, message)) = self.begin_operation(None, id, None, &operation) else {
            return Err(Refusal::Conflict(format!("agent '{id}' is gone")));
        };
        let operations = vec![placement];
        let position = self.persist(CommandKind::PutOperations(PutOperations { operations }));
        self.offer_after(id, position);
        self.send_agent(link, message, position);
        self.view_agent(id);
        Ok(position)
    }

    /// Converts what nobody holds, after taking back as many offers as it needs.
    fn free(&mut self, now: Now, id: &AgentId, steps: &[Conversion]) -> Result<(), String> {
        let Some(agent) = self.agents.get(id) else { return Ok(()) };
        let mut offers: Vec<OfferId> = agent.offers.iter().cloned().collect();
        loop {
            let error = match self.allocator.convert_available(now, id, steps) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let helps = |offer: &OfferId| {
                let offer = self.offers.get(offer);
                offer.is_some_and(|offer| touches(steps, &offer.resources.unallocated()))
            };
            let Some(next) = offers.iter().position(helps) else {
                return Err(format!("{error}; the rest is in use"));
            };
            let offer = offers.swap_remove(next);
            self.rescind_offer(now, &offer);
        }
    }
}
