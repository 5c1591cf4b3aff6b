//! `cargo xtask kills`: builds everything, fault points included, and lets the harness loose.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, host};

/// # Errors
/// When building fails, or a promise was broken.
pub fn run(seed: Option<u64>, kills: u32, verbose: bool, keep: Option<&Path>) -> Result<()> {
    host::prepare_to_test()?;
    // The whole workspace: only so do the daemons get their fault points. As `cargo xtask test` builds it,
    // which leaves nothing to do here.
    cargo::run(cargo::command(["build", "--workspace", "--all-targets"]))?;
    let mut harness = Command::new(cargo::binaries()?.join("mezzo-kills"));
    harness.args(["--kills", &kills.to_string()]);
    if let Some(seed) = seed {
        harness.args(["--seed", &seed.to_string()]);
    }
    if verbose {
        harness.arg("--verbose");
    }
    if let Some(keep) = keep {
        harness.arg("--keep").arg(keep);
    }
    cargo::run(harness)
}
