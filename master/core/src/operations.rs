//! Operations on resources: from the order to the agent to the acknowledged ending.
//!
//! As in Mesos the master believes at once that an operation will succeed: what it converts can be used
//! by the next operation and is offered, and the agent, which gets all orders in order, refuses what
//! rests on one that failed. So an agent has two totals: what it is known to have, and that with every
//! operation in flight. When one fails the second is made anew from the first.
//!
//! | module | what lives there |
//! |---|---|
//! | here | an operation enters the books and leaves them |
//! | `updates` | what agents report, what frameworks acknowledge |
//! | `reconcile` | RECONCILE_OPERATIONS |
//! | `settlement` | agents that come back, become unreachable or leave |
//! | `order` | operators' operations |

mod order;
mod reconcile;
mod settlement;
mod updates;

use mezzo_proto::internal::v1::{
    AcknowledgeOperation, ApplyOperation, LaunchPosition, master_to_agent,
};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{ForgetOperations, OperationPlacement, agent_record};
use mezzo_proto::v1;
use mezzo_proto::v1::OperationState;
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_types::{
    AgentId, Conversion, FrameworkId, Now, Position, ResourceOperation, Resources, Uuid16,
};

use crate::effect::ViewChange;
use crate::master::Master;
use crate::operation::Operation;

