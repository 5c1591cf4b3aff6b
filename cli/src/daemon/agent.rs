//! `mezzo agent`.

use mezzo_agent::Shutdown;
use mezzo_telemetry::{ServiceManager, init_logging};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::print_text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
When the agent serves, one line is printed on stdout: `ready HOST:PORT`. The log goes to stderr.

Tasks outlive their agent: after Ctrl-C or SIGTERM they run on, and an agent started again in the \
same work directory takes them over. SIGUSR1 makes the agent leave for good: it ends its tasks, \
tells the master and exits.

Under a service manager (sd_notify) the agent says when it serves, and shows signs of life.")]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) agent: mezzo_agent::Flags,

    /// What to log: error, warn, info, debug or trace, or directives such as
    /// `info,mezzo_agent=debug` [default: RUST_LOG, or info]
    #[arg(long, alias = "log_level", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Serves until it is interrupted or told to leave.
pub(crate) async fn run(flags: Flags) -> Result<(), Failure> {
    init_logging(flags.log_level.as_deref()).map_err(|error| Failure::of(&error))?;
    let manager = ServiceManager::from_environment().map_err(|error| Failure::of(&error))?;
    let mut interrupts = Interrupts::listen()?;
    let mut leave = signal(SignalKind::user_defined1())
        .map_err(|error| Failure::from_error("could not handle signals", &error))?;
    let (heartbeat, at_end) = (manager.heartbeat(), manager.clone());
    let shutdown = async move {
        // Both arms are cancel-safe; only the first signal counts.
        let order = tokio::select! {
            _ = interrupts.next() => Shutdown::Stop,
            _ = leave.recv() => Shutdown::Leave,
        };
        at_end.stopping();
        order
    };
    let ready = |address| {
        manager.ready(&format!("serving at {address}"));
        // Whoever started the agent may not care to read it.
        let _ = print_text(&format!("ready {address}\n"));
    };
    let running = mezzo_agent::run(flags.agent, heartbeat, ready, shutdown);
    running.await.map_err(|error| Failure::of(&error))
}
