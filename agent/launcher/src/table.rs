//! The launcher's containers: live ones, and ended ones that nobody has forgotten yet.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::container::{Container, ContainerState};
use crate::exit_file::read_exit_file;
use crate::failure::{Failure, Report, Step};
use crate::wire::RefusalCode;

/// Containers that may live at a time; each holds one descriptor.
const MAX_LIVE: usize = 16_384;

/// Ended containers that are kept until they are forgotten; beyond, the oldest goes. Their exit files
/// still have the endings.
pub const MAX_ENDED: usize = 4_096;

/// A live container's means.
#[derive(Debug)]
struct Live {
    exit_file: File,
    /// What the status pipe said, if it said that the launch failed.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    live: Option<Live>,
    /// Orders the ended ones.
    ended: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Entry>,
    by_pid: HashMap<i32, String>,
    by_end: BTreeMap<u64, String>,
    ends: u64,
}

impl Table {
    /// Whether a container of this id may be launched now.
    pub fn check_new(&self, id: &str) -> Result<(), (RefusalCode, String)> {
        if let Some(entry) = self.entries.get(id) {
            let state = if entry.live.is_some() { "running" } else { "not yet forgotten" };
            let message = format!("container {id:?} exists and is {state}; ids are used once");
            return Err((RefusalCode::Exists, message));
        }
        if self.by_pid.len() >= MAX_LIVE {
            let message = format!("{MAX_LIVE} containers run already, the most a launcher keeps");
            return Err((RefusalCode::Full, message));
        }
        Ok(())
    }

    pub fn insert(&mut self, id: String, pid: i32, start_time_ticks: u64, exit_file: OwnedFd) {
        let state = ContainerState::Launching;
        let container = Container { id: id.clone(), pid, start_time_ticks, state };
        let live = Some(Live { exit_file: exit_file.into(), failure: None });
        self.by_pid.insert(pid, id.clone());
        self.entries.insert(id, Entry { container, live, ended: 0 });
    }

    /// Takes a report of the status pipe. Returns the container if it has started by it.
    pub fn report(&mut self, id: &str, report: Report) -> Option<&Container> {
        let entry = self.entries.get_mut(id)?;
        let live = entry.live.as_mut()?;
        match report {
            Report::Started => {
                entry.container.state = ContainerState::Running;
                Some(&entry.container)
            }
            Report::Failed(failure) => {
                live.failure = Some(failure);
                None
            }
            // Of checks, which have a socket of their own.
            Report::Ended(_) => None,
        }
    }

    /// The id of the live container whose first process has this pid.
    pub fn id_of(&self, pid: i32) -> Option<String> {
        self.by_pid.get(&pid).cloned()
    }

    /// The first process has been reaped with this raw status. Returns the ended container.
    pub fn reaped(&mut self, pid: i32, status: i32) -> Option<&Container> {
        let id = self.by_pid.remove(&pid)?;
        let entry = self.entries.get_mut(&id)?;
        let live = entry.live.take()?;
        entry.container.state = match (entry.container.state, live.failure) {
            (ContainerState::Launching, Some(failure)) => ContainerState::Failed(failure),
            (ContainerState::Launching, None) => ContainerState::Failed(Failure {
                step: Step::Init,
                index: 0,
                errno: 0,
                status: Some(status),
            }),
            // An unreadable record is as good as none; the agent reads the file, too.
            _ => match read_exit_file(&live.exit_file) {
                Ok(Some(status)) => ContainerState::Exited { status, recorded: true },
                Ok(None) | Err(_) => ContainerState::Exited { status, recorded: false },
            },
        };
        self.ends += 1;
        entry.ended = self.ends;
        self.by_end.insert(self.ends, id.clone());
        if self.by_end.len() > MAX_ENDED
            && let Some((_, oldest)) = self.by_end.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.entries.get(&id).map(|entry| &entry.container)
    }

    /// Drops an ended container.
    pub fn forget(&mut self, id: &str) -> Result<(), (RefusalCode, String)> {
        let entry = self.entries.get(id).ok_or_else(|| unknown(id))?;
        if entry.live.is_some() {
            let message = format!("container {id:?} has not ended; kill it first");
            return Err((RefusalCode::Running, message));
        }
        self.by_end.remove(&entry.ended);
        self.entries.remove(id);
        Ok(())
    }

    /// The pid to signal. It is this container's for sure: only `reaped` frees it.
    pub fn live_pid(&self, id: &str) -> Result<i32, (RefusalCode, String)> {
        let entry = self.entries.get(id).ok_or_else(|| unknown(id))?;
        if entry.live.is_none() {
            return Err((RefusalCode::Ended, format!("container {id:?} has ended already")));
        }
        Ok(entry.container.pid)
    }

