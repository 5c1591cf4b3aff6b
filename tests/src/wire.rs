//! Two hosts of one machine and the wire between them: network namespaces and a veth pair. Where the wire is
//! cut, packets vanish, and nobody is told.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// Addresses of the two ends, on a network that nobody else is on.
pub const NEAR: &str = "10.77.0.1";
pub const FAR: &str = "10.77.0.2";

/// A network namespace. It goes with the last process in it.
#[derive(Debug)]
pub struct Host {
    namespace: File,
}

impl Host {
    fn new() -> Result<Host> {
        let make = || -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace: this test needs root")?;
            ip("link set lo up")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        };
        // In a thread of its own: the caller stays where it is.
        let made = std::thread::spawn(make).join();
        Ok(Host { namespace: made.ok().context("the thread panicked")?? })
    }

    /// Runs `act` on this host. What it connects, listens at or starts belongs there for ever.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the namespace is there");
            act()
        };
        match std::thread::scope(|scope| scope.spawn(enter).join()) {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Two hosts that reach each other, at [`NEAR`] and [`FAR`].
#[derive(Debug)]
pub struct Wire {
    pub near: Host,
    pub far: Host,
}

impl Wire {
    /// # Errors
    /// Without root, or where the system has no `ip`.
    pub fn new() -> Result<Wire> {
        let wire = Wire { near: Host::new()?, far: Host::new()? };
        wire.far.run(|| {
            // The kernel finds a namespace by a thread in it.
            let thread = nix::unistd::gettid();
            wire.near.run(|| {
                ip(&format!("link add wire type veth peer name wire netns {thread}"))?;
                ip(&format!("addr add {NEAR}/24 dev wire"))?;
                ip("link set wire up")
            })?;
            ip(&format!("addr add {FAR}/24 dev wire"))?;
            ip("link set wire up")
        })?;
        Ok(wire)
    }

    /// Nothing arrives any more, in either direction.
    pub fn cut(&self) -> Result<()> {
        self.far.run(|| ip("link set wire down"))
    }

    /// The wire is as before; what was sent meanwhile is lost.
    pub fn mend(&self) -> Result<()> {
        self.far.run(|| ip("link set wire up"))
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.context("cannot run ip (package iproute2)")?;
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root: run as root");
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
