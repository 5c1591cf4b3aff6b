//! Each deliberate mistake is found within so many seeds, by the invariant that it breaks or by one
//! that breaks on the way; the same seeds are green without it.

use mezzo_tests_sim::{STEPS, run};
use mezzo_types::deliberate_bug::{Bug, switch};

/// Within so many seeds each mistake must show.
const SEEDS: u64 = 200;

/// The first seed that shows the mistake must be green without it.
fn check(bug: Bug) {
    switch(Some(bug));
    let found = (0..SEEDS).map(|seed| run(seed, STEPS, false)).find(|run| run.failure.is_some());
    switch(None);
    let found = found.unwrap_or_else(|| panic!("{bug:?} is not found within {SEEDS} seeds"));
    let failure = found.failure.as_ref().expect("it was found by its failure");
    println!("{bug:?}: seed {}, `{}`: {}", found.seed, failure.name, failure.detail);
    let sound = run(found.seed, STEPS, false);
    assert_eq!(sound.failure, None, "{}", sound.report().unwrap_or_default());
}

macro_rules! found {
    ($($test:ident: $bug:ident,)*) => {$(
        #[test]
        fn $test() {
            check(Bug::$bug);
        }
    )*};
}

found! {
    allocator_forgets_use: AllocatorForgetsUse,
    allocator_keeps_filters: AllocatorKeepsFilters,
    allocator_ignores_reservations: AllocatorIgnoresReservations,
    master_launches_early: MasterLaunchesEarly,
    master_acknowledges_early: MasterAcknowledgesEarly,
    master_acknowledges_unread: MasterAcknowledgesUnread,
    master_misses_no_launch: MasterMissesNoLaunch,
    master_admits_later_terms: MasterAdmitsLaterTerms,
    master_forgets_kills: MasterForgetsKills,
    master_leaves_orphans: MasterLeavesOrphans,
    master_subscribes_early: MasterSubscribesEarly,
    agent_forgets_updates: AgentForgetsUpdates,
    agent_destroys_strangers: AgentDestroysStrangers,
    agent_launches_unwritten: AgentLaunchesUnwritten,
    agent_removes_early: AgentRemovesEarly,
    agent_ignores_reboots: AgentIgnoresReboots,
    updates_out_of_order: UpdatesOutOfOrder,
    updates_not_resent: UpdatesNotResent,
}
