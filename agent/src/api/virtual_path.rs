//! Paths under which the API shows sandboxes, those of Mesos:
//! `/frameworks/<framework>/executors/<executor>/runs/<container or latest>/…`, and where the sandbox really is.

use std::path::PathBuf;

use mezzo_types::{ContainerId, ExecutorId, FrameworkId};

use super::files::Files;

/// A place in a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sandbox: PathBuf,
    /// Below it; empty for the sandbox itself.
    pub(super) path: String,
}

impl Files {
    /// Of all containers that the agent knows, with and without the id of the run.
    pub(super) fn virtual_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (framework, executor, container) in self.view.with_containers() {
            let runs = format!("/frameworks/{framework}/executors/{executor}/runs");
            paths.push(format!("{runs}/latest"));
            paths.push(format!("{runs}/{container}"));
        }
        paths
    }

    /// What a virtual or a real path means; `None` if there is no such sandbox. Looks at the disk.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        let below = match self.work_dir.to_str().and_then(|work| path.strip_prefix(work)) {
            // `slaves/<agent>/frameworks/…`; whether that agent's or another's run is known by its own id.
            Some(real) => {
                let (slaves, rest) = real.strip_prefix('/')?.split_once('/')?;
                let (_agent, rest) = rest.split_once('/')?;
                (slaves == "slaves").then_some(rest)?
            }
            None => path.strip_prefix('/').unwrap_or(path),
        };
        let mut parts = below.splitn(7, '/');
        let mut expect = |group: &str| {
            let named = parts.next()? == group;
            named.then(|| parts.next()).flatten().filter(|id| !id.is_empty())
        };
        let framework = FrameworkId::from(expect("frameworks")?);
        let executor = ExecutorId::from(expect("executors")?);
        let container = match expect("runs")? {
            "latest" => None,
            id => Some(ContainerId::from(id)),
        };
        let path = parts.next().unwrap_or_default().trim_end_matches('/').to_owned();
        let sandbox = self.find_run(&framework, &executor, container)?;
        Some(Place { sandbox, path })
    }
}
