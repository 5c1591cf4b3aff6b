//! The agent's state machine, without I/O.
//!
//! The shell (`mezzo-agent`) turns what arrives from the master and from the containers into an
//! [`Input`], hands it to [`Core::handle`] with the time, and carries out every [`Effect`] that
//! [`Core::poll_effect`] returns. Nothing in here reads a clock, draws a random number or waits.
//!
//! | module | what lives there |
//! |---|---|
//! | `core` | [`Core`]: dispatch, timers, effects |
//! | `link` | registration with the master, fencing by term |
//! | `launch` | orders to run a task, each taken once |
//! | `operation`, `waiting` | operations on resources, and orders that wait for one |
//! | `kill` | kills, their grace period and what follows it; shutdown of a framework |
//! | `executor` | executors of frameworks, from the first task to their end |
//! | `leave` | leaving the cluster for good |
//! | `compatibility` | what an agent may change of itself and still be the same |
//! | `checks` | health checks and checks of command tasks |
//! | `container` | what containers report |
//! | `ending` | how a task ended, in Mesos' states, reasons and sentences |
//! | `updates` | status updates on their way to the master |
//! | `recovery` | the plan of a start: records and what was found on the host |
//! | `record` | what is written down |
//! | `collection` | which sandboxes of ended runs have had their time |
//! | `invariants` | what must hold after every input |
//!
//! # A task's life
//!
//! ```text
//!  RunTask ─► Launching ──Started──► Running ──Exited──► Ended ──acknowledged──► forgotten
//!                 │                     │                  ▲
//!                 ├─LaunchFailed────────┼──────────────────┤
//!                 └─KillTask─► Destroy  └─KillTask─► Signal, grace period, Destroy
//! ```
//!
//! A command task has no executor process: the agent speaks for it (executor id = task id, source
//! `SOURCE_EXECUTOR`), and by `SOURCE_AGENT` where Mesos' agent would. Tasks of an executor: see `executor`.
//!
//! # Durability
//!
//! Every [`Effect::Persist`] has a [`Position`](mezzo_types::Position), counted from 1. What depends
//! on it carries that position as `after` and is carried out once it is durable, in order: a task is
//! written down before it is launched, an update before it is sent.

mod checks;
mod collection;
mod compatibility;
mod config;
mod container;
mod core;
mod drain;
mod effect;
mod ending;
mod executor;
mod input;
mod invariants;
mod kill;
mod launch;
mod leave;
mod link;
mod operation;
mod record;
mod recovery;
mod statistics;
mod status;
mod task;
mod timers;
mod updates;
mod waiting;

#[cfg(test)]
mod tests;

pub use crate::core::Core;
pub use checks::{CheckKind, CheckOutcome, Probe};
pub use collection::{Collection, Retention};
pub use compatibility::RecoverError;
pub use config::{
    Config, DEFAULT_EXECUTOR_REGISTRATION_TIMEOUT, DEFAULT_EXECUTOR_REREGISTRATION_TIMEOUT,
    DEFAULT_EXECUTOR_SHUTDOWN_GRACE, DEFAULT_KILL_GRACE, ReconfigurationPolicy,
};
pub use effect::{
    Change, Effect, ExecutorAnswer, ExecutorEvent, ExecutorView, Launch, Persist, TaskForExecutor,
    TaskStage, TaskView, ViewChange, Workload,
};
pub use ending::signal_name;
pub use executor::{ExecutorPhase, ExecutorRefusal, validate_call};
pub use input::{Ending, ExecutorStreamId, Input, Limitation, LinkId, RequestId};
pub use invariants::Violation;
pub use recovery::{Checkpoint, Observed};
pub use statistics::Statistics;
