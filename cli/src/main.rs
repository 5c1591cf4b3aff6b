//! `mezzo`: all that an operator or a user types.
//!
//! | module | what it does |
//! |---|---|
//! | `arguments` | the command line as types |
//! | `daemon` | `mezzo master`, `mezzo agent`, `mezzo dev` |
//! | `run` | `mezzo run`, a framework |
//! | `list` | `mezzo ps`, `mezzo agents`, `mezzo frameworks` |
//! | `logs`, `files`, `kill`, `find` | one task: its output, its files, its end, where it is |
//! | `usage` | `mezzo stats`, `mezzo top` |
//! | `gone` | an agent that never comes back |
//! | `orders` | what operators decide: drain, maintenance, quotas, weights |
//! | `output` | tables and JSON on stdout |
//! | `failure` | what goes to stderr when something fails, and the exit code |
//!
//! What a program may want to read goes to stdout, everything else to stderr. Exit codes: 0 done,
//! 1 failed, 2 wrong usage; `mezzo run` ends with the code of its task.

mod arguments;
mod completion;
mod daemon;
mod failure;
mod files;
mod find;
mod follow;
mod gone;
mod interrupt;
mod kill;
mod list;
mod logs;
mod orders;
mod output;
mod quantity;
mod run;
mod usage;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

/// Daemons live for months and allocate from all threads: glibc's heap would grow with what was, not with what is. RocksDB
/// uses it, too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Prints help, version and usage errors itself, with the exit codes 0, 0 and 2.
    let arguments = Arguments::parse();
    if let Err(problem) = mezzo_fault_points::arm() {
        return Failure::new(problem).report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::from_error("could not start the runtime's threads", &error).report();
        }
    };
    let outcome = runtime.block_on(dispatch(arguments));
    // Whatever still waits, such as a write to a terminal that is stopped, is not waited for.
    runtime.shutdown_background();
    let code = match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            if failure.starts_again() {
                start_again().report();
            }
            failure.code()
        }
    };
    // Nothing is left to be done if stdout is closed.
    let _ = std::io::stdout().flush();
    // A daemon's store may have threads of RocksDB at work, from under which an ordinary exit would
    // take the library's statics: the process would abort. What was promised is on the disk.
    mezzo_agent_sys::exit_at_once(code)
}

/// Becomes this program anew, in the same process, with the same arguments. Comes back only if that fails.
fn start_again() -> Failure {
    let error = match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    Failure::from_error("could not start again", &error)
}

async fn dispatch(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { global, command } = arguments;
    let done = match command {
        Command::Master(flags) => daemon::master::run(*flags).await,
        Command::Agent(flags) => daemon::agent::run(*flags).await,
        Command::Dev(flags) => daemon::dev::run(flags).await,
        Command::Run(arguments) => return run::run(&global, arguments).await,
        Command::Ps(arguments) => list::tasks(&global, &arguments).await,
        Command::Agents => list::agents(&global).await,
        Command::MarkAgentGone { agent } => gone::mark(&global, &agent).await,
        Command::Drain(arguments) => orders::drain(&global, arguments).await,
        Command::Deactivate { agent } => orders::deactivate(&global, &agent).await,
        Command::Reactivate { agent } => orders::reactivate(&global, &agent).await,
        Command::Maintenance(command) => orders::maintenance(&global, command).await,
        Command::Quota(command) => orders::quota(&global, command).await,
        Command::Weights(command) => orders::weights(&global, command).await,
        Command::Frameworks(arguments) => list::frameworks(&global, &arguments).await,
        Command::Logs(arguments) => logs::logs(&global, &arguments).await,
        Command::Fs(arguments) => files::fs(&global, &arguments).await,
        Command::Cp(arguments) => files::cp(&global, &arguments).await,
        Command::Stats(arguments) => usage::stats(&global, &arguments).await,
        Command::Top(arguments) => usage::top(&global, &arguments).await,
        Command::Kill(arguments) => kill::kill(&global, arguments).await,
        Command::Completion(arguments) => completion::print(&arguments),
    };
    done.map(|()| 0)
}
