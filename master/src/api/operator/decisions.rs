//! What operators decided, and what this process was told at its start.

use mezzo_proto::v1::master::Response;
use mezzo_proto::v1::master::call::Type;
use mezzo_proto::v1::master::response::{
    GetFlags, GetMaintenanceSchedule, GetMaintenanceStatus, GetQuota, GetWeights,
};

use super::{CallError, not_answered};
use crate::api::Context;

/// Answers one of these calls.
pub(super) fn answer(context: &Context, kind: Type) -> Result<Response, CallError> {
    let decisions = &context.decisions;
    let mut response = Response::default();
    match kind {
        Type::GetWeights => {
            response.get_weights = Some(GetWeights { weight_infos: decisions.weights() });
        }
        Type::GetQuota => response.get_quota = Some(GetQuota { status: decisions.quotas() }),
        Type::GetMaintenanceSchedule => {
            let schedule = decisions.schedule();
            response.get_maintenance_schedule = Some(GetMaintenanceSchedule { schedule });
        }
        Type::GetMaintenanceStatus => {
            let status = decisions.maintenance_status();
            response.get_maintenance_status = Some(GetMaintenanceStatus { status });
        }
        Type::GetFlags => response.get_flags = Some(GetFlags { flags: (*context.flags).clone() }),
        other => return Err(not_answered(other)),
    }
    Ok(response)
}
