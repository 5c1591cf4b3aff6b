//! Operations on agents that come back, become unreachable or leave for good.

use std::collections::BTreeMap;

use mezzo_proto::internal::v1::AgentOperation;
use mezzo_proto::v1;
use mezzo_proto::v1::OperationState;
use mezzo_types::{AgentId, Position, Resources, Uuid16};

use crate::agent::Agent;
use crate::master::Master;
use crate::operation::{Operation, is_terminal};
use crate::registry::Registry;
use crate::task::Launch;

impl Master {
    /// Operations in flight when this master took the lead; the agents' registrations settle them.
    pub(crate) fn recover_operations(&mut self, registry: &Registry) {
        for placement in registry.operations.values() {
            let Some(operation) = Operation::of_placement(placement) else { continue };
            if !self.agents.contains_key(&operation.agent) {
                continue;
            }
            let uuid = operation.uuid;
            self.insert_operation(operation);
            self.view_operation(uuid);
        }
    }

    /// Holds the operations that a registering agent reports against those that are in flight. It
    /// reports every one that it carried out and that nobody acknowledged, and its total is what they
    /// made of it. So one that it does not report never arrived, whatever became of its link; that is
    /// told once, and then nobody knows the operation any more.
    pub(crate) fn settle_operations(
        &mut self,
        id: &AgentId,
        reported: &[AgentOperation],
        last: Launch,
    ) -> Position {
        let Some(agent) = self.agents.get(id) else { return Position(0) };
        let reported: BTreeMap<Uuid16, Option<&v1::OperationStatus>> = reported
            .iter()
            .filter_map(|o| Some((Uuid16::from_slice(&o.operation_uuid)?, o.latest.as_ref())))
            .collect();
        let expected: Vec<Uuid16> = agent.operations.values().copied().collect();
        let mut dropped = Vec::new();
        for uuid in expected {
            let Some(operation) = self.operations.get_mut(&uuid) else { continue };
            match reported.get(&uuid) {
                Some(Some(latest)) if !operation.ended() && is_terminal(latest.state()) => {
                    let (was, is) = (operation.latest.state(), latest.state());
                    self.statistics.operations.moved(operation.info.r#type(), was, is);
                    operation.latest = v1::OperationStatus {
                        operation_id: operation.info.id.clone(),
                        ..(*latest).clone()
                    };
                    self.view_operation(uuid);
                }
                Some(_) => {}
                // Told, and not acknowledged yet: that stands.
                None if operation.ended() => {}
                None => {
                    let message = if operation.order > last {
                        "the operation never reached the agent: its connection broke before"
                    } else {
                        "the agent does not know the operation: it stopped before it carried it out"
                    };
                    let (was, is) = (operation.latest.state(), OperationState::OperationDropped);
                    self.statistics.operations.moved(operation.info.r#type(), was, is);
                    operation.latest = operation.status(is, message);
                    dropped.push(uuid);
                    self.view_operation(uuid);
                }
            }
        }
        self.tell_last(&dropped, |_| None)
    }

    /// Tells the frameworks of operations whose agent will report no more, and forgets the operations.
    fn tell_last(
        &mut self,
        uuids: &[Uuid16],
        word: impl Fn(&Operation) -> Option<v1::OperationStatus>,
    ) -> Position {
        let mut words = Vec::new();
        for uuid in uuids {
            let Some(operation) = self.operations.get(uuid) else { continue };
            let Some(framework) = operation.framework.clone() else { continue };
            if self.wants_feedback(operation) {
                words.push((framework, word(operation).unwrap_or(operation.latest.clone())));
            }
        }
        let position = self.forget_operations(uuids);
        for (framework, status) in words {
            self.send_operation_status(&framework, status, position);
        }
        position
    }

    /// The agent is unreachable: its operations may have been carried out, and it may come back and say
    /// so.
    pub(crate) fn operations_unreachable(&mut self, id: &AgentId, after: Position) {
        let Some(agent) = self.agents.get(id) else { return };
        let operations = agent.operations.values().filter_map(|uuid| self.operations.get(uuid));
        let words: Vec<_> = operations
            .filter(|operation| !operation.ended() && self.wants_feedback(operation))
            .filter_map(|operation| {
                let message = "Agent was marked unreachable";
                let status = operation.status(OperationState::OperationUnreachable, message);
                Some((operation.framework.clone()?, status))
            })
            .collect();
        for (framework, status) in words {
            self.send_operation_status(&framework, status, after);
        }
    }

    /// The agent was removed for good. `state` is what is told of its operations that did not end; one
    /// that did keeps its ending, which nobody can acknowledge to the agent any more.
    pub(crate) fn end_operations(
        &mut self,
        agent: &Agent,
        told: Option<(OperationState, &str)>,
    ) -> Position {
        let uuids: Vec<Uuid16> = agent.operations.values().copied().collect();
        // Their books are closed below; this is the ending that they come to.
        if let Some((state, _)) = told.filter(|(state, _)| is_terminal(*state)) {
            let operations = uuids.iter().filter_map(|uuid| self.operations.get(uuid));
            for operation in operations.filter(|operation| !operation.ended()) {
                self.statistics.operations.came(operation.info.r#type(), state);
            }
        }
        match told {
            Some((state, message)) => self.tell_last(&uuids, |operation| {
                (!operation.ended()).then(|| operation.status(state, message))
            }),
            None => self.forget_operations(&uuids),
        }
    }

    /// What a registering agent has: what it says of its operations' results, or just its resources.
    pub(crate) fn registered_total(
        configured: &Resources,
        total: &[v1::Resource],
    ) -> Result<Resources, String> {
        if total.is_empty() {
            return Ok(configured.clone());
        }
        let total = Resources::from_proto(total)
            .map_err(|error| format!("total_resources is invalid: {error}"))?;
        if total.quantities() != configured.quantities() {
            return Err(format!(
                "total_resources is {total}, which is not as much as agent_info.resources, \
                 {configured}: operations neither make nor lose resources"
            ));
        }
        Ok(total)
    }
}
