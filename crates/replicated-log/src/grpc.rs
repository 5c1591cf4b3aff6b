//! The transport over gRPC.
//!
//! Every node dials every other one and keeps one stream open to it, on which its messages flow; the streams that the others
//! have opened bring theirs. The caller passes a channel's configuration for each node (address, TLS, timeouts) and serves
//! [`service`] on whatever server it has, so both ends are as secure as it makes them.
//!
//! A stream that breaks, and a new connection that is refused, mean that the process at the other end is gone: the log is told
//! at once ([`crate::Inbox::lost`]). A connection that only times out means nothing that the election timeout does not mean, too.
//!
//! Map: `hello` (who may speak to whom), `peers` (dialling), `service` (being dialled).

mod hello;
mod peers;
mod service;

#[allow(
    clippy::allow_attributes_without_reason,
    reason = "generated code silences lints without saying why"
)]
mod proto {
    tonic::include_proto!("mezzo.replicated_log.v1");
}

pub use peers::Peers;
pub use service::service;

/// Most bytes of one message: what a round of proposals makes, or one payload of the largest size.
const MESSAGE_BYTES: usize = 64 << 20;
