//! What can go wrong, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why there is no accounting by the kernel on this host. The agent goes on without: control groups' own files take the place
/// of counters, and neither ports nor devices are guarded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("eBPF needs {}, which the agent lacks; run it as root, or give it these capabilities", missing.join(", "))]
    NotPermitted { missing: Vec<&'static str> },
    #[error(
        "{path} is not in a bpffs; mount one, for instance with `mount -t bpf bpf /sys/fs/bpf`"
    )]
    NoBpffs { path: PathBuf },
    #[error("could not use the agent's cgroup {path}")]
    Root {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not in a cgroup v2 tree; mount one, for instance at /sys/fs/cgroup/unified")]
    NotUnified { path: PathBuf },
    #[error(
        "{mount} shows a part of the cgroup tree only; start the agent outside of a cgroup namespace"
    )]
    PartOfTree { mount: PathBuf },
    #[error("{path} is the root of the cgroup tree; give the agent a cgroup of its own in it")]
    WholeTree { path: PathBuf },
    #[error("could not read what this process may do")]
    Capabilities(#[source] io::Error),
    #[error("could not {action} {path}")]
    Pin {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the kernel refuses the maps of the eBPF object")]
    Object(#[source] aya::EbpfError),
    #[error("could not enter running tasks")]
    Admit(#[source] AdmitError),
}

/// Why a task was not admitted. Nothing of it is left in the maps.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error(
        "the map '{map}' is full; it was made for {capacity} entries: give the agent a larger --ebpf-capacity, which it takes up after a restart of the machine, or when its pins were removed"
    )]
    Full { map: &'static str, capacity: u32 },
    #[error("could not enter the task into the map '{map}'")]
    Map {
        map: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Why counters could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the map '{map}'")]
pub struct ReadError {
    pub map: &'static str,
    #[source]
    pub source: io::Error,
}
