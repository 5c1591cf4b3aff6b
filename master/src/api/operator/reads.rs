//! Calls that ask about the process itself.

use mezzo_proto::v1;
use mezzo_proto::v1::master::Response;
use mezzo_proto::v1::master::call::Type;
use mezzo_proto::v1::master::response::{GetHealth, GetMaster, GetMetrics, GetVersion};

use super::{CallError, MESOS_VERSION, not_answered};
use crate::api::Context;

/// Answers one of them.
pub(super) fn answer(context: &Context, kind: Type) -> Result<Response, CallError> {
    let empty = Response::default();
    let response = match kind {
        Type::GetHealth => {
            let healthy = context.store.check_room().is_ok();
            Response { get_health: Some(GetHealth { healthy }), ..empty }
        }
        Type::GetVersion => Response { get_version: Some(version()), ..empty },
        Type::GetMetrics => {
            Response { get_metrics: Some(GetMetrics { metrics: metrics(context) }), ..empty }
        }
        Type::GetMaster => Response {
            get_master: Some(GetMaster {
                master_info: Some((*context.master_info).clone()),
                start_time: Some(context.start_time),
                elected_time: Some(context.elected_time),
            }),
            ..empty
        },
        other => return Err(not_answered(other)),
    };
    Ok(response)
}

fn version() -> GetVersion {
    GetVersion {
        version_info: v1::VersionInfo { version: MESOS_VERSION.to_owned(), ..Default::default() },
    }
}

fn metrics(context: &Context) -> Vec<v1::Metric> {
    context
        .metrics
        .snapshot()
        .into_iter()
        .map(|(name, value)| v1::Metric { name, value: Some(value) })
        .collect()
}
