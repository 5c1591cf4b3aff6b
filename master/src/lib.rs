//! The master: one loop around the sans-IO core, the replicated log, and the sockets.
//!
//! | module | what lives there |
//! |---|---|
//! | `flags` | what an operator sets |
//! | `master` | [`run`]: start-up in order, serving, shutdown |
//! | `rate_limits` | the JSON of `--rate-limits` |
//! | `leader` | the loop: inputs in, effects out |
//! | `outbox` | messages that wait for a commit |
//! | `queue` | messages that wait for a peer |
//! | `handle` | how connections reach the loop |
//! | `view` | the copy of the state that readers see |
//! | `registry_store` | the replicated state, key by key on disk |
//! | `repair` | a sound store out of a damaged one |
//! | `api` | HTTP and gRPC, one port |
//! | `metrics` | the core's statistics under Mesos' names |

mod api;
mod clock;
mod flags;
mod handle;
mod leader;
mod log;
mod master;
mod metrics;
mod outbox;
mod queue;
mod rate_limits;
mod registry_store;
mod repair;
mod streams;
mod view;

pub use flags::Flags;
pub use master::{MasterError, run};
pub use repair::repair;
