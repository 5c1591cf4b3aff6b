//! `mezzo run`: a framework that runs one command, once or several times, and waits for it.
//!
//! - `arguments`: what is asked for, and the tasks made of it;
//! - `health`: its health check, as far as one is asked for;
//! - `batch`: the tasks and where each stands; pure;
//! - `ending`: exit codes and sentences; pure;
//! - `shortage`: what is said when no offer fits; pure;
//! - `summary`: what is printed about several tasks; pure;
//! - `output`: the task's output, copied as it is written;
//! - `runner`: the loop that ties these to the master.

mod arguments;
mod batch;
mod ending;
mod health;
mod output;
mod runner;
mod shortage;
mod summary;

use std::time::Duration;

use mezzo_sdk::v1::framework_info::capability::Type as Capability;
use mezzo_sdk::{Framework, Scheduler};

use crate::arguments::Global;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::run::batch::Batch;
use crate::run::runner::Runner;

pub(crate) use crate::run::arguments::RunArguments;

/// How long tasks outlive a `mezzo run` that died: long enough to ride out a broken connection.
const FAILOVER: Duration = Duration::from_secs(15);

/// How long detached tasks may run: there is no scheduler that will come back for them.
const DETACHED_FAILOVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs to the end and returns the exit code.
pub(crate) async fn run(global: &Global, arguments: RunArguments) -> Result<u8, Failure> {
    // First of all: a Ctrl-C during the start must not leave a half-known framework behind.
    let interrupts = Interrupts::listen()?;
    let user = arguments.user()?;
    let name = arguments.name();
    let framework = Framework::new(format!("mezzo run {name}"), user)
        .roles([arguments.role.clone()])
        .hostname(hostname());
    // Agents with GPUs are left to those who want them.
    let framework = match arguments.gpus {
        0 => framework,
        _ => framework.capability(Capability::GpuResources),
    };
    let framework = if arguments.detach {
        framework
            .failover_timeout(DETACHED_FAILOVER)
            // Nobody will acknowledge TASK_KILLING, and what is not acknowledged holds back the
            // news that the task was killed.
            .without_capability(Capability::TaskKillingState)
    } else {
        framework.failover_timeout(FAILOVER)
    };
    let batch = Batch::new(arguments.tasks());
    let (calls, events) = Scheduler::connect(&global.master, framework).await?;
    Runner::new(global, &arguments, calls, events, interrupts, batch).run().await
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}
