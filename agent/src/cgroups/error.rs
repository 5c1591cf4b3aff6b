//! What can go wrong with a control group, one variant per step.

use std::io;
use std::path::PathBuf;

use super::Controller;

/// Failure of one step on control groups; the system's own error is the source.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "cgroup root '{root}' is not usable: every '/'-separated part must be 1 to 255 characters other than '.', '..', control characters"
    )]
    BadRoot { root: String },
    #[error(
        "container id '{id}' cannot name a cgroup: it must be 1 to 255 letters, digits, '.', '_' or '-' and not begin with '.'"
    )]
    BadName { id: String },
    #[error(
        "controller '{controller}' is not available in any mounted cgroup hierarchy; mount it, or leave its isolator out of --isolation"
    )]
    MissingController { controller: Controller },
    #[error(
        "cgroup root {path} is in use by another agent; stop it, or give this agent another --cgroups-root"
    )]
    RootInUse { path: PathBuf },
    #[error("could not enable controllers '{controllers}' in {path}")]
    Enable {
        controllers: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not create cgroup {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cgroup {path} exists already; the cgroup of a container is used once and must be new")]
    NotFresh { path: PathBuf },
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} holds '{text}', which is not a number as expected")]
    Malformed { path: PathBuf, text: String },
    #[error("could not write '{value}' to {path}")]
    Write {
        path: PathBuf,
        value: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("limit did not take: wrote '{wanted}' to {path}, the kernel reads back '{found}'")]
    NotApplied { path: PathBuf, wanted: String, found: String },
    #[error("could not open {path} for processes to enter")]
    OpenProcs {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not kill the processes in {path}")]
    Kill {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not watch {path}")]
    Watch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("processes {pids:?} in {path} are still there {waited_ms} ms after SIGKILL")]
    StillPopulated { path: PathBuf, pids: Vec<i32>, waited_ms: u64 },
    #[error("could not remove cgroup {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
