//! The replicated state and its commands: what survives the loss of a master.
//!
//! Applying is deterministic and total: the same commands in the same order give the same state on
//! every master, and a command that refers to something unknown changes nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::storage::v1::{
    AgentRecord, Command, Counters, FrameworkRecord, OperationPlacement, Placement, PutMaintenance,
};
use mezzo_proto::v1::WeightInfo;
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_types::{AgentId, FrameworkId, TaskId};

/// Admitted agents, frameworks, the placement ledger, operations in flight, what operators decided
/// about roles and machines, and the id counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    pub agents: BTreeMap<AgentId, AgentRecord>,
    pub frameworks: BTreeMap<FrameworkId, FrameworkRecord>,
    pub placements: BTreeMap<(FrameworkId, TaskId), Placement>,
    /// Operations in flight, by the uuid between master and agent.
    pub operations: BTreeMap<Bytes, OperationPlacement>,
    /// By role; roles of weight 1 are not here.
    pub weights: BTreeMap<String, f64>,
    /// By role.
    pub quotas: BTreeMap<String, QuotaConfig>,
    pub maintenance: PutMaintenance,
    pub counters: Counters,
}

impl Registry {
    /// Applies one committed command.
    pub fn apply(&mut self, command: &Command) {
        let Some(kind) = &command.command else { return };
        match kind {
            Kind::PutAgent(put) => {
                let Some(agent) = &put.agent else { return };
                let Some(id) = agent.info.as_ref().and_then(|i| i.id.as_ref()) else { return };
                self.agents.insert(id.into(), agent.clone());
            }
            Kind::RemoveAgent(remove) => {
                self.agents.remove(remove.agent_id.as_str());
            }
            Kind::PutFramework(put) => {
                let Some(framework) = &put.framework else { return };
                let Some(id) = framework.info.as_ref().and_then(|i| i.id.as_ref()) else { return };
                let id = FrameworkId::from(id);
                if framework.state() == mezzo_proto::storage::v1::framework_record::State::Completed
                {
                    self.placements.retain(|(owner, _), _| *owner != id);
                }
                self.frameworks.insert(id, framework.clone());
            }
            Kind::RemoveFramework(remove) => {
                self.frameworks.remove(remove.framework_id.as_str());
                self.placements.retain(|(owner, _), _| owner.as_ref() != remove.framework_id);
            }
            Kind::PlaceTasks(place) => {
                for placement in &place.placements {
                    let key = (
                        FrameworkId::from(placement.framework_id.as_str()),
                        TaskId::from(placement.task_id.as_str()),
                    );
                    self.placements.insert(key, placement.clone());
                }
            }
            Kind::ForgetTasks(forget) => {
                for task in &forget.tasks {
                    self.placements.remove(&(
                        FrameworkId::from(task.framework_id.as_str()),
                        TaskId::from(task.task_id.as_str()),
                    ));
                }
            }
            Kind::PutOperations(put) => {
                for operation in &put.operations {
                    self.operations.insert(operation.operation_uuid.clone(), operation.clone());
                }
            }
            Kind::ForgetOperations(forget) => {
                for uuid in &forget.operation_uuids {
                    self.operations.remove(uuid);
                }
            }
            Kind::PutWeights(put) => {
                for weight in &put.weights {
                    let role = weight.role.clone().unwrap_or_default();
                    if is_default_weight(weight) {
                        self.weights.remove(&role);
                    } else {
                        self.weights.insert(role, weight.weight);
                    }
                }
            }
            Kind::PutQuotas(put) => {
                for quota in &put.quotas {
                    if is_no_quota(quota) {
                        self.quotas.remove(&quota.role);
                    } else {
                        self.quotas.insert(quota.role.clone(), quota.clone());
                    }
                }
            }
            Kind::PutMaintenance(put) => self.maintenance = put.clone(),
            Kind::PutCounters(put) => {
                if let Some(counters) = &put.counters {
                    self.counters = counters.clone();
                }
            }
        }
    }
}

/// A weight that need not be remembered: it is what every role has.
pub fn is_default_weight(weight: &WeightInfo) -> bool {
    weight.weight == 1.0
}

/// A quota that need not be remembered: it grants and limits nothing.
pub fn is_no_quota(quota: &QuotaConfig) -> bool {
    quota.guarantees.is_empty() && quota.limits.is_empty()
}
