//! Everything the agent answers on its one port: HTTP/1.1 for Mesos' tools, gRPC for new ones.

mod browse;
mod encoding;
mod executor;
mod executor_grpc;
mod executor_http;
mod executor_service;
mod files;
mod operator;
mod operator_grpc;
mod routes;
mod source;
mod state;
mod statistics;
mod virtual_path;

use mezzo_http_server::{Budget, Limits};
use mezzo_proto::v1;
use mezzo_store::Store;
use mezzo_telemetry::Metrics;

pub use browse::mode_text;
pub(crate) use files::Files;
pub use routes::RoutesError;
pub(crate) use routes::router;

use crate::executors::ExecutorHandle;
use crate::meter::Meter;
use crate::view::View;

/// Largest body of a request, in bytes. No call of the agent's API is large.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Largest call of an executor, in bytes: SUBSCRIBE names every task that it holds, with its data.
pub(crate) const MAX_EXECUTOR_BYTES: usize = 64 * 1024 * 1024;

/// The Mesos release whose v1 API is served; clients of Mesos decide by it.
pub(crate) const MESOS_VERSION: &str = "1.11.0";

/// What handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) view: View,
    pub(crate) meter: Meter,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    /// Memory that large requests and answers share.
    pub(crate) budget: Budget,
    pub(crate) files: Files,
    pub(crate) executors: ExecutorHandle,
    /// Asked for its room only.
    pub(crate) store: Store,
    /// Name and value of every flag that is set.
    pub(crate) flags: Vec<v1::Flag>,
    /// Wall-clock seconds at the start.
    pub(crate) start_time: f64,
}
