//! `mezzo agent`.

use std::path::PathBuf;

use mezzo_agent::Shutdown;
use mezzo_telemetry::{ServiceManager, init_logging};
use tokio::signal::unix::{SignalKind, signal};

use super::repair;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::print_text;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
When the agent serves, one line is printed on stdout: `ready HOST:PORT`. The log goes to stderr.

Tasks outlive their agent: after Ctrl-C or SIGTERM they run on, and an agent started again in the \
same work directory takes them over. SIGUSR1 makes the agent leave for good: it ends its tasks, \
tells the master and exits.

Under a service manager (sd_notify) the agent says when it serves, and shows signs of life."
)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) agent: mezzo_agent::Flags,

    /// What to log: error, warn, info, debug or trace, or directives such as
    /// `info,mezzo_agent=debug` [default: RUST_LOG, or info]
    #[arg(long, alias = "log_level", value_name = "LEVEL")]
    log_level: Option<String>,

    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Look at the records of an agent that does not start any more, and save what can be saved.
    #[command(long_about = "\
Look at the records of an agent that does not start any more, and save what can be saved.

The agent must not run. Says what is damaged, what is lost and what becomes of the tasks. Changes nothing without \
--yes; with it, the damaged store is kept beside the new one. Exit code 1 while damage is left.")]
    Repair {
        /// The agent's work directory.
        #[arg(
            long,
            alias = "work_dir",
            env = "MEZZO_WORK_DIR",
            default_value = "/var/lib/mezzo/agent"
        )]
        work_dir: PathBuf,

        /// Repair, and not only look.
        #[arg(long)]
        yes: bool,
    },
}

/// Serves until it is interrupted or told to leave.
pub(crate) async fn run(flags: Flags) -> Result<(), Failure> {
    if let Some(Task::Repair { work_dir, yes }) = flags.task {
        let report = mezzo_agent::repair(&work_dir, yes).map_err(|error| Failure::of(&error))?;
        return repair::print(&report, report.is_sound(), report.replaced.is_some());
    }
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
    running.await.map_err(|error| match &error {
        mezzo_agent::AgentError::StartAgain(_) => Failure::of(&error).and_start_again(),
        _ => Failure::of(&error),
    })
}
