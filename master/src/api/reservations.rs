//! Operators' operations on an agent's resources: RESERVE_RESOURCES and its kin, as the operations that
//! frameworks do by offers.

use mezzo_proto::v1;
use mezzo_proto::v1::master::Call;
use mezzo_proto::v1::master::call::Type;
use mezzo_proto::v1::offer::Operation;
use mezzo_proto::v1::offer::operation::{self, Type as OperationType};

use super::operator::CallError;

/// Whether the call is answered with 202: it is done once the agent has done it.
pub(super) fn is_operation(call: &Call) -> bool {
    matches!(
        call.r#type(),
        Type::ReserveResources
            | Type::UnreserveResources
            | Type::CreateVolumes
            | Type::DestroyVolumes
            | Type::GrowVolume
            | Type::ShrinkVolume
    )
}

/// The agent and the operation that a call is about.
///
/// # Errors
/// What belongs to the call's type is not there.
pub(super) fn operation_of(call: Call) -> Result<(v1::AgentId, Operation), CallError> {
    let missing = |field: &str| CallError {
        code: 400,
        message: format!("Expecting '{field}' to be present"),
    };
    let of = |kind: OperationType| Operation { r#type: Some(kind as i32), ..Operation::default() };
    Ok(match call.r#type() {
        Type::ReserveResources => {
            let body = call.reserve_resources.ok_or_else(|| missing("reserve_resources"))?;
            let reserve = operation::Reserve { source: body.source, resources: body.resources };
            (body.agent_id, Operation { reserve: Some(reserve), ..of(OperationType::Reserve) })
        }
        Type::UnreserveResources => {
            let body = call.unreserve_resources.ok_or_else(|| missing("unreserve_resources"))?;
            let unreserve = operation::Unreserve { resources: body.resources };
            (
                body.agent_id,
                Operation { unreserve: Some(unreserve), ..of(OperationType::Unreserve) },
            )
        }
        Type::CreateVolumes => {
            let body = call.create_volumes.ok_or_else(|| missing("create_volumes"))?;
            let create = operation::Create { volumes: body.volumes };
            (body.agent_id, Operation { create: Some(create), ..of(OperationType::Create) })
        }
        Type::DestroyVolumes => {
            let body = call.destroy_volumes.ok_or_else(|| missing("destroy_volumes"))?;
            let destroy = operation::Destroy { volumes: body.volumes };
            (body.agent_id, Operation { destroy: Some(destroy), ..of(OperationType::Destroy) })
        }
        Type::GrowVolume => {
            let body = call.grow_volume.ok_or_else(|| missing("grow_volume"))?;
            let agent = body.agent_id.ok_or_else(|| missing("grow_volume.agent_id"))?;
            let grow = operation::GrowVolume { volume: body.volume, addition: body.addition };
            (
                agent,
                Operation { grow_volume: Some(Box::new(grow)), ..of(OperationType::GrowVolume) },
            )
        }
        Type::ShrinkVolume => {
            let body = call.shrink_volume.ok_or_else(|| missing("shrink_volume"))?;
            let agent = body.agent_id.ok_or_else(|| missing("shrink_volume.agent_id"))?;
            let shrink = operation::ShrinkVolume { volume: body.volume, subtract: body.subtract };
            (
                agent,
                Operation {
                    shrink_volume: Some(Box::new(shrink)),
                    ..of(OperationType::ShrinkVolume)
                },
            )
        }
        _ => return Err(missing("type")),
    })
}
