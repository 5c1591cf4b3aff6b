//! `mezzo master`.

use std::path::PathBuf;

use mezzo_telemetry::{ServiceManager, init_logging};

use super::repair;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::print_text;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
When the master serves, one line is printed on stdout: `ready HOST:PORT`. The log goes to stderr.

Under a service manager (sd_notify) the master says when it serves, and shows signs of life."
)]
pub(crate) struct Flags {
    #[command(flatten)]
    master: mezzo_master::Flags,

    /// What to log: error, warn, info, debug or trace, or directives such as
    /// `info,mezzo_master=debug` [default: RUST_LOG, or info]
    #[arg(long, alias = "log_level", value_name = "LEVEL")]
    log_level: Option<String>,

    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Look at the records of a master that does not start any more, and save what can be saved.
    #[command(long_about = "\
Look at the records of a master that does not start any more, and save what can be saved.

The master must not run. Says what is damaged, what is lost and what the frameworks will hear. Changes nothing without \
--yes; with it, the damaged store is kept beside the new one. Exit code 1 while damage is left.")]
    Repair {
        /// The master's work directory.
        #[arg(long, alias = "work_dir", default_value = "/var/lib/mezzo/master")]
        work_dir: PathBuf,

        /// Repair, and not only look.
        #[arg(long)]
        yes: bool,
    },
}

/// Serves until it is interrupted.
pub(crate) async fn run(flags: Flags) -> Result<(), Failure> {
    if let Some(Task::Repair { work_dir, yes }) = flags.task {
        let report = mezzo_master::repair(&work_dir, yes).map_err(|error| Failure::of(&error))?;
        return repair::print(&report, report.is_sound(), report.replaced.is_some());
    }
    init_logging(flags.log_level.as_deref()).map_err(|error| Failure::of(&error))?;
    let manager = ServiceManager::from_environment().map_err(|error| Failure::of(&error))?;
    let mut interrupts = Interrupts::listen()?;
    let (heartbeat, at_end) = (manager.heartbeat(), manager.clone());
    let shutdown = async move {
        interrupts.next().await;
        at_end.stopping();
    };
    let ready = |address| {
        manager.ready(&format!("serving at {address}"));
        // Whoever started the master may not care to read it.
        let _ = print_text(&format!("ready {address}\n"));
    };
    let running = mezzo_master::run(flags.master, heartbeat, ready, shutdown);
    running.await.map_err(|error| match &error {
        mezzo_master::MasterError::StartAgain(_) => Failure::of(&error).and_start_again(),
        _ => Failure::of(&error),
    })
}
