//! Everything the agent answers on its one port: HTTP/1.1 for Mesos' tools, gRPC for new ones.

mod browse;
mod encoding;
mod executor;
mod executor_grpc;
mod executor_http;
mod executor_service;
mod files;
mod logging;
mod mime;
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
    /// Where the master is, as `--master` names it.
    pub(crate) master_hostname: String,
    /// Name and value of every flag that is set.
    pub(crate) flags: Vec<v1::Flag>,
    /// Wall-clock seconds at the start.
    pub(crate) start_time: f64,
}

#[cfg(test)]
impl Context {
    /// Of an agent that shows `view`, and has no containers. To be called within a runtime.
    fn idle(view: View) -> Self {
        let nowhere = std::path::Path::new("/nonexistent");
        let files = Files::new(view.clone(), nowhere, Default::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let layout = mezzo_store::Layout::new("agent", 1, []);
        Context {
            view,
            meter: Meter::idle(),
            metrics: Metrics::new(),
            limits: Limits::new(8),
            budget: Budget::new(1 << 20),
            files,
            executors: ExecutorHandle::new().0,
            store: Store::open(dir.path(), &layout).unwrap(),
            master_hostname: "master.example".to_owned(),
            flags: Vec::new(),
            start_time: 12.5,
        }
    }
}
