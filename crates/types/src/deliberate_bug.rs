//! Mistakes that the simulation's tests switch on, one at a time, to see that they are found.
//!
//! Only with the feature `deliberate-bugs`, which no product crate asks for; without it [`is_on`] is
//! `false` at compile time and nothing is left of the mistakes. With it a mistake still needs to be
//! switched on, for one thread, from within the process.

/// A mistake, named after what it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Allocator: what runs on an agent that registers is not counted.
    AllocatorForgetsUse,
    /// Allocator: refusals never end.
    AllocatorKeepsFilters,
    /// Allocator: what is reserved for a role is offered to every role.
    AllocatorIgnoresReservations,
    /// Master: a launch leaves before its placement is committed.
    MasterLaunchesEarly,
    /// Master: an agent may forget an ending that the ledger still places.
    MasterAcknowledgesEarly,
    /// Master: an update is acknowledged to the agent when it is forwarded, not when it was read.
    MasterAcknowledgesUnread,
    /// Master: a launch that never reached its agent is not missed.
    MasterMissesNoLaunch,
    /// Master: an agent that has seen a later leader is admitted.
    MasterAdmitsLaterTerms,
    /// Master: the kills that were ordered while an agent was away are forgotten.
    MasterForgetsKills,
    /// Master: the tasks of a framework that is removed are not ended.
    MasterLeavesOrphans,
    /// Master: a framework is subscribed before the log knows it.
    MasterSubscribesEarly,
    /// Agent: updates that wait are not taken up again after a restart.
    AgentForgetsUpdates,
    /// Agent: containers that run are taken for strangers after a restart.
    AgentDestroysStrangers,
    /// Agent: a launch is not written down before it is carried out.
    AgentLaunchesUnwritten,
    /// Agent: a volume's data goes before it is written down that the volume was destroyed.
    AgentRemovesEarly,
    /// Agent: records of an earlier boot are believed.
    AgentIgnoresReboots,
    /// Updates: the newest is sent first.
    UpdatesOutOfOrder,
    /// Updates: what was in flight is not sent again after a reconnection.
    UpdatesNotResent,
}

#[cfg(feature = "deliberate-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether the mistake is made on this thread.
    pub fn is_on(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }

    /// Makes this mistake, and no other, on this thread from now on.
    pub fn switch(bug: Option<Bug>) {
        ON.set(bug);
    }
}

#[cfg(feature = "deliberate-bugs")]
pub use switch::{is_on, switch};

/// Whether the mistake is made: never.
#[cfg(not(feature = "deliberate-bugs"))]
#[inline(always)]
pub const fn is_on(_bug: Bug) -> bool {
    false
}
