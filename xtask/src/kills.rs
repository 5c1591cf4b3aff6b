//! `cargo xtask kills`: builds everything, fault points included, and lets the harness loose.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, host};

/// What the harness needs of the optimised programs; it brings their fault points.
const RELEASED: &[&str] = &["mezzo-tests-kills", "mezzo", "mezzo-agent-launcher"];

/// Who is killed how often.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Of the schedule and the load [default: a fresh one, printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// So many processes are killed
    #[arg(long, default_value_t = 1000)]
    pub kills: u32,
    /// Print each strike
    #[arg(long)]
    pub verbose: bool,
    /// Keep logs, journal and witness after a failure, in this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub keep: Option<PathBuf>,
    /// Of the programs as they are packaged, not of those that the tests have built
    #[arg(long)]
    pub release: bool,
}

/// # Errors
/// When building fails, or a promise was broken.
pub fn run(options: &Options) -> Result<()> {
    host::prepare_to_test()?;
    // The whole workspace: only so do the daemons get their fault points. As `cargo xtask test` builds it,
    // which leaves nothing to do here.
    let binaries = if options.release {
        let mut build = cargo::command(["build", "--locked", "--release"]);
        build.args(RELEASED.iter().flat_map(|package| ["--package", package]));
        cargo::run(build)?;
        cargo::released()?
    } else {
        cargo::run(cargo::command(["build", "--workspace", "--all-targets"]))?;
        cargo::binaries()?
    };
    let mut harness = Command::new(binaries.join("mezzo-kills"));
    harness.args(["--kills", &options.kills.to_string()]);
    if let Some(seed) = options.seed {
        harness.args(["--seed", &seed.to_string()]);
    }
    if options.verbose {
        harness.arg("--verbose");
    }
    if let Some(keep) = &options.keep {
        harness.arg("--keep").arg(keep);
    }
    cargo::run(harness)
}
