//! Looks at tasks for their checks, from inside their containers.
//!
//! | probe | how |
//! |---|---|
//! | command | the launcher starts it in the container's namespaces and control groups, as the task's user, with the task's environment and the check's own, in the sandbox; its output goes to the task's `stderr` |
//! | TCP | a socket of the task's network namespace connects to the loopback interface |
//! | HTTP(S) | over such a socket, GET; certificates are not verified; redirects are followed as long as they lead back to the task |
//!
//! No process is started for what goes over the network, and nothing polls. What takes too long is given up, and a command
//! is killed with all that descends from it. The core decides when to look and what follows (`mezzo-agent-core`, `checks`).
//!
//! - [`Checks`]: how many looks there may be at a time; [`Target`]: the container that is looked at;
//! - `process`: what the kernel knows of a task; `command`, `network`, `http`, `tls`: the ways to look.

mod command;
mod http;
mod network;
mod process;
mod tls;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mezzo_agent_core::{CheckOutcome, Probe};
use mezzo_agent_launcher::LauncherClient;
use tokio::sync::Semaphore;

use crate::cgroups::ContainerCgroup;

/// Commands of checks that run at a time. Each is a process in its task's own control groups and a socket here. Others wait;
/// their time begins with their turn.
const COMMANDS_AT_ONCE: usize = 512;
/// Commands that are being started at a time: each opens a dozen files of control groups meanwhile.
const STARTS_AT_ONCE: usize = 8;
/// Connections to tasks at a time, each one descriptor.
const CONNECTIONS_AT_ONCE: usize = 1024;

/// What all looks share.
#[derive(Debug)]
pub(crate) struct Checks {
    commands: Semaphore,
    starts: Semaphore,
    connections: Semaphore,
    /// Open for reading and writing.
    null: OwnedFd,
}

/// A container whose command runs.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its first process: pid and start time in ticks.
    pub(crate) process: (i32, u64),
    pub(crate) cgroup: Option<ContainerCgroup>,
    /// As the task sees it.
    pub(crate) sandbox: PathBuf,
}

impl Checks {
    pub(crate) fn new() -> io::Result<Checks> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        Ok(Checks {
            commands: Semaphore::new(COMMANDS_AT_ONCE),
            starts: Semaphore::new(STARTS_AT_ONCE),
            connections: Semaphore::new(CONNECTIONS_AT_ONCE),
            null: null.into(),
        })
    }

    /// Looks once, for `timeout` at most. `launcher` finds the launcher, and may block. Dropping the future ends the look.
    pub(crate) async fn look(
        self: &Arc<Self>,
        target: Target,
        probe: Probe,
        timeout: Option<Duration>,
        launcher: impl FnOnce() -> Option<Arc<LauncherClient>> + Send + 'static,
    ) -> CheckOutcome {
        let permits = match &probe {
            Probe::Command(_) => &self.commands,
            Probe::Http { .. } | Probe::Tcp { .. } => &self.connections,
        };
        let Ok(_turn) = permits.acquire().await else {
            return CheckOutcome::Unavailable("the agent is ending".to_owned());
        };
        match probe {
            Probe::Command(command) => {
                command::look(Arc::clone(self), target, command, timeout, launcher).await
            }
            Probe::Tcp { ipv6, port } => {
                let connected = network::connect(&target, ipv6, port);
                within(timeout, async {
                    match connected.await {
                        Ok(_) => CheckOutcome::Connected(true),
                        Err(network::Failed::Unavailable(why)) => CheckOutcome::Unavailable(why),
                        Err(network::Failed::Refused(_)) => CheckOutcome::Connected(false),
                    }
                })
                .await
            }
            Probe::Http { https, ipv6, port, path } => {
                within(timeout, http::look(&target, https, ipv6, port, path)).await
            }
        }
    }
}

async fn within(
    timeout: Option<Duration>,
    look: impl Future<Output = CheckOutcome>,
) -> CheckOutcome {
    let Some(timeout) = timeout else { return look.await };
    match tokio::time::timeout(timeout, look).await {
        Ok(outcome) => outcome,
        Err(_) => too_late(timeout),
    }
}

fn too_late(timeout: Duration) -> CheckOutcome {
    CheckOutcome::Failed(format!(
        "it took longer than timeout_seconds, {} s",
        timeout.as_secs_f64()
    ))
}
