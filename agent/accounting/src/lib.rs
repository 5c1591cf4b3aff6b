//! The kernel keeps the books of tasks, and guards ports and devices.
//!
//! A fixed set of eBPF programs (`agent-ebpf`) is attached once, at the agent's cgroup in the v2 tree and at a few
//! tracepoints of the kernel. A task costs entries in maps: [`Accounting::admit`] before its first instruction,
//! [`Accounting::remove`] after its last. Programs and maps are pinned in a bpffs, so that counting and refusing go on
//! while the agent is away; the next one takes them over.
//!
//! - [`Options`], [`Accounting::open`], [`State`]: begin, or go on where another agent left off;
//! - [`TaskId`], [`Grant`]: what a task may;
//! - [`Accounting::snapshot`], [`Accounting::usage`], [`Usage`]: what it has used;
//! - [`Events`]: refusals, out-of-memory kills, and ends of first processes, as they happen.
//!
//! What does not work on a host is left out, each [`Feature`] by itself, with a sentence that says why and what takes
//! its place.

mod about;
mod accounting;
mod error;
mod events;
mod feature;
mod grant;
mod host;
mod kernel_types;
mod load;
mod maps;
mod object;
mod offsets;
mod pins;
mod usage;

pub use accounting::{Accounting, Admission, CAPACITY, Options, discard, discard_orphans};
pub use error::{AdmitError, OpenError, ReadError};
pub use events::{Denial, Event, Events, Happening, Lost, Transport};
pub use feature::{Feature, State, Status, TakeOver};
pub use grant::{Access, Device, DeviceKind, Devices, Grant, PortPolicy, PortRule, SAFE_DEVICES};
pub use host::{TaskId, is_bpffs, mount_bpffs};
pub use mezzo_agent_ebpf_common::{Counters, DELAY_BUCKETS, Delays, Flow, Flows};
pub use object::Object;
pub use usage::{Usage, delay_bound_ns};
