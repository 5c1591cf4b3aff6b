//! Every message that leaves a Mezzo process, and the two encodings it may leave in.
//!
//! * [`v1`] is Mesos' v1 API: names, numbers and types are those of Mesos, so a client written for
//!   Mesos talks to Mezzo unchanged. Each endpoint has a module of its own ([`v1::scheduler`],
//!   [`v1::master`], [`v1::agent`], …); what they share lies in [`v1`] itself.
//! * [`internal`] is what Mezzo's processes say to one another, [`storage`] what they write down.
//!   Neither is an interface for others.
//! * [`json`] is Mesos' JSON mapping, [`decode_checked`] the protobuf one with the check for required
//!   fields that prost leaves out, [`raw`] finds what must be passed on byte for byte, and
//!   [`recordio`] frames messages on a stream.
//!
//! The feature `grpc` adds the generated clients and servers. Without it the crate does no I/O
//! and needs no runtime, which is why the sans-IO cores may depend on it.

#[cfg(feature = "grpc")]
pub mod grpc;
pub mod json;
pub mod raw;
pub mod recordio;
mod required;
mod wire;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod roundtrip;

pub use required::{DecodeError, MAX_DECODED_BYTES, Required, decode_checked, decoded_size};

/// How deeply messages may nest in what is read, JSON or protobuf. The v1 API itself needs about a
/// dozen levels; nested container ids need one each.
pub const MAX_DEPTH: usize = 64;

/// Descriptors of every message and service, an encoded `google.protobuf.FileDescriptorSet`, for
/// gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Mesos' v1 API: the common types and, per module, the calls and events of each endpoint.
#[allow(
    clippy::allow_attributes_without_reason,
    reason = "generated code silences lints without saying why"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/mezzo.v1.rs"));

    /// Operator API of the agent.
    pub mod agent {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.agent.rs"));
    }
    /// How frameworks answered inverse offers.
    pub mod allocator {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.allocator.rs"));
    }
    /// What an executor and its agent say to each other.
    pub mod executor {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.executor.rs"));
    }
    /// Maintenance schedules.
    pub mod maintenance {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.maintenance.rs"));
    }
    /// Operator API of the master.
    pub mod master {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.master.rs"));
    }
    /// Quota of roles.
    pub mod quota {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.quota.rs"));
    }
    /// What a resource provider and its agent say to each other.
    pub mod resource_provider {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.resource_provider.rs"));
    }
    /// What a framework and the master say to each other.
    pub mod scheduler {
        include!(concat!(env!("OUT_DIR"), "/mezzo.v1.scheduler.rs"));
    }
}

/// Protocols between Mezzo's own processes; they change with the release.
#[allow(
    clippy::allow_attributes_without_reason,
    reason = "generated code silences lints without saying why"
)]
pub mod internal {
    /// The link between an agent and the leading master.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mezzo.internal.v1.rs"));
    }
}

/// Records in the replicated log and in the stores; their field numbers are for ever.
#[allow(
    clippy::allow_attributes_without_reason,
    reason = "generated code silences lints without saying why"
)]
pub mod storage {
    /// First and so far only layout.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mezzo.storage.v1.rs"));
    }
}
