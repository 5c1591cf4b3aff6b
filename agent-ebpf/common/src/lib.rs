//! What the agent and its eBPF programs share: the keys and values of maps, and the records of events.
//!
//! - [`Task`], [`Ports`], [`DeviceKey`]: what a task may, and what is known of it;
//! - [`Counters`], [`Delays`]: what the kernel has counted for it, one copy per processor;
//! - [`Event`]: what happened, once, in a ring buffer.
//!
//! A task is named by the id of its cgroup in the v2 tree: that of the ancestor one level below the agent's root,
//! so that a child cgroup that the task makes for itself changes nothing.
//!
//! Every record is `repr(C)`, has no padding, and is a multiple of 8 bytes long. Whoever changes one, or the meaning
//! of a field, raises [`LAYOUT`].
#![no_std]

mod counters;
mod device;
mod event;
mod ports;
mod task;

pub use counters::{Counters, DELAY_BUCKETS, Delays, Flow, Flows, delay_bucket};
pub use device::{ANY_MINOR, DeviceKey, EVERY_TASK, access, device_kind};
pub use event::{Event, denial, kind};
pub use ports::{Ports, policy};
pub use task::{About, DENIAL_BURST, DENIAL_INTERVAL_NS, Running, Settings, Task, UNKNOWN_PROCESS};

/// Version of all records together. Maps of different layouts are never shared.
pub const LAYOUT: u32 = 1;
