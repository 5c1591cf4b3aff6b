//! `mezzo stats TASK` and `mezzo top`: what running tasks use, as their agents measure it.

mod amount;
mod denial;
mod figures;
mod kernel;
mod screen;
mod stats;
mod survey;
mod top;

pub(crate) use stats::{StatsArguments, stats};
pub(crate) use top::{TopArguments, top};
