//! Every body that `cargo fuzz` runs, for some seconds each: the valid inputs, then the same inputs
//! damaged, first with a seed that never changes and then with one that is new each time.
//!
//! `MEZZO_FUZZ_SEED=… cargo test -p mezzo-tests --test fuzz` repeats a run; an input that fails is written to a file
//! that `cargo fuzz run TARGET FILE` takes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use mezzo_tests::fuzz::{Dice, TARGETS, Target, mutate};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs with the fixed seed, and time for those of the fresh one, per target.
const FIXED: usize = 2_000;
const FRESH: Duration = Duration::from_secs(3);

/// Memory that handling one input of up to 64 KiB may take. A message may take a thousand times the
/// bytes that it came in, two bytes being an empty element of a list, and bodies hold up to four.
const MEMORY_PER_BYTE: usize = 16 * 1024;
const MEMORY_ALWAYS: usize = 4 * 1024 * 1024;

/// Peaks are of the whole process: one target at a time, in one test.
#[test]
fn no_input_does_more_than_be_refused() {
    let fresh = match std::env::var("MEZZO_FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("MEZZO_FUZZ_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    println!("MEZZO_FUZZ_SEED={fresh}");
    // One round says everything.
    let failed: Vec<String> =
        TARGETS.iter().filter_map(|target| smoke(target, fresh).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn smoke(target: &Target, fresh: u64) -> Result<(), String> {
    let seeds = (target.seeds)();
    for seed in &seeds {
        run(target, seed)?;
    }
    let mut dice = Dice::new(1);
    for _ in 0..FIXED {
        run(target, &damaged(&seeds, &mut dice))?;
    }
    let (mut dice, end, mut count) = (Dice::new(fresh), Instant::now() + FRESH, 0);
    while Instant::now() < end {
        run(target, &damaged(&seeds, &mut dice))?;
        count += 1;
    }
    println!("{}: {} valid, {FIXED} fixed, {count} fresh inputs", target.name, seeds.len());
    Ok(())
}

fn damaged(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = seeds[dice.below(seeds.len())].clone();
    mutate(&mut input, seeds, dice);
    input
}

fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = catch_unwind(|| (target.body)(input));
    let peak = MEMORY.peak_usage().saturating_sub(before);
    let allowed = MEMORY_ALWAYS + MEMORY_PER_BYTE * input.len();
    let problem = match outcome {
        Ok(()) if peak <= allowed => return Ok(()),
        Ok(()) => format!("took {peak} bytes of memory, {allowed} are allowed"),
        Err(_) => "panicked".to_owned(),
    };
    let path = std::env::temp_dir().join(format!("mezzo-fuzz-{}", target.name));
    std::fs::write(&path, input).expect("the input is kept");
    let (name, length) = (target.name, input.len());
    Err(format!("{name} {problem} on {length} bytes, kept in {}", path.display()))
}
