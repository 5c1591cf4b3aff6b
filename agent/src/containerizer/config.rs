//! Where the containerizer finds and puts things.

use std::io;
use std::path::PathBuf;

use mezzo_agent_launcher::SpawnError;

use super::ExecutorSettings;
use crate::accounts::AccountsOptions;
use crate::cgroups::{CgroupError, FactsError};
use crate::isolators::{DEFAULT_ISOLATION, IsolationError, IsolationOptions};
use crate::sandbox::SandboxOptions;

/// Settings of a [`Containerizer`](super::Containerizer).
#[derive(Clone, Debug)]
pub struct ContainerizerConfig {
    /// Sandboxes go below it. Absolute.
    pub work_dir: PathBuf,
    /// Exit files and the launcher's socket and log; must not outlive a boot's meaning, so `/run/mezzo/…` is a good place. Absolute.
    pub runtime_dir: PathBuf,
    /// The `mezzo-launcher` program.
    pub launcher: PathBuf,
    /// Name of the agent's group in each hierarchy (`--cgroups-root`); one agent each.
    pub cgroups_root: String,
    /// `--isolation`.
    pub isolation: String,
    pub isolation_options: IsolationOptions,
    /// What the kernel counts and guards.
    pub accounts: AccountsOptions,
    /// How long sandboxes stay, and how much of their output.
    pub sandboxes: SandboxOptions,
    /// `host:port` of the agent's API, told to tasks as MESOS_AGENT_ENDPOINT.
    pub agent_endpoint: String,
    /// Variables that every task gets unless it sets them itself.
    pub task_environment: Vec<(String, String)>,
    pub executors: ExecutorSettings,
}

impl ContainerizerConfig {
    /// With the default isolation below the group `mezzo`.
    pub fn new(
        work_dir: impl Into<PathBuf>,
        runtime_dir: impl Into<PathBuf>,
        launcher: impl Into<PathBuf>,
    ) -> Self {
        ContainerizerConfig {
            work_dir: work_dir.into(),
            runtime_dir: runtime_dir.into(),
            launcher: launcher.into(),
            cgroups_root: "mezzo".to_owned(),
            isolation: DEFAULT_ISOLATION.to_owned(),
            isolation_options: IsolationOptions::default(),
            accounts: AccountsOptions::default(),
            sandboxes: SandboxOptions::default(),
            agent_endpoint: String::new(),
            task_environment: Vec::new(),
            executors: ExecutorSettings::default(),
        }
    }
}

/// Why a containerizer cannot start or recover.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{what} '{path}' must be an absolute path")]
    Relative { what: &'static str, path: PathBuf },
    #[error("could not create directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not read directory {path}")]
    ReadDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not look after the sandboxes in {path}")]
    Sandboxes {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not open /dev/null")]
    Null(#[source] io::Error),
    #[error("could not find out what control groups this machine has")]
    Facts(#[source] FactsError),
    #[error("control groups are not usable")]
    Cgroups(#[source] CgroupError),
    #[error("isolation is not usable")]
    Isolation(#[source] IsolationError),
    #[error("no launcher is to be had")]
    Launcher(#[source] SpawnError),
    #[error("could not read this boot's id")]
    BootId(#[source] io::Error),
    #[error("could not look at container '{container}'")]
    Look {
        container: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the containerizer is stopping")]
    Stopping,
}