impl Master {
    /// A name that no operation of this cluster had: UUID version 8, of the term and a counter.
    fn next_operation_uuid(&mut self) -> Uuid16 {
        let number = self.next_operation;
        self.next_operation += 1;
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&self.term.to_be_bytes()[2..]);
        bytes[6] = 0x80;
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid16(bytes)
    }

    /// Believes in an operation on the agent's resources and gives it a place among the orders to the
    /// agent. Whoever calls has checked that `agent.total` allows it and has told the allocator. What
    /// comes back is to be committed, and sent then.
    pub(crate) fn begin_operation(
        &mut self,
        framework: Option<&FrameworkId>,
        agent_id: &AgentId,
        id: Option<v1::OperationId>,
        operation: &ResourceOperation,
    ) -> Option<(OperationPlacement, master_to_agent::Message)> {
        let steps = operation.unallocated().conversions();
        let order = self.next_order(agent_id)?;
        let uuid = self.next_operation_uuid();
        let agent = self.agents.get_mut(agent_id)?;
        if let Ok(total) = agent.total.convert(&steps) {
            agent.total = total;
        }
        let info = v1::offer::Operation { id: id.clone(), ..operation.to_proto() };
        let pending = v1::OperationStatus {
            operation_id: id.clone(),
            state: OperationState::OperationPending as i32,
            agent_id: Some(agent_id.into()),
            ..v1::OperationStatus::default()
        };
        let operation = Operation {
            uuid,
            framework: framework.cloned(),
            agent: agent_id.clone(),
            info,
            steps,
            order,
            latest: pending,
            unacknowledged: None,
        };
        let placement = operation.placement();
        let message = ApplyOperation {
            position: Some(LaunchPosition { term: order.term, sequence: order.sequence }),
            operation_uuid: placement.operation_uuid.clone(),
            framework_id: placement.framework_id.clone(),
            info: placement.info.clone(),
        };
        if let Some(framework) = framework {
            self.statistics.operation_of(framework, operation.info.r#type());
        }
        self.insert_operation(operation);
        self.view_operation(uuid);
        Some((placement, master_to_agent::Message::ApplyOperation(Box::new(message))))
    }

    /// What operations made is offered once they are committed.
    pub(crate) fn offer_after(&mut self, id: &AgentId, position: Position) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.admitted = agent.admitted.max(position);
        }
    }

    /// Lists an operation with its agent and its framework.
    pub(crate) fn insert_operation(&mut self, operation: Operation) {
        let uuid = operation.uuid;
        self.statistics.operations.came(operation.info.r#type(), operation.latest.state());
        if let Some(agent) = self.agents.get_mut(&operation.agent) {
            agent.operations.insert(operation.order, uuid);
        }
        let framework = operation.framework.as_ref().and_then(|id| self.frameworks.get_mut(id));
        if let (Some(framework), Some(id)) = (framework, operation.id()) {
            framework.operations.insert(id.to_owned(), uuid);
        }
        self.operations.insert(uuid, operation);
    }

    /// Takes operations out of memory and log.
    pub(crate) fn forget_operations(&mut self, uuids: &[Uuid16]) -> Position {
        let mut forgotten = Vec::new();
        for uuid in uuids {
            let Some(operation) = self.operations.remove(uuid) else { continue };
            self.statistics.operations.left(operation.info.r#type(), operation.latest.state());
            if let Some(agent) = self.agents.get_mut(&operation.agent) {
                agent.operations.remove(&operation.order);
                if agent.drain.is_some() {
                    self.drained_maybe.insert(operation.agent.clone());
                }
            }
            let framework = operation.framework.as_ref().and_then(|id| self.frameworks.get_mut(id));
            if let (Some(framework), Some(id)) = (framework, operation.id())
                && framework.operations.get(id) == Some(uuid)
            {
                framework.operations.remove(id);
            }
            let key: bytes::Bytes = uuid.as_bytes().to_vec().into();
            self.view(ViewChange::OperationRemoved(v1::Uuid { value: key.clone() }));
            forgotten.push(key);
        }
        if forgotten.is_empty() {
            return Position(0);
        }
        self.persist(CommandKind::ForgetOperations(ForgetOperations { operation_uuids: forgotten }))
    }

    /// The operation's ending is known: the agent's resources are what it made of them.
    fn end_operation(&mut self, now: Now, uuid: Uuid16, status: v1::OperationStatus) {
        let Some(operation) = self.operations.get_mut(&uuid) else { return };
        let finished = status.state() == OperationState::OperationFinished;
        let (was, is) = (operation.latest.state(), status.state());
        self.statistics.operations.moved(operation.info.r#type(), was, is);
        operation.latest = status;
        let (agent_id, steps) = (operation.agent.clone(), operation.steps.clone());
        self.view_operation(uuid);
        let Some(agent) = self.agents.get_mut(&agent_id) else { return };
        if finished {
            match agent.confirmed.convert(&steps) {
                Ok(confirmed) => agent.confirmed = confirmed,
                // An agent that did what its resources do not allow; its next registration tells.
                Err(_) => agent.doubtful = true,
            }
            self.persist_total(now, &agent_id);
            return;
        }
        agent.doubtful = true;
        let total = self.total_in_flight(&agent_id);
        self.replace_total(now, &agent_id, total);
    }

    /// What the agent will have if all operations in flight succeed that still can.
    fn total_in_flight(&self, id: &AgentId) -> Resources {
        let Some(agent) = self.agents.get(id) else { return Resources::default() };
        let mut total = agent.confirmed.clone();
        let operations = agent.operations.values().filter_map(|uuid| self.operations.get(uuid));
        for operation in operations.filter(|operation| !operation.ended()) {
            if let Ok(converted) = total.convert(&operation.steps) {
                total = converted;
            }
        }
        total
    }

    /// The agent has something else than was believed: nothing of before may stay offered.
    fn replace_total(&mut self, now: Now, id: &AgentId, total: Resources) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.total == total {
            return;
        }
        agent.total = total.clone();
        self.rescind_offers_of_agent(now, id);
        self.allocator.update_agent(now, id, total);
        self.view_agent(id);
    }

    /// The registry is told what the agent has now, for a master that has not heard it yet.
    fn persist_total(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        if agent.unreachable_since_unix_ns.is_some() {
            return;
        }
        let since = Now { unix_ns: agent.registered_unix_ns, ..now };
        self.persist_agent(since, id, agent_record::State::Admitted);
    }

    /// Whether the framework is there to acknowledge the operation's ending, or may come back to.
    fn wants_feedback(&self, operation: &Operation) -> bool {
        let framework = operation.framework.as_ref();
        operation.id().is_some() && framework.is_some_and(|id| self.frameworks.contains_key(id))
    }

    /// UPDATE_OPERATION_STATUS, if the framework listens.
    pub(crate) fn send_operation_status(
        &mut self,
        framework: &FrameworkId,
        status: v1::OperationStatus,
        after: Position,
    ) {
        let Some(stream) = self.frameworks.get(framework).and_then(|f| f.stream) else { return };
        let event = Event {
            r#type: Some(event::Type::UpdateOperationStatus as i32),
            update_operation_status: Some(event::UpdateOperationStatus { status }),
            ..Event::default()
        };
        self.send_event(stream, event, after);
    }

    /// The agent may forget the operation.
    fn acknowledge_to_agent(
        &mut self,
        agent: &AgentId,
        framework: Option<&FrameworkId>,
        uuid: Uuid16,
        status_uuid: Option<bytes::Bytes>,
        after: Position,
    ) {
        let link = self.agents.get(agent).and_then(|agent| agent.link);
        let (Some(link), Some(status_uuid)) = (link, status_uuid) else { return };
        let message = AcknowledgeOperation {
            framework_id: framework.map(ToString::to_string).unwrap_or_default(),
            operation_uuid: uuid.as_bytes().to_vec().into(),
            status_uuid,
        };
        self.send_agent(link, master_to_agent::Message::AcknowledgeOperation(message), after);
    }

    pub(crate) fn view_operation(&mut self, uuid: Uuid16) {
        if let Some(operation) = self.operations.get(&uuid) {
            let change = ViewChange::Operation(operation.to_view());
            self.view(change);
        }
    }
}

/// Whether the steps need something that one of the resources is part of: the same but for the amount.
pub(crate) fn touches(steps: &[Conversion], resources: &Resources) -> bool {
    steps.iter().any(|step| {
        step.consumed
            .iter()
            .any(|wanted| resources.iter().any(|resource| wanted.is_alike(resource)))
    })
}
