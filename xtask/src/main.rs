//! `cargo xtask …`: the project's own commands.
//!
//! - `host`: what the machine must have, installed when missing.
//! - `cargo`: child `cargo` commands, all with the same environment.
//! - `ebpf`: the eBPF object, and whether the committed one is what its sources make.
//! - `law`: which crate may know which, checked from the dependency graph.
//! - `verify`: everything that reads the sources and runs none of them.
//! - `test`: what CI runs.
//! - `vm`: a virtual machine with Debian's stock kernel, and the tests that run in it.
//! - `demo`: a cluster of one machine, put through its paces.
//! - `sim`: the simulation, by seed.
//! - `kills`: `kill -9` of everything under load.
//! - `dist`: the Debian package.
//! - `bench`: the benches, and the page that is generated from what they say.

mod bench;
mod cargo;
mod demo;
mod dist;
mod ebpf;
mod host;
mod kills;
mod law;
mod sim;
mod steps;
mod test;
mod verify;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Build, test, measure and show Mezzo")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a master and an agent, show the main job on real tasks, clean up
    Demo,
    /// Everything that CI runs: verify, build, all tests
    Test {
        /// And the suite of the virtual machine (docs/vm.md)
        #[arg(long)]
        full: bool,
    },
    /// Boot Debian's stock kernel with pure cgroup v2, on this machine's files; run the suite, or a command (docs/vm.md)
    Vm {
        /// Run this, in the current directory, instead of the suite; ends with its code
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Formatting, lints, dependency law and documentation; changes nothing
    Verify,
    /// Apply formatting and the lints that can be applied by machine
    Fix,
    /// Check the dependency law only
    Law,
    /// Run the simulation: one seed, or many on all processors
    Sim {
        /// The seed, or the first of them
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How many seeds, from the first on
        #[arg(long, default_value_t = 1)]
        count: u64,
        /// How many faults happen in each run
        #[arg(long)]
        steps: Option<u64>,
        /// Tell the whole story of the seed
        #[arg(long, conflicts_with = "count")]
        trace: bool,
    },
    /// Kill every process of a cluster, again and again, under load (root; docs/kills.md)
    Kills(kills::Options),
    /// Build the eBPF object that ordinary builds embed
    BuildEbpf {
        /// Compare with the committed object instead of replacing it
        #[arg(long)]
        check: bool,
    },
    /// Build the Debian package
    Dist(dist::Options),
    /// Run benches and write docs/benchmarks.md
    Bench {
        /// Which benches; all of them when none is named
        names: Vec<String>,
        /// Fewer rounds, and leave docs/benchmarks.md alone: to see whether a change helped
        #[arg(long)]
        quick: bool,
        /// Also write one JSON object a line to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo => demo::run(),
        Command::Test { full } => test::run(full),
        Command::Vm { command } => match vm::run(&command) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Verify => verify::run(),
        Command::Fix => verify::fix(),
        Command::Law => law::run(),
        Command::Sim { seed, count, steps, trace } => sim::run(seed, count, steps, trace),
        Command::Kills(options) => kills::run(&options),
        Command::BuildEbpf { check: false } => ebpf::build(),
        Command::BuildEbpf { check: true } => ebpf::check(),
        Command::Dist(options) => dist::run(&options),
        Command::Bench { names, quick, json } => bench::run(&names, quick, json.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
