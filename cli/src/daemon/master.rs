//! `mezzo master`.

use mezzo_telemetry::init_logging;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::print_text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
When the master serves, one line is printed on stdout: `ready HOST:PORT`. The log goes to stderr.")]
pub(crate) struct Flags {
    #[command(flatten)]
    master: mezzo_master::Flags,

    /// What to log: error, warn, info, debug or trace, or directives such as
    /// `info,mezzo_master=debug` [default: RUST_LOG, or info]
    #[arg(long, alias = "log_level", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Serves until it is interrupted.
pub(crate) async fn run(flags: Flags) -> Result<(), Failure> {
    init_logging(flags.log_level.as_deref()).map_err(|error| Failure::of(&error))?;
    let mut interrupts = Interrupts::listen()?;
    let shutdown = async move {
        interrupts.next().await;
    };
    let ready = |address| {
        // Whoever started the master may not care to read it.
        let _ = print_text(&format!("ready {address}\n"));
    };
    mezzo_master::run(flags.master, ready, shutdown).await.map_err(|error| Failure::of(&error))
}
