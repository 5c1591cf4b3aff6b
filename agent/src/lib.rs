//! The agent of a Mezzo cluster: a machine's containers, and their word to the master.
//!
//! [`run`] is the whole of it: it starts in order, feeds the core (`mezzo-agent-core`) with what the master
//! and the containers say, and carries out what the core orders.
//!
//! - `flags`, `start`, `machine`: what an operator sets, and the way to a running agent.
//! - `agent`: the loop; `outbox`: what waits for a record; `checkpoint`: the records; `marker`: whose containers these are; `repair`: a
//!   sound store out of a damaged one.
//! - `link`: the stream to the master. `executors`: those to executors.
//! - `launch_times`: how long launches take, for `metrics`.
//! - `api`: HTTP and gRPC on one port, answered from `view` and `metrics`.
//! - [`cgroups`]: control groups of v1-hybrid and pure v2 machines behind one facade.
//! - [`accounts`]: what the kernel counts and guards by eBPF.
//! - [`isolators`]: what a container may use, composed by `--isolation`.
//! - [`gpus`]: which GPUs there are, and which container has which.
//! - [`fetcher`]: a task's files, fetched and unpacked into its sandbox.
//! - [`sandbox`]: a run's directory and its `stdout` and `stderr`, from its making to its removal.
//! - `checks`: looks at tasks for their checks, from inside their containers.
//! - `volumes`: directories of persistent volumes, which outlive all that.
//! - [`containerizer`]: the road of one container, from its sandbox to its removal.

pub mod accounts;
mod agent;
mod api;
pub mod cgroups;
mod checkpoint;
mod checks;
mod clock;
pub mod containerizer;
mod device_node;
mod executors;
pub mod fetcher;
mod flags;
pub mod gpus;
pub mod isolators;
mod launch_times;
mod link;
mod machine;
mod marker;
mod meter;
mod metrics;
mod outbox;
mod repair;
pub mod sandbox;
mod start;
mod view;
mod volumes;

pub use agent::Shutdown;
pub use api::{RoutesError, mode_text};
pub use checkpoint::CheckpointError;
pub use flags::Flags;
pub use link::MasterAddressError;
pub use machine::ResourcesError;
pub use marker::MarkerError;
pub use repair::repair;
pub use start::{AgentError, run};
