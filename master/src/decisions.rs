//! What operators decided, for readers: weights, quotas, maintenance.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use mezzo_master_core::ViewChange;
use mezzo_proto::v1;
use mezzo_proto::v1::maintenance::{ClusterStatus, Schedule};
use mezzo_proto::v1::quota::{QuotaConfig, QuotaInfo, QuotaStatus};

/// Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    weights: BTreeMap<String, f64>,
    quotas: BTreeMap<String, QuotaConfig>,
    schedule: Schedule,
    status: ClusterStatus,
}

impl Decisions {
    /// Takes over a change, if it is about a decision.
    pub(crate) fn apply(&self, change: &ViewChange) {
        let write = || self.state.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            ViewChange::Weights(weights) => write().weights = weights.clone(),
            ViewChange::Quotas(quotas) => write().quotas = quotas.clone(),
            ViewChange::Maintenance { schedule, status } => {
                let mut state = write();
                state.schedule = schedule.clone();
                state.status = status.clone();
            }
            _ => {}
        }
    }

    /// GET_WEIGHTS: those that are not 1.
    pub(crate) fn weights(&self) -> Vec<v1::WeightInfo> {
        let weight = |(role, weight): (&String, &f64)| v1::WeightInfo {
            role: Some(role.clone()),
            weight: *weight,
        };
        self.read().weights.iter().map(weight).collect()
    }

    /// GET_QUOTA, also in the form of old clients.
    #[expect(deprecated, reason = "old clients read the old form")]
    pub(crate) fn quotas(&self) -> QuotaStatus {
        let state = self.read();
        let configs: Vec<QuotaConfig> = state.quotas.values().cloned().collect();
        QuotaStatus { infos: configs.iter().map(old_form).collect(), configs }
    }

    /// GET_MAINTENANCE_SCHEDULE.
    pub(crate) fn schedule(&self) -> Schedule {
        self.read().schedule.clone()
    }

    /// GET_MAINTENANCE_STATUS.
    pub(crate) fn maintenance_status(&self) -> ClusterStatus {
        self.read().status.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn old_form(config: &QuotaConfig) -> QuotaInfo {
    let guarantee = config.guarantees.iter().map(|(name, scalar)| v1::Resource {
        name: name.clone(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(*scalar),
        ..v1::Resource::default()
    });
    QuotaInfo { role: Some(config.role.clone()), guarantee: guarantee.collect(), principal: None }
}
