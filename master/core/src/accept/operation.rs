//! An operation on resources in an ACCEPT: checked, believed in at once, so that what follows in the same
//! ACCEPT sees what it made.

use mezzo_proto::v1;
use mezzo_types::{AgentId, Now, OfferId, ResourceOperation, Resources};

use super::walk::Walk;
use crate::master::Master;
use crate::validation;

/// Operations whose feedback one framework may leave waiting; each is kept in the log and on an agent.
const OPERATIONS_MAX: usize = 10_000;

impl Master {
    /// Applies the operation to what is left of the offers, or says why not where the framework asked for
    /// feedback.
    pub(super) fn operate(&mut self, now: Now, walk: &mut Walk, message: v1::offer::Operation) {
        if let Err(sentence) = self.try_operate(now, walk, &message) {
            self.statistics.operations_refused += 1;
            let state = v1::OperationState::OperationError;
            self.statistics.operations.came(message.r#type(), state);
            let Some(id) = &message.id else { return };
            let name = message.r#type().as_str_name();
            let sentence = format!("{name} on agent '{}': {sentence}", walk.agent);
            self.send_operation_error(&walk.framework, Some(&walk.agent), id, &sentence);
        }
    }

    fn try_operate(
        &mut self,
        now: Now,
        walk: &mut Walk,
        message: &v1::offer::Operation,
    ) -> Result<(), String> {
        let Some(framework) = self.frameworks.get(&walk.framework) else { return Ok(()) };
        let Some(agent) = self.agents.get(&walk.agent) else { return Ok(()) };
        if let Some(id) = &message.id {
            validation::id::check("operation id", &id.value)?;
            if framework.operations.len() >= OPERATIONS_MAX {
                return Err(format!(
                    "the framework has {OPERATIONS_MAX} operations with an id whose end it has not \
                     acknowledged: acknowledge them first"
                ));
            }
            if framework.operations.contains_key(&id.value) {
                return Err(format!(
                    "operation id '{}' is in use: the framework already has an operation of this id \
                     whose end it has not acknowledged",
                    id.value
                ));
            }
        }
        let operation =
            ResourceOperation::from_proto(message).map_err(|fault| fault.to_string())?;
        // Frameworks may leave out for which role they were offered what they convert.
        let operation = operation.map(|resource| {
            resource.allocation_role.get_or_insert_with(|| walk.role.as_str().into());
        });
        let used = self.used_volumes(&walk.agent);
        let context = validation::operation::Context {
            caller: validation::operation::Caller::Framework(framework, &walk.role),
            principal: framework.info.principal.as_deref(),
            total: &agent.total,
            used: &used,
        };
        validation::operation::check(&operation, &context)?;
        let steps = operation.conversions();
        let plain = operation.unallocated().conversions();
        agent.total.convert(&plain).map_err(|error| error.to_string())?;
        // What a resized volume became is not for the rest of this ACCEPT (Mesos).
        let resizes =
            matches!(operation, ResourceOperation::Grow { .. } | ResourceOperation::Shrink { .. });
        let (remaining, resized) = if resizes {
            let left = walk.remaining.checked_sub(&operation.consumed()).ok_or_else(|| {
                let (wanted, left) = (operation.consumed(), &walk.remaining);
                format!("it takes {}, but there is {}", wanted.unallocated(), left.unallocated())
            })?;
            (left, operation.converted())
        } else {
            // The sentence need not say to whom all is allocated.
            walk.remaining.unallocated().convert(&plain).map_err(|error| error.to_string())?;
            let left = walk.remaining.convert(&steps).map_err(|error| error.to_string())?;
            (left, Resources::default())
        };
        if matches!(operation, ResourceOperation::Destroy { .. }) {
            self.rescind_volumes(now, &walk.agent, &operation.consumed().unallocated());
        }
        self.allocator
            .convert_allocated(now, &walk.framework, &walk.agent, &steps)
            .map_err(|error| error.to_string())?;
        if !resizes {
            walk.shared = remaining.shared();
        }
        walk.remaining = remaining;
        walk.resized += resized;
        let begun = self.begin_operation(
            Some(&walk.framework),
            &walk.agent,
            message.id.clone(),
            &operation,
        );
        if let Some((placement, order)) = begun {
            walk.operations.push(placement);
            walk.orders.push(order);
        }
        Ok(())
    }

    /// Offers of the agent that hold one of the volumes, which is about to go.
    fn rescind_volumes(&mut self, now: Now, agent: &AgentId, volumes: &Resources) {
        let Some(agent) = self.agents.get(agent) else { return };
        let holds = |id: &&OfferId| {
            let offer = self.offers.get(*id).map(|offer| offer.resources.unallocated());
            offer.is_some_and(|offer| volumes.iter().any(|volume| offer.contains_resource(volume)))
        };
        let offers: Vec<OfferId> = agent.offers.iter().filter(holds).cloned().collect();
        for offer in offers {
            self.rescind_offer(now, &offer);
        }
    }

    /// The persistent volumes that tasks on the agent use, allocated to nobody.
    pub(crate) fn used_volumes(&self, agent: &AgentId) -> Resources {
        let Some(agent) = self.agents.get(agent) else { return Resources::default() };
        let tasks = agent.tasks.iter();
        let tasks = tasks.filter_map(|(f, task)| self.frameworks.get(f)?.tasks.get(task));
        tasks
            .filter(|task| task.holds_resources)
            .map(|task| task.resources.persistent_volumes().unallocated())
            .sum()
    }
}
