//! `kill -9` of every process of a cluster, alone and together, at random moments and at every named
//! step, under a load of launches; and the books that must balance all the same.
//!
//! - `schedule`: what is killed when, a function of the seed.
//! - `arena`: the cluster, and the strikes carried out.
//! - `framework`: the load, a process that dies and goes on like the others; `journal`: what it knows;
//!   `task`: tasks whose ending follows from their id.
//! - `verdict`: what must hold.

mod arena;
mod framework;
mod journal;
mod random;
mod schedule;
mod task;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use mezzo_fault_points::POINTS;

use crate::arena::Arena;
use crate::schedule::Schedule;

#[derive(Parser)]
#[command(about = "Kills the processes of a cluster and sees that nothing is lost (root)")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Of the schedule and the load [default: a fresh one, printed]
    #[arg(long)]
    seed: Option<u64>,

    /// So many processes are killed
    #[arg(long, default_value_t = 1000)]
    kills: u32,

    /// Print each strike
    #[arg(long)]
    verbose: bool,

    /// Keep the cluster's directory after a failure, under this name
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// The load (started by this program itself)
    #[command(hide = true)]
    Framework(framework::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Framework(load)) => load_forever(load),
        None => kill(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load_forever(load: framework::Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(framework::run(load))
}

fn kill(arguments: &Arguments) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let kills = arguments.kills;
    let replay = format!("cargo xtask kills --seed {seed} --kills {kills}");
    println!("seed {seed}: {kills} kills; the same again: {replay}");
    let mut arena = Arena::open(seed)?;
    let outcome = strike(&mut arena, seed, arguments);
    if outcome.is_err() {
        eprintln!("logs:{}", arena.logs());
        if let Some(keep) = &arguments.keep {
            arena.keep(keep)?;
        }
    }
    outcome.with_context(|| format!("the same again: {replay}"))
}

/// A seed that only this run draws from; 32 bits are easy to type again.
fn fresh_seed() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut mixed =
        mezzo_types::IdSource::new([now.as_nanos() as u64, u64::from(std::process::id())]);
    mixed.next_u64() >> 32
}

fn strike(arena: &mut Arena, seed: u64, arguments: &Arguments) -> Result<()> {
    let begin = Instant::now();
    let mut shown = 0;
    // Passed once in a cluster's life.
    let again = |name: &&str| *name != "master.start.founded";
    let points: Vec<_> = POINTS.iter().map(|point| point.name).filter(again).collect();
    for (number, step) in Schedule::new(seed, &points).enumerate() {
        if arena.kills >= arguments.kills {
            break;
        }
        if arguments.verbose {
            println!("{number}: {step:?}");
        }
        arena.take(&step).with_context(|| format!("at strike {number}, {step:?}"))?;
        if arena.kills / 100 > shown {
            shown = arena.kills / 100;
            println!("{} kills in {:.0} s", arena.kills, begin.elapsed().as_secs_f64());
        }
    }
    let killed = begin.elapsed().as_secs_f64();
    let tally = arena.close()?;
    println!(
        "{} kills ({} at a fault point) in {killed:.0} s; {} tasks launched, {} begun, {} ended once:",
        arena.kills, arena.trapped, tally.launched, tally.begun, tally.ended
    );
    for (ending, count) in &tally.endings {
        println!("  {count:>6}  {ending}");
    }
    let never = arena.never_passed();
    ensure!(never.is_empty(), "fault points that nothing passes: {}", never.join(", "));
    println!("every fault point was passed");
    println!("no task lost or run twice, no update lost, reordered or contradicted, nothing left");
    Ok(())
}
