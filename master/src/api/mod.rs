//! Everything the master answers on its one port: HTTP/1.1 for Mesos clients, gRPC for new ones.
//! The handlers translate; what a call means is decided in the core, whatever way it came.

mod agent_link;
mod endpoints;
mod files;
mod form;
mod legacy_orders;
mod operator;
mod operator_grpc;
mod operator_service;
mod readers;
mod reads;
mod reservations;
mod routes;
mod scheduler_grpc;
mod scheduler_http;
mod scheduler_service;

use std::sync::Arc;

use mezzo_http_server::{Budget, Limits};
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::Call;
use mezzo_store::{Shortage, Store};
use mezzo_telemetry::Metrics;

use crate::decisions::Decisions;
use crate::handle::Handle;
use crate::view::MasterFacts;

pub(crate) use operator::MESOS_VERSION;
pub(crate) use readers::Readers;
pub(crate) use routes::router;
pub(crate) use scheduler_http::Encoding;

/// Largest body of a request, and largest gRPC message, in bytes: an ACCEPT of some ten thousand
/// tasks.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) handle: Handle,
    pub(crate) readers: Readers,
    /// What operators decided.
    pub(crate) decisions: Decisions,
    pub(crate) metrics: Arc<Metrics>,
    /// Asked for its room only.
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    /// Memory that large requests and answers share.
    pub(crate) budget: Budget,
    pub(crate) master_info: Arc<v1::MasterInfo>,
    /// What `/state` tells of this master.
    pub(crate) master_facts: Arc<MasterFacts>,
    /// Wall-clock seconds at the start, and when the lead was taken.
    pub(crate) start_time: f64,
    pub(crate) elected_time: f64,
    /// Name and value of every flag that is set.
    pub(crate) flags: Arc<Vec<v1::Flag>>,
}

impl Context {
    /// A framework that is not known yet has to be written down: refused while there is no room for that.
    fn may_subscribe(&self, call: &Call) -> Result<(), Shortage> {
        let info = call.subscribe.as_ref().map(|subscribe| &subscribe.framework_info);
        match info.is_none_or(|info| info.id.is_none()) {
            true => self.store.check_room(),
            false => Ok(()),
        }
    }
}
