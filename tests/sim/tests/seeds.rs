//! Seeds that every change must pass: the first ones, always the same, and fresh ones, so that CI looks
//! where nobody has looked before.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mezzo_tests_sim::{STEPS, invariants::deterministic, run};

/// Seeds that are the same in every run.
const FIXED: u64 = 300;
/// Fresh seeds are tried for so long, but no more than so many.
const FRESH_TIME: Duration = Duration::from_secs(40);
const FRESH: u64 = 500;

fn green(seed: u64) {
    if let Some(report) = run(seed, STEPS, false).report() {
        panic!("{report}");
    }
}

#[test]
fn fixed_seeds_are_green() {
    (0..FIXED).for_each(green);
}

#[test]
fn fresh_seeds_are_green() {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    // Short enough to be typed again, and apart from the fixed ones.
    let first = 1_000_000 + (nanos / 1_000_000 % 1_000_000_000) as u64;
    let begin = Instant::now();
    println!("fresh seeds from {first} on");
    let tried = (first..first + FRESH).take_while(|_| begin.elapsed() < FRESH_TIME);
    let count = tried.map(green).count();
    println!("{count} fresh seeds were green");
    assert!(count > 0, "no seed was tried within {FRESH_TIME:?}");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..10 {
        deterministic::check(seed, STEPS).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

/// Runs that meet nothing would be green for ever.
#[test]
fn runs_are_worth_watching() {
    let runs = Vec::from_iter((0..60).map(|seed| run(seed, STEPS, true)));
    let launches = runs.iter().map(|run| run.launches).sum::<u64>();
    assert!(launches > 200, "only {launches} launches in {} runs", runs.len());
    let stories = runs.iter().filter_map(|run| run.trace.all()).collect::<String>();
    let expected = [
        "FINISHED",
        "KILLED",
        "DROPPED",
        "GONE",
        "UNREACHABLE",
        "LOST",
        "loses power",
        "fault: MasterDeposed",
        "ShutdownFramework",
        "Refused",
        "Unregister",
        "RESCIND",
        "OPERATION_FINISHED",
        "OPERATION_FAILED",
        "GONE_BY_OPERATOR",
        "fault: AgentGrows",
        "fault: AgentDiskFull",
        "fault: MasterDiskFull",
    ];
    for word in expected {
        assert!(stories.contains(word), "no run tells of {word}");
    }
}
