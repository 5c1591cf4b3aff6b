//! The road of one container: sandbox, URIs, control groups with their limits, launch, watch, destruction.
//!
//! ```text
//!            launch                 destroy (in any state)
//!  (nothing) ──────▶ staging ─────────────┐
//!                      │ Prepared         │
//!                      ▼                  ▼
//!                   starting ─────▶ destroying ──▶ (nothing)
//!                      │ Started     ▲    Exited? Destroyed
//!                      ▼             │
//!                   running ──▶ ended┘
//!                     Limited? Exited
//! ```
//!
//! The containerizer carries out orders and reports what happens; it decides nothing. In particular it destroys only when told to,
//! also after an ending, a failed launch or a breach: [`ContainerEvent`] says what to expect. Containers are made by
//! `mezzo-launcher`, which outlives the agent; endings are told by it, or, for containers whose launcher died, by the
//! kernel (a pidfd) and the exit file that the container's init leaves.
//!
//! - [`Containerizer`]: the handle.
//! - [`ContainerizerConfig`]: where things are.
//! - [`LaunchSpec`], [`ContainerEvent`], [`Observed`]: what goes in and out.

mod command;
mod config;
mod destroy;
mod environment;
mod executor;
mod guard;
mod handle;
mod link;
mod process;
mod recover;
mod report;
mod run;
mod spec;
mod stage;
mod support;
mod update;
mod user;

#[cfg(test)]
mod tests;

pub(crate) use command::CommandLine;
pub use config::{ContainerizerConfig, StartError};
pub(crate) use environment::value_of;
pub use executor::ExecutorSettings;
pub use guard::DeviceGuard;
pub use handle::Containerizer;
pub use report::chain;
pub use spec::{Check, ContainerEvent, Ending, LaunchSpec, LaunchStage, Observed, Places};
pub use user::{User, UserError};
