//! Clients for people and tools: questions and orders outside of any framework.

mod agent;
mod file_reader;
mod location;
mod master;
mod watch;

use std::time::Duration;

use crate::v1;

pub use crate::operator::agent::Agent;
pub use crate::operator::file_reader::{FileReader, FileRequest};
pub use crate::operator::location::agent_addresses;
pub use crate::operator::master::Master;
pub use crate::operator::watch::{ClusterEvent, ClusterEvents};

/// Where servers take calls of the operator API over HTTP.
const OPERATOR_PATH: &str = "/api/v1";

/// As messages that Mesos defined hold a time, cut at what they can hold.
fn nanoseconds(duration: Duration) -> v1::DurationInfo {
    v1::DurationInfo { nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
}

/// As later messages hold it, which is the way of protobuf.
fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    // Below a thousand million, so it fits.
    let nanos = i32::try_from(duration.subsec_nanos()).unwrap_or_default();
    prost_types::Duration { seconds, nanos }
}
