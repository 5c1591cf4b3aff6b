//! Starting the daemon from the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mezzo_agent_sys::limit_open_files;

use crate::client::{ClientError, LauncherClient};
use crate::container::Event;
use crate::socket::connect_to;

/// Another agent may start one at the same moment, and a child of one that was just killed may hold its lock
/// for an instant.
const SPAWN_ATTEMPTS: u32 = 3;

/// Where a launcher is, or is to be.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The `mezzo-launcher` program.
    pub program: PathBuf,
    /// Absolute path of its socket; the directory is created (mode 0700) where it is missing.
    pub socket: PathBuf,
    /// File for its messages.
    pub log: Option<PathBuf>,
    /// `cgroup.procs` of the cgroups that it is to live in, outside of the agent's.
    pub cgroup_procs: Vec<PathBuf>,
    /// Soft and hard limit of open files for it and its containers; `None`: those of the caller, who
    /// may have raised its own.
    pub open_files: Option<(u64, u64)>,
}

/// Why there is no launcher to talk to.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("run {program:?}")]
    Run { program: PathBuf, source: io::Error },
    #[error("start the launcher {program:?}: {message}")]
    Start { program: PathBuf, message: String },
    #[error("reach the launcher")]
    Connect(#[source] ClientError),
}

impl Launcher {
    /// Connects to the launcher that runs, or to a new one. The flag says whether it is new: then the
    /// containers of one before, if any, are nobody's children and must be watched by pidfd.
    ///
    /// Blocks until the launcher answers (milliseconds). `on_event` as in [`LauncherClient::connect`].
    pub fn connect_or_spawn(
        &self,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<(LauncherClient, bool), SpawnError> {
        let connect = |source| {
            SpawnError::Connect(ClientError::Connect { path: self.socket.clone(), source })
        };
        let mut attempts = 1..=SPAWN_ATTEMPTS;
        let (socket, spawned) = loop {
            if let Ok(socket) = connect_to(&self.socket) {
                break (socket, false);
            }
            match self.spawn() {
                Ok(()) => break (connect_to(&self.socket).map_err(connect)?, true),
                Err(error) if attempts.next() == Some(SPAWN_ATTEMPTS) => return Err(error),
                Err(_) => {}
            }
        };
        let client = LauncherClient::over(socket, on_event).map_err(connect)?;
        Ok((client, spawned))
    }

    /// Starts the daemon in a session of its own, as nobody's child. When this returns it listens.
    fn spawn(&self) -> Result<(), SpawnError> {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(&self.socket);
        if let Some(log) = &self.log {
            command.arg("--log").arg(log);
        }
        for procs in &self.cgroup_procs {
            command.arg("--cgroup-procs").arg(procs);
        }
        // Nothing of the agent's environment is the launcher's concern, and none reaches a task.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.envs(mezzo_fault_points::variables());
        if let Some((soft, hard)) = self.open_files {
            limit_open_files(&mut command, soft, hard);
        }
        let output = command
            .output()
            .map_err(|source| SpawnError::Run { program: self.program.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let message = match text.trim() {
            "" => output.status.to_string(),
            text => text.strip_prefix("mezzo-launcher: ").unwrap_or(text).to_owned(),
        };
        Err(SpawnError::Start { program: self.program.clone(), message })
    }

    /// The launcher that lies beside the running program, as the build and the packages place it.
    pub fn beside(program: &Path) -> PathBuf {
        program.with_file_name("mezzo-launcher")
    }
}
