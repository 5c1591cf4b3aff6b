//! `cargo xtask sim`: the simulation, by seed.

use std::process::Command;

use anyhow::Result;

use crate::cargo;

/// # Errors
/// When building fails, or a run breaks an invariant.
pub fn run(seed: u64, count: u64, steps: Option<u64>, trace: bool) -> Result<()> {
    // Of the whole workspace, so that it shares what the tests have built; only pure crates are.
    let arguments = ["build", "--quiet", "--workspace", "--bin", "mezzo-sim", "--locked"];
    cargo::run(cargo::command(arguments))?;
    let mut program = Command::new(cargo::binaries()?.join("mezzo-sim"));
    program.arg("--seed").arg(seed.to_string()).arg("--count").arg(count.to_string());
    if let Some(steps) = steps {
        program.arg("--steps").arg(steps.to_string());
    }
    if trace {
        program.arg("--trace");
    }
    cargo::run(program)
}
