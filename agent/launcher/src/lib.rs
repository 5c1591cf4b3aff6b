//! The launcher: parent of all containers, which goes on when the agent does not.
//!
//! ```text
//!  agent ──SOCK_SEQPACKET──▶ mezzo-launcher ──fork──▶ mezzo-init ──vfork──▶ command
//!    ▲   requests, descriptors   │   ▲                   │  (process 1 of the container)
//!    └────────── events ─────────┘   └── status pipe ────┤
//!    ╰──────────────── exit file (wait status) ◀─────────╯
//! ```
//!
//! One launcher serves one work directory during one boot. It is small, has one thread, and gets
//! numeric ids and open descriptors only: it never asks a name service and never looks up a path
//! on a file system of a user, so that nothing which hangs there can stop it from reaping.
//!
//! - [`LauncherClient`], [`Launch`], [`Event`]: the agent's side;
//! - [`Enter`], [`CheckReport`]: a command beside a container's own, for checks;
//! - [`Launcher`]: starts the daemon and waits until it answers;
//! - [`create_exit_file`], [`read_exit_file`]: how a container ended, known even if the launcher was dead;
//! - [`serve`], [`resume`]: the daemon, which `mezzo-launcher` runs.
//!
//! Who dies and what follows: the agent: nothing, it connects again and asks for the list. The
//! launcher: containers run on, `mezzo-init` still writes the exit file; a new launcher serves new
//! containers, and the agent watches the old ones by pidfd. `mezzo-init`: with a pid namespace the
//! container ends with it, and counts as killed.
//!
//! A launcher of another build takes over in place ([`Launcher::upgrade`]): the process executes the new
//! program and stays the parent of all containers. Its table goes along in a memfd, its descriptors
//! stay open, and children that end meanwhile wait to be reaped. A new program that does not understand
//! the state executes the old one again.

mod channel;
mod child;
mod client;
mod complaints;
mod connection;
mod container;
mod daemon;
mod enter;
mod exit_file;
mod failure;
mod inspect;
mod launch;
mod log;
#[path = "../init/protocol.rs"]
mod protocol;
mod server;
mod socket;
mod spawn;
mod state;
mod table;
mod upgrade;
mod wire;

pub use client::{ClientError, Identity, LauncherClient};
pub use container::{Container, ContainerState, Event};
pub use daemon::{ResumeConfig, ServeError, ServerConfig, resume, serve};
pub use enter::{CheckReport, Enter, check_socket};
pub use exit_file::{create_exit_file, read_exit_file};
pub use failure::{Failure, Step};
pub use inspect::inspect_packet;
pub use launch::Launch;
pub use mezzo_agent_sys::Namespaces;
pub use spawn::{Launcher, SpawnError};
pub use state::formats_line;
pub use table::MAX_ENDED;
pub use upgrade::{Upgrade, UpgradeError};
pub use wire::RefusalCode;
