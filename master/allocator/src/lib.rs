//! Who is offered what.
//!
//! The master tells an [`Allocator`] about frameworks, agents, freed resources, refusals, weights
//! and quotas; the allocator answers with [`Allocation`]s, which the master turns into offers. It
//! knows nothing of tasks, offers or the network, reads no clock and draws no random number: the
//! same calls give the same answers, always.
//!
//! # Map
//! - `allocator`: the trait, what goes in and what comes out.
//! - `drf`: the implementation that ships, hierarchical weighted dominant resource fairness.
//!   - `drf::share`: a dominant share as an integer that compares the same everywhere.
//!   - `drf::roles`: the tree of roles, siblings kept in the order in which they are served.
//!   - `drf::agents`: what each agent has, who holds it, what is left.
//!   - `drf::filters`: what was refused and until when.
//!   - `drf::quotas`: limits and guarantees of top-level roles.
//!   - `drf::pass`: one allocation pass over the agents that events marked.
//!   - `drf::check`: the books against each other.
//!
//! # What the master relies on
//! 1. What `allocate` returns counts as allocated from that moment, until `recover` gives it back.
//! 2. Per agent, allocated never exceeds total (`no-double-offer`).
//! 3. Work is proportional to what changed: an event marks the agents that it concerns, and only
//!    marked agents are looked at.
//! 4. `poll_timeout` says when `allocate` is worth calling; the first event after a quiet time
//!    says "now", later ones at most [`AllocatorConfig::coalesce`] after the pass before.

mod allocator;
mod drf;

pub use allocator::{
    AgentOptions, Allocation, Allocator, AllocatorConfig, Capabilities, FrameworkOptions,
    MAXIMUM_REFUSAL, Quota, Violation,
};
pub use drf::DrfAllocator;
