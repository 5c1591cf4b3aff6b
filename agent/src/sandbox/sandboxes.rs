//! All sandboxes of an agent: made, rotated while their tasks run, removed when they have had their time.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mezzo_agent_core::Retention;
use mezzo_types::ContainerId;
use tokio::task::AbortHandle;

use super::collector::{Collector, Removals};
use super::log::{LogLimits, LogLocks};
use super::rotation::Rotation;
use super::{Owner, Sandbox, SandboxError, SandboxOf};

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SandboxOptions {
    pub retention: Retention,
    /// Between looks at how full the disk is.
    pub disk_watch_interval: Duration,
    pub logs: LogLimits,
}

impl Default for SandboxOptions {
    /// Mesos' week, headroom and minute; 100 MiB of output in the file and four such pieces beside it.
    fn default() -> Self {
        SandboxOptions {
            retention: Retention { delay: Duration::from_secs(7 * 24 * 3600), headroom: 0.1 },
            disk_watch_interval: Duration::from_secs(60),
            logs: LogLimits { max_bytes: 100 << 20, pieces: 4 },
        }
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    work_dir: PathBuf,
    collector: Arc<Collector>,
    collecting: Arc<Collecting>,
    rotation: Rotation,
    locks: LogLocks,
}

#[derive(Debug)]
struct Collecting(AbortHandle);

impl Drop for Collecting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sandboxes {
    /// Must be called within a runtime.
    pub(crate) fn start(work_dir: &Path, options: SandboxOptions) -> io::Result<Sandboxes> {
        let locks = LogLocks::default();
        let collector = Collector::new(work_dir, options.retention, options.disk_watch_interval);
        let collecting = tokio::spawn(Arc::clone(&collector).collect()).abort_handle();
        Ok(Sandboxes {
            work_dir: work_dir.to_owned(),
            rotation: Rotation::start(work_dir, options.logs, locks.clone())?,
            collector,
            collecting: Arc::new(Collecting(collecting)),
            locks,
        })
    }

    /// Makes the sandbox of a new run. It stays until the run has [`ended`](Self::ended), and its time after that.
    pub(crate) fn create(
        &self,
        of: &SandboxOf,
        owner: Option<Owner>,
    ) -> Result<Sandbox, SandboxError> {
        self.collector.begin(&of.container, Some(of.clone()));
        let sandbox = {
            let _guard = self.collector.layout.read().unwrap_or_else(PoisonError::into_inner);
            Sandbox::create(&self.work_dir, of, owner)?
        };
        self.rotation.watch(&of.container, &sandbox.path, [&sandbox.stdout, &sandbox.stderr]);
        Ok(sandbox)
    }

    /// Takes up a container that was there before this agent. `sandbox` is empty if it is not known. Blocks for a moment.
    pub(crate) fn take_up(&self, container: &ContainerId, sandbox: &Path) {
        let of = SandboxOf::of_path(&self.work_dir, sandbox);
        if of.is_some() {
            self.rotation.watch_again(container, sandbox);
        }
        self.collector.begin(container, of);
    }

    /// Everything that lives was taken up: what else is there has ended, those of `recorded` with the machine. Blocks.
    pub(crate) fn scan(&self, recorded: &BTreeSet<ContainerId>) {
        self.collector.scan(recorded);
    }

    /// No process of the container is left.
    pub(crate) fn ended(&self, container: &ContainerId) {
        self.rotation.forget(container);
        self.collector.ended(container);
    }

    pub(crate) fn removals(&self) -> Removals {
        self.collector.removals()
    }

    /// How old a sandbox may get with the disk as it is now.
    pub(crate) fn allowed_age(&self) -> Duration {
        self.collector.allowed_age()
    }

    pub(crate) fn locks(&self) -> LogLocks {
        self.locks.clone()
    }

    /// Lets what is being removed be; the next agent goes on.
    pub(crate) fn stop(&self) {
        self.collecting.0.abort();
        self.collector.stop();
    }
}
