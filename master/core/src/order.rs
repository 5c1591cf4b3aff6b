//! What operators decide: it is validated, committed, carried out, and known to the next leader.

use mezzo_proto::v1;
use mezzo_proto::v1::maintenance::Schedule;
use mezzo_proto::v1::quota::{QuotaConfig, QuotaRequest};
use mezzo_types::{AgentId, Now, Position};

use crate::effect::{Answer, Refusal};
use crate::input::RequestId;
use crate::master::Master;
use crate::registry::Registry;

/// One decision. Each is answered with [`Answer::Done`] once it is committed.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// UPDATE_WEIGHTS: roles that are not named keep theirs.
    UpdateWeights(Vec<v1::WeightInfo>),
    /// UPDATE_QUOTA: all of them, or none. `force` goes over the heads of those who consume more
    /// than their new limit, and of a cluster that is too small for all guarantees.
    UpdateQuotas { quotas: Vec<QuotaConfig>, force: bool },
    /// SET_QUOTA, the old form: for a role without a quota, the guarantee is its limit, too.
    SetQuota(QuotaRequest),
    /// REMOVE_QUOTA, the old form.
    RemoveQuota { role: String },
    /// The whole of what is planned.
    UpdateSchedule(Schedule),
    /// The machines go down: their agents are removed, and refused until they are up.
    StartMaintenance(Vec<v1::MachineId>),
    /// They are up again, and planned no more.
    StopMaintenance(Vec<v1::MachineId>),
    /// The agent's tasks are ended, and it is offered to nobody.
    Drain { agent: AgentId, config: v1::DrainConfig },
    /// The agent is offered to nobody; its tasks go on.
    Deactivate(AgentId),
    /// It is offered again.
    Reactivate(AgentId),
}

impl Master {
    pub(crate) fn order(&mut self, now: Now, request: RequestId, order: Order) {
        let outcome = match order {
            _ if self.shortage.is_some() => {
                Err(Refusal::Unavailable(self.shortage.clone().unwrap_or_default()))
            }
            Order::UpdateWeights(weights) => self.update_weights(now, weights),
            Order::UpdateQuotas { quotas, force } => self.update_quotas(now, quotas, force),
            Order::SetQuota(quota) => self.set_quota(now, quota),
            Order::RemoveQuota { role } => self.remove_quota(now, &role),
            Order::UpdateSchedule(schedule) => self.update_schedule(now, schedule),
            Order::StartMaintenance(machines) => self.start_maintenance(now, &machines),
            Order::StopMaintenance(machines) => self.stop_maintenance(&machines),
            Order::Drain { agent, config } => self.drain_agent(now, &agent, config),
            Order::Deactivate(agent) => self.deactivate_by_order(now, &agent),
            Order::Reactivate(agent) => self.reactivate_agent(now, &agent),
        };
        match outcome {
            Ok(committed) => self.reply_after(request, Ok(Answer::Done), committed),
            Err(refusal) => self.reply(request, Err(refusal)),
        }
    }

    /// A new leader takes over what was decided about roles and machines.
    pub(crate) fn recover_orders(&mut self, now: Now, registry: &Registry) {
        self.recover_weights(now, registry);
        self.recover_quotas(now, registry);
        self.recover_maintenance(registry);
    }
}

/// The outcome of an order: what its answer waits for.
pub(crate) type Outcome = Result<Position, Refusal>;
