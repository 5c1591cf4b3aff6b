//! Everything the master answers on its one port: HTTP/1.1 for Mesos clients, gRPC for new ones.
//! The handlers translate; what a call means is decided in the core, whatever way it came.

mod agent_link;
mod operator;
mod operator_grpc;
mod routes;
mod scheduler_grpc;
mod scheduler_http;

use std::sync::Arc;

use mezzo_proto::v1;
use mezzo_telemetry::Metrics;

use crate::handle::Handle;
use crate::view::View;

pub(crate) use operator::MESOS_VERSION;
pub(crate) use routes::router;

/// Largest body of a request, and largest gRPC message, in bytes: an ACCEPT of some ten thousand
/// tasks.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) handle: Handle,
    pub(crate) view: View,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) master_info: Arc<v1::MasterInfo>,
    /// Wall-clock seconds at the start, and when the lead was taken.
    pub(crate) start_time: f64,
    pub(crate) elected_time: f64,
}
