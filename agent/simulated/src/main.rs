//! `mezzo-agent-simulated`: agents by the thousand for a master that is to be tried out.

use std::process::ExitCode;

use clap::Parser;
use mezzo_agent_simulated::{Flags, Fleet};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    name = "mezzo-agent-simulated",
    version,
    about = "Simulated agents by the thousand, to see what a master and its frameworks bear",
    after_help = "\
Nothing is executed: a command runs for as long as it says. `sleep 30` runs for 30 s, `sleep 2; exit 3` fails after 2 s, \
`true` and `false` end at once, and everything else runs until it is killed.

When all agents are registered, one line is printed on stdout: `ready AGENTS`. The log goes to stderr. Ctrl-C or SIGTERM \
ends them; to the master they are machines that are cut off."
)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,

    /// What to log: error, warn, info, debug or trace, or directives [default: RUST_LOG, or info]
    #[arg(long, alias = "log_level", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// As real daemons.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", mezzo_telemetry::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    mezzo_telemetry::init_logging(arguments.log_level.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut fleet = Fleet::start(&arguments.flags)?;
        let mut ready = false;
        loop {
            // All arms are cancel-safe.
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = fleet.all_registered(), if !ready => {
                    ready = true;
                    println!("ready {}", arguments.flags.agents);
                }
            }
        }
        fleet.end().await;
        Ok(())
    })
}
