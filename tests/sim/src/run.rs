//! One run: first faults, then none, when everything must come to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::invariants::Failure;
use crate::trace::Trace;
use crate::world::{MS, World};

/// Faults in a run, unless somebody says otherwise.
pub const STEPS: u64 = 300;

/// Virtual time in which everything must have come to its end after the last fault: more than the
/// longest of all timeouts, the ten minutes between two sendings of an update and those that a
/// framework has to come back, together.
const SETTLES_WITHIN_NS: u64 = 3_600_000 * MS;

/// How often it is looked at.
const LOOKED_AT_NS: u64 = 2_000 * MS;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub steps: u64,
    pub failure: Option<Failure>,
    pub trace: Trace,
    /// What it was like, for whoever wonders whether a run does anything at all.
    pub launches: u64,
    pub virtual_ms: u64,
}

impl Outcome {
    /// The command that repeats the run.
    pub fn replay(&self) -> String {
        format!("cargo xtask sim --seed {} --steps {}", self.seed, self.steps)
    }

    /// What to tell of a failed run: the invariant, the end of the story, how to see it again.
    pub fn report(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let mut text = String::new();
        for line in self.trace.tail() {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&format!(
            "seed {}: invariant `{}` is broken: {}\nreplay: {}\n",
            self.seed,
            failure.name,
            failure.detail,
            self.replay()
        ));
        Some(text)
    }
}

/// Runs `seed` with `steps` faults.
pub fn run(seed: u64, steps: u64, keep_trace: bool) -> Outcome {
    let mut world = World::new(seed, steps, keep_trace);
    let story = catch_unwind(AssertUnwindSafe(|| {
        while !world.faults.over() && world.step() {}
        if world.watch.failure().is_none() {
            world.heal();
            settle(&mut world);
        }
    }));
    if let Err(panic) = story {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        world.watch.fail("no-panic", text.unwrap_or("a core panicked").to_owned());
    }
    let launches = world.frameworks.iter().map(|framework| framework.next_task).sum();
    Outcome {
        seed,
        steps,
        failure: world.watch.take_failure(),
        virtual_ms: world.now_ns / MS,
        trace: world.trace,
        launches,
    }
}

fn settle(world: &mut World) {
    let end = world.now_ns + SETTLES_WITHIN_NS;
    let mut look = world.declines_until + LOOKED_AT_NS;
    while world.step() {
        if world.now_ns < look {
            continue;
        }
        look = world.now_ns + LOOKED_AT_NS;
        let watch = std::mem::take(&mut world.watch);
        let settled = watch.settled(world);
        world.watch = watch;
        match settled {
            Ok(()) => return,
            Err(failure) if world.now_ns >= end => {
                world.watch.fail(failure.name, format!("does not settle: {}", failure.detail));
                return;
            }
            Err(_) => {}
        }
    }
}
