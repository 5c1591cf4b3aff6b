//! After a restart of the agent: what is left of each container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use mezzo_agent_accounting::Grant;
use mezzo_agent_launcher::{ClientError, Container, ContainerState};
use mezzo_proto::storage::v1::ContainerRecord;
use mezzo_types::{ContainerId, Resources};

use super::handle::Shared;
use super::process::{Process, recorded_ending, told_ending};
use super::run::Command;
use super::{Ending, Observed, Places, StartError};
use crate::accounts::Holder;
use crate::cgroups::ContainerCgroup;
use crate::isolators::{Demand, Limitation};

/// Launchers that may die while a start asks them, before the start is given up.
const LAUNCHERS_LOST: u32 = 3;

/// One container found, with all that is needed to look after it again.
pub(super) struct Found {
    pub(super) id: ContainerId,
    pub(super) observed: Observed,
    pub(super) command: Command,
    pub(super) cgroup: Option<ContainerCgroup>,
    pub(super) places: Places,
    /// The launcher knows it and tells its ending.
    pub(super) told: bool,
    /// Whose it is and what it may, if it is written down.
    pub(super) account: Option<(Holder, Grant)>,
}

/// Looks at records, the launcher's list, control groups and exit files. Blocks.
pub(super) fn look(shared: &Shared, records: &[ContainerRecord]) -> Result<Vec<Found>, StartError> {
    let mut lost = 0;
    let listed = loop {
        let client = shared.link.client().map_err(StartError::Launcher)?;
        match client.list() {
            Ok(listed) => break listed,
            // It died just now: the next one knows nothing, which is all there is to know.
            Err(ClientError::Disconnected) if lost < LAUNCHERS_LOST => lost += 1,
            Err(e) => {
                let source = Box::new(e);
                return Err(StartError::Look { container: "all".to_owned(), source });
            }
        }
    };
    let listed: BTreeMap<String, Container> =
        listed.into_iter().map(|container| (container.id.clone(), container)).collect();
    // What was written down in another boot is over, and its process id may be anybody's.
    let records: BTreeMap<&str, &ContainerRecord> = records
        .iter()
        .filter(|record| record.boot_id == shared.boot_id)
        .map(|record| (record.container_id.as_str(), record))
        .collect();
    let groups = shared.cgroups.list().map_err(StartError::Cgroups)?;

    let ids: BTreeSet<&str> = listed
        .keys()
        .map(String::as_str)
        .chain(records.keys().copied())
        .chain(groups.iter().map(String::as_str))
        .collect();
    let found: Vec<Found> = ids
        .iter()
        .map(|id| look_at(shared, id, records.get(id).copied(), listed.get(*id)))
        .collect::<Result<_, _>>()?;
    remove_stale_exit_files(shared, &ids);
    Ok(found)
}

fn look_at(
    shared: &Shared,
    id: &str,
    record: Option<&ContainerRecord>,
    listed: Option<&Container>,
) -> Result<Found, StartError> {
    let failed = |source| StartError::Look { container: id.to_owned(), source };
    let places = Places {
        sandbox: record.map(|record| record.sandbox.clone().into()).unwrap_or_default(),
        cgroup: shared.cgroups.path_of(id),
        exit_file: Shared::exit_name(id),
    };
    let cgroup = shared.cgroups.find(id).map_err(|e| failed(Box::new(e)))?;
    let demand = demand(record);
    let limitation = cgroup.as_ref().and_then(|cgroup| recover_isolation(shared, &demand, cgroup));
    let account = record.and_then(|record| {
        let holder = Holder {
            framework: record.framework_id.as_str().into(),
            task: record.executor_id.as_str().into(),
            container: id.into(),
        };
        Some((holder, shared.isolators.prepare(&demand).ok()?.grant))
    });
    let ended = |ending, limitation| (Observed::Ended { ending, limitation }, Command::Ended);
    let running = |process: Process, limitation| {
        let Process { pid, start_time_ticks } = process;
        (Observed::Running { pid, start_time_ticks, limitation }, Command::Running(process))
    };
    let (observed, command) = match listed {
        Some(container) => match container.state {
            ContainerState::Running => running(
                Process { pid: container.pid, start_time_ticks: container.start_time_ticks },
                limitation,
            ),
            ContainerState::Exited { status, recorded } => {
                ended(told_ending(status, recorded), limitation)
            }
            // Its command may run before anybody says so: only the launcher's word counts.
            ContainerState::Launching => (Observed::Launching, Command::Asked),
            // Its first process may have died with the command, before it could say that this ran.
            ContainerState::Failed(failure) => {
                (Observed::Failed { message: failure.to_string() }, Command::None)
            }
        },
        None => {
            let recorded = record
                .filter(|record| record.pid > 0)
                .map(|r| Process { pid: r.pid, start_time_ticks: r.start_time_ticks });
            // A launcher that died may have started it without a word.
            let process = match recorded {
                None => cgroup.as_ref().and_then(Process::first_of),
                recorded => recorded,
            };
            let alive = match process {
                Some(process) => process.open().map_err(|e| failed(Box::new(e)))?.is_some(),
                None => false,
            };
            let exit_file = shared.exit_path(&places.exit_file);
            match (process, recorded_ending(&exit_file)) {
                (Some(process), _) if alive => running(process, limitation),
                (_, ending @ Ending::Status(_)) => ended(ending, limitation),
                (Some(_), ending) => ended(ending, limitation),
                // The exit file is made just before the launcher is asked.
                (None, _) if exit_file.exists() => {
                    let message = "the agent and its launcher ended while they started the command, \
                                   which may have run; try again";
                    (Observed::Failed { message: message.to_owned() }, Command::None)
                }
                (None, _) => (Observed::NotStarted, Command::None),
            }
        }
    };
    Ok(Found { id: id.into(), observed, command, cgroup, places, told: listed.is_some(), account })
}

