//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::completion::CompletionArguments;
use crate::daemon::{self, dev::DevFlags};
use crate::files::{CpArguments, FsArguments};
use crate::kill::KillArguments;
use crate::list::{FrameworksArguments, PsArguments};
use crate::logs::LogsArguments;
use crate::orders::{DrainArguments, MaintenanceCommand, QuotaCommand, WeightsCommand};
use crate::output::Format;
use crate::run::RunArguments;
use crate::usage::{StatsArguments, TopArguments};

/// Mezzo: a cluster as one computer.
#[derive(Debug, Parser)]
#[command(name = "mezzo", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command that talks to a master.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The master to talk to.
    #[arg(
        long,
        value_name = "HOST:PORT",
        global = true,
        env = "MEZZO_MASTER",
        default_value = "127.0.0.1:5050"
    )]
    pub(crate) master: String,

    /// Form of what is printed on stdout.
    #[arg(long, value_enum, value_name = "FORM", global = true, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a master.
    Master(Box<daemon::master::Flags>),
    /// Start an agent on this machine.
    Agent(Box<daemon::agent::Flags>),
    /// Start a master and an agent in one process, to try things out.
    Dev(DevFlags),
    /// Run a command on the cluster, show its output and end with its exit code.
    Run(RunArguments),
    /// List tasks.
    Ps(PsArguments),
    /// List agents.
    Agents,
    /// Say that an agent will never come back: its tasks are gone, and its id is barred.
    MarkAgentGone {
        /// The agent's id, as `mezzo agents` shows it.
        agent: String,
    },
    /// End an agent's tasks, and offer it to nobody until it is reactivated.
    Drain(DrainArguments),
    /// Offer an agent to nobody; its tasks go on.
    Deactivate {
        /// The agent's id, as `mezzo agents` shows it.
        agent: String,
    },
    /// Offer an agent again that was drained or deactivated.
    Reactivate {
        /// The agent's id, as `mezzo agents` shows it.
        agent: String,
    },
    /// Plan, begin and end the maintenance of machines.
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
    /// What roles may have at most, and what is kept free for them.
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Which share of the cluster roles get.
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// List frameworks.
    Frameworks(FrameworksArguments),
    /// Print what a task has written.
    Logs(LogsArguments),
    /// List a directory of a task's sandbox, or print a file.
    Fs(FsArguments),
    /// Copy a file of a task's sandbox to this machine.
    Cp(CpArguments),
    /// Show what a running task uses.
    Stats(StatsArguments),
    /// Watch what all running tasks use.
    Top(TopArguments),
    /// End a task.
    Kill(KillArguments),
    /// Print the completion script of a shell.
    Completion(CompletionArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_agent_takes_its_master_from_either_place() {
        for line in [["mezzo", "agent", "--master", "m:1"], ["mezzo", "--master", "m:1", "agent"]] {
            let arguments = Arguments::try_parse_from(line).expect("valid");
            let Command::Agent(flags) = arguments.command else { panic!("agent") };
            assert_eq!(flags.agent.master, "m:1", "{line:?}");
        }
    }
}
