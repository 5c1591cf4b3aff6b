//! `deterministic`: same inputs, same seed, same outputs, for every core.

use crate::run::run;

/// Runs a seed twice and compares the whole stories.
///
/// # Errors
/// The first line that differs.
pub fn check(seed: u64, steps: u64) -> Result<(), String> {
    let stories = [(); 2].map(|()| run(seed, steps, true));
    let [first, second] = &stories;
    let lines = |index: usize| stories[index].trace.all().unwrap_or_default();
    if lines(0) == lines(1) && first.trace.hash() == second.trace.hash() {
        return Ok(());
    }
    let differs = lines(0).lines().zip(lines(1).lines()).find(|(a, b)| a != b);
    Err(match differs {
        Some((a, b)) => format!("seed {seed}: `{a}` the first time, `{b}` the second"),
        None => format!("seed {seed}: one story is longer than the other"),
    })
}
