//! What an operator decides about agents, machines and roles.

mod agents;
mod maintenance;
mod quotas;
mod weights;

use mezzo_sdk::Master;
use mezzo_sdk::v1::master::{Call, Response, call};

use crate::arguments::Global;
use crate::failure::Failure;

pub(crate) use agents::{DrainArguments, deactivate, drain, reactivate};
pub(crate) use maintenance::{MaintenanceCommand, maintenance};
pub(crate) use quotas::{QuotaCommand, quota};
pub(crate) use weights::{WeightsCommand, weights};

/// A call with everything unset but its type.
fn call_of(kind: call::Type) -> Call {
    Call { r#type: Some(kind as i32), ..Call::default() }
}

async fn invoke(global: &Global, call: Call) -> Result<Response, Failure> {
    let master = Master::connect(&global.master).await?;
    Ok(master.invoke(call).await?)
}
