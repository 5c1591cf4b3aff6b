//! A list of steps, each timed, with one summary at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Runs steps one after the other and remembers how each went.
#[derive(Default)]
pub struct Steps {
    done: Vec<(&'static str, Duration, Result<()>)>,
}

impl Steps {
    /// Runs a step whatever the earlier ones did: a badly formatted file hides no failing test.
    /// Whether it succeeded.
    pub fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {name}");
        let begin = Instant::now();
        let outcome = step();
        if let Err(error) = &outcome {
            eprintln!("error: {error:#}");
        }
        let succeeded = outcome.is_ok();
        self.done.push((name, begin.elapsed(), outcome));
        succeeded
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When a step failed; names all that did.
    pub fn finish(self) -> Result<()> {
        println!("\n== summary");
        for (name, took, outcome) in &self.done {
            let seconds = took.as_secs_f64();
            let mark = if outcome.is_ok() { "ok    " } else { "FAILED" };
            println!("{mark}  {seconds:>8.1} s  {name}");
        }
        let failed = self.done.iter().filter(|(_, _, outcome)| outcome.is_err());
        let failed = Vec::from_iter(failed.map(|(name, _, _)| *name));
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}
