//! The master's state machine, without I/O.
//!
//! The shell (`mezzo-master`) turns what arrives on sockets into an [`Input`], hands it to
//! [`Master::handle`] with the time, and carries out every [`Effect`] that [`Master::poll_effect`]
//! returns. Nothing in here reads a clock, draws a random number or waits.
//!
//! | module | what lives there |
//! |---|---|
//! | `master` | [`Master`]: dispatch, timers, effects |
//! | `subscribe`, `offers`, `accept`, `calls`, `updates`, `reconcile` | what each scheduler call does |
//! | `executor` | executors: what they hold, their messages, their end |
//! | `operations` | reservations and volumes, from the order to the acknowledged ending |
//! | `throttle` | how fast calls are carried out |
//! | `links` | agents that come, go silent and come back |
//! | `order` | what operators decide: `weights`, `quota`, `maintenance` with `inverse_offers`, `drain` |
//! | `registry` | the replicated state: commands and their deterministic application |
//! | `validation` | what a user can get wrong, and the sentence that says so |
//! | `status` | status updates that the master itself makes |
//! | `invariants` | what must hold after every input |
//!
//! Durability: every [`Effect::Persist`] has a [`Position`](mezzo_types::Position), counted from 1.
//! A message that promises something carries the position it depends on and leaves only once that
//! position is committed; the shell keeps messages to one destination in order.

mod accept;
mod agent;
mod calls;
mod config;
mod drain;
mod effect;
mod executor;
mod framework;
mod input;
mod invariants;
mod inverse_offers;
mod links;
mod maintenance;
mod master;
mod offers;
mod operation;
mod operations;
mod operator;
mod order;
mod quota;
mod reconcile;
mod registry;
mod statistics;
mod status;
mod subscribe;
mod task;
mod throttle;
mod timers;
mod updates;
pub mod validation;
mod weights;

#[cfg(test)]
mod tests;

pub use config::{Config, RateLimit};
pub use effect::{AgentState, Answer, Effect, OfferNews, Refusal, TaskNews, ViewChange};
pub use input::{Input, LinkId, RequestId, StreamId};
pub use invariants::Violation;
pub use master::Master;
pub use order::Order;
pub use registry::{Registry, is_default_weight, is_no_quota};
pub use statistics::{
    AgentMessages, CALL_TYPES, Count, EVENT_TYPES, Ending, FrameworkCounts, MessageCounts,
    OPERATION_STATES, OPERATION_TYPES, OperationCounts, Statistics,
};
pub use throttle::{CallRate, CallRates, WAITING_MAX};