/// What is there for the accounts.
pub(super) fn accountable(found: &[Found]) -> Vec<(Holder, ContainerCgroup, Grant)> {
    let there = found.iter().filter_map(|found| {
        let (holder, grant) = found.account.clone()?;
        Some((holder, found.cgroup.clone()?, grant))
    });
    there.collect()
}

/// Asks the kernel for endings that nobody else saw, which takes the accounts. Blocks, and is rare.
pub(super) fn witness(shared: &Shared, found: &mut [Found]) {
    let unknown =
        |found: &Found| matches!(found.observed, Observed::Ended { ending: Ending::Unknown, .. });
    if !found.iter().any(unknown) {
        return;
    }
    shared.accounts.begin(accountable(found));
    for Found { id, observed, .. } in found {
        if let Observed::Ended { ending: ending @ Ending::Unknown, .. } = observed
            && let Some(status) = shared.accounts.ended(id)
        {
            *ending = told_ending(status, false);
        }
    }
}

/// Keeps the GPUs of containers for them.
pub(super) fn hold_gpus(shared: &Shared, records: &[ContainerRecord], found: &[Found]) {
    for record in records.iter().filter(|record| record.boot_id == shared.boot_id) {
        let id = ContainerId::from(record.container_id.as_str());
        let may_run = |found: &Found| found.id == id && found.observed != Observed::NotStarted;
        shared.gpus().recover(&id, &record.gpus, found.iter().any(may_run));
    }
}

/// What the record says of a container's resources.
fn demand(record: Option<&ContainerRecord>) -> Demand {
    let Some(record) = record else { return Demand::default() };
    let resources = Resources::from_proto(&record.resources).unwrap_or_default();
    Demand { resources, gpu_ids: record.gpus.clone(), ..Demand::default() }
}

/// Lets the isolators take the container up, and asks them what was breached meanwhile.
fn recover_isolation(
    shared: &Shared,
    demand: &Demand,
    cgroup: &ContainerCgroup,
) -> Option<Limitation> {
    let looked =
        shared.isolators.recover(demand, cgroup).and_then(|()| shared.isolators.breached(cgroup));
    looked.unwrap_or_else(|e| {
        // A group that was being removed has lost its files; what it counted is lost with them.
        tracing::warn!(
            container = cgroup.id(),
            error = super::chain(&e),
            "limits could not be checked"
        );
        None
    })
}

/// Exit files of containers that nobody knows any more.
fn remove_stale_exit_files(shared: &Shared, known: &BTreeSet<&str>) {
    let dir = shared.exit_dir();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) => {
            tracing::warn!(path = %dir.display(), error = %e, "could not look for stale exit files");
            return;
        }
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| known.contains(name)) {
            continue;
        }
        if let Err(e) = fs::remove_file(entry.path())
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %entry.path().display(), error = %e, "could not remove a stale exit file");
        }
    }
}
