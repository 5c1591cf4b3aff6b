//! Calls that order: what they mean is decided in the core, and they are answered once it is committed.

use mezzo_master_core::{Answer, Order, Refusal};
use mezzo_proto::v1;
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::{DrainAgent, Type};
use mezzo_types::{AgentId, FrameworkId};

use super::{CallError, missing, not_answered};
use crate::api::Context;
use crate::handle::Gone;

/// Carries out one of them.
pub(super) async fn carry_out(context: &Context, kind: Type, call: Call) -> Result<(), CallError> {
    let handle = &context.handle;
    match kind {
        Type::Teardown => {
            let teardown = call.teardown.ok_or_else(|| missing("teardown"))?;
            done(handle.teardown(FrameworkId::from(&teardown.framework_id)).await)
        }
        Type::MarkAgentGone => {
            let mark = call.mark_agent_gone.ok_or_else(|| missing("mark_agent_gone"))?;
            done(handle.mark_agent_gone(AgentId::from(&mark.agent_id)).await)
        }
        other => done(handle.order(order(other, call)?).await),
    }
}

/// A decision, as the core takes it.
fn order(kind: Type, call: Call) -> Result<Order, CallError> {
    Ok(match kind {
        Type::UpdateWeights => {
            let update = call.update_weights.ok_or_else(|| missing("update_weights"))?;
            Order::UpdateWeights(update.weight_infos)
        }
        Type::UpdateQuota => {
            let update = call.update_quota.ok_or_else(|| missing("update_quota"))?;
            let force = update.force.unwrap_or(false);
            Order::UpdateQuotas { quotas: update.quota_configs, force }
        }
        #[expect(deprecated, reason = "old clients set quotas so")]
        Type::SetQuota => {
            let set = call.set_quota.ok_or_else(|| missing("set_quota"))?;
            Order::SetQuota(set.quota_request)
        }
        #[expect(deprecated, reason = "old clients remove quotas so")]
        Type::RemoveQuota => {
            let remove = call.remove_quota.ok_or_else(|| missing("remove_quota"))?;
            Order::RemoveQuota { role: remove.role }
        }
        Type::UpdateMaintenanceSchedule => {
            let update = call.update_maintenance_schedule;
            let update = update.ok_or_else(|| missing("update_maintenance_schedule"))?;
            Order::UpdateSchedule(update.schedule)
        }
        Type::StartMaintenance => {
            let start = call.start_maintenance.ok_or_else(|| missing("start_maintenance"))?;
            Order::StartMaintenance(start.machines)
        }
        Type::StopMaintenance => {
            let stop = call.stop_maintenance.ok_or_else(|| missing("stop_maintenance"))?;
            Order::StopMaintenance(stop.machines)
        }
        Type::DrainAgent => {
            let drain = call.drain_agent.ok_or_else(|| missing("drain_agent"))?;
            let config = drain_config(&drain);
            Order::Drain { agent: AgentId::from(&drain.agent_id), config }
        }
        Type::DeactivateAgent => {
            let order = call.deactivate_agent.ok_or_else(|| missing("deactivate_agent"))?;
            Order::Deactivate(AgentId::from(&order.agent_id))
        }
        Type::ReactivateAgent => {
            let order = call.reactivate_agent.ok_or_else(|| missing("reactivate_agent"))?;
            Order::Reactivate(AgentId::from(&order.agent_id))
        }
        other => return Err(not_answered(other)),
    })
}

fn drain_config(drain: &DrainAgent) -> v1::DrainConfig {
    let nanoseconds = drain.max_grace_period.as_ref().map(|grace| {
        let seconds = grace.seconds.saturating_mul(1_000_000_000);
        seconds.saturating_add(i64::from(grace.nanos))
    });
    v1::DrainConfig {
        max_grace_period: nanoseconds.map(|nanoseconds| v1::DurationInfo { nanoseconds }),
        mark_gone: Some(drain.mark_gone()),
    }
}

/// The outcome of an order that has no answer but that it was carried out.
pub(super) fn done(result: Result<Result<Answer, Refusal>, Gone>) -> Result<(), CallError> {
    match result {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refusal)) => {
            Err(CallError { code: refusal.http_code(), message: refusal.to_string() })
        }
        Err(gone) => Err(CallError { code: 503, message: gone.to_string() }),
    }
}
