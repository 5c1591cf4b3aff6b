//! Simulation, tier one: the real cores of master, allocator and agent with their status updates, in a
//! world made of models, where time is virtual and everything random grows from one seed.
//!
//! | module | what lives there |
//! |---|---|
//! | `run` | one run: faults, then none; [`run()`], [`Outcome`] |
//! | `world` | who is in it, and the handling of one happening after the other |
//! | `setting` | what a seed makes of machines and frameworks |
//! | `master`, `agent` | the processes around the cores, with the real shells' outboxes |
//! | `log`, `store` | disks as models: what a crash leaves, what a loss of power leaves |
//! | `host` | containers that outlive their agent |
//! | `volumes` | directories of persistent volumes, which outlive everything on a host |
//! | `network` | connections with delays, breaks and half-broken ones |
//! | `framework` | frameworks: greedy, slow, crashing, lying |
//! | `faults` | what goes wrong |
//! | `fact` | what the invariants get to see |
//! | `invariants` | one file for each invariant of the design |
//! | `trace` | the story of a run |
//!
//! `docs/simulation.md` tells how to run and replay it, and how to add to it.

mod agent;
#[path = "../../../agent/src/outbox.rs"]
mod agent_outbox;
mod describe;
pub mod fact;
mod faults;
mod framework;
mod host;
pub mod invariants;
mod log;
mod master;
mod network;
#[path = "../../../master/src/outbox.rs"]
mod outbox;
mod queue;
pub mod rng;
mod run;
mod setting;
mod store;
mod trace;
mod volumes;
mod world;

pub use host::Behaviour;
pub use invariants::Failure;
pub use run::{Outcome, STEPS, run};
pub use store::Records;
pub use trace::{TAIL, Trace};
pub use world::World;
