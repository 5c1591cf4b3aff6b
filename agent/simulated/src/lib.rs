//! Agents by the thousand, to see what a master bears.
//!
//! Each is the real thing as far as a master can tell: the state machine of `mezzo-agent-core`, on a
//! stream of its own of the real protocol. What is simulated is the machine below it: nothing is
//! executed, a command "runs" from the moment of its launch for as long as its own words say
//! ([`Plan`]), and records are written nowhere, since a simulated machine never crashes.
//!
//! Many agents share one connection, and one task drives all that share it, so that an agent costs its
//! state and its stream, and no thread, no task and no descriptor of its own.
//!
//! | module | what lives there |
//! |---|---|
//! | `flags` | what the user says |
//! | `plan` | how long a command runs and how it ends, read from the command |
//! | `machine` | one agent: its core, and its commands as times |
//! | `outgoing` | messages of one agent that wait for its stream |
//! | `carrier` | one connection and the agents on it |
//! | `fleet` | all of them, from their start to the user's word |

mod carrier;
mod clock;
mod flags;
mod fleet;
mod machine;
mod outgoing;
mod plan;

pub use flags::Flags;
pub use fleet::{Fleet, FleetError};
pub use plan::Plan;