    pub fn live(&self) -> usize {
        self.by_pid.len()
    }

    /// Live containers with their exit files and what their status pipes said of a failed launch.
    pub fn live_containers(
        &self,
    ) -> impl Iterator<Item = (&Container, BorrowedFd<'_>, Option<Failure>)> {
        self.entries.values().filter_map(|entry| {
            let live = entry.live.as_ref()?;
            Some((&entry.container, live.exit_file.as_fd(), live.failure))
        })
    }

    /// Ended containers, oldest ending first.
    pub fn ended_containers(&self) -> impl Iterator<Item = &Container> {
        self.by_end.values().filter_map(|id| Some(&self.entries.get(id)?.container))
    }

    /// Takes a live container over from another table.
    pub fn restore_live(
        &mut self,
        container: Container,
        exit_file: OwnedFd,
        failure: Option<Failure>,
    ) {
        let live = Some(Live { exit_file: exit_file.into(), failure });
        self.by_pid.insert(container.pid, container.id.clone());
        self.entries.insert(container.id.clone(), Entry { container, live, ended: 0 });
    }

    /// Takes an ended container over from another table, younger than all so far.
    pub fn restore_ended(&mut self, container: Container) {
        self.ends += 1;
        self.by_end.insert(self.ends, container.id.clone());
        let id = container.id.clone();
        self.entries.insert(id, Entry { container, live: None, ended: self.ends });
    }

    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.entries.values().map(|entry| &entry.container)
    }
}

fn unknown(id: &str) -> (RefusalCode, String) {
    (RefusalCode::Unknown, format!("no container {id:?} is known here"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> OwnedFd {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(content.as_bytes()).expect("write");
        file.into()
    }

    fn state(table: &Table, id: &str) -> Option<ContainerState> {
        table.containers().find(|c| c.id == id).map(|c| c.state)
    }

    #[test]
    fn a_life_with_a_record_and_one_without() {
        let mut table = Table::default();
        for (id, pid, content) in [("a", 10, "768\n"), ("b", 11, "    ")] {
            table.check_new(id).expect("new");
            table.insert(id.into(), pid, 5, file(content));
            assert_eq!(table.check_new(id).expect_err("exists").0, RefusalCode::Exists);
            assert!(table.report(id, Report::Started).is_some());
            assert_eq!(table.forget(id).expect_err("runs").0, RefusalCode::Running);
            assert_eq!(table.live_pid(id), Ok(pid));
        }
        assert_eq!(table.live(), 2);
        table.reaped(10, 3 << 8).expect("ended");
        table.reaped(11, 9).expect("ended");
        let ended = |status, recorded| Some(ContainerState::Exited { status, recorded });
        assert_eq!(state(&table, "a"), ended(768, true));
        assert_eq!(state(&table, "b"), ended(9, false));
        assert_eq!(table.live_pid("a").expect_err("ended").0, RefusalCode::Ended);
        table.forget("a").expect("forget");
        assert_eq!(table.forget("a").expect_err("unknown").0, RefusalCode::Unknown);
        assert!(table.reaped(10, 0).is_none());
    }

    #[test]
    fn failures_before_the_exec_are_no_exits() {
        let mut table = Table::default();
        table.insert("told".into(), 10, 5, file(""));
        table.insert("silent".into(), 11, 5, file(""));
        let failure = Failure { step: Step::Exec, index: 0, errno: 2, status: None };
        assert!(table.report("told", Report::Failed(failure)).is_none());
        table.reaped(10, 127 << 8).expect("ended");
        table.reaped(11, 9).expect("ended");
        assert_eq!(state(&table, "told"), Some(ContainerState::Failed(failure)));
        let silent = Failure { step: Step::Init, index: 0, errno: 0, status: Some(9) };
        assert_eq!(state(&table, "silent"), Some(ContainerState::Failed(silent)));
    }

    #[test]
    fn only_the_latest_endings_are_kept() {
        let mut table = Table::default();
        let total = MAX_ENDED + 10;
        for number in 0..total {
            let pid = i32::try_from(number).expect("pid") + 1;
            table.insert(format!("{number:06}"), pid, 5, file(""));
            table.reaped(pid, 0).expect("ended");
        }
        assert_eq!(table.containers().count(), MAX_ENDED);
        assert_eq!(table.containers().next().map(|c| c.id.as_str()), Some("000010"));
        assert_eq!(table.live(), 0);
    }
}
