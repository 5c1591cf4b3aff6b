//! The machine below an agent: containers whose commands go on while the agent is dead, and whose
//! endings are written down.

use std::collections::BTreeMap;

use mezzo_agent_core::{Ending, Observed};
use mezzo_proto::v1;
use mezzo_types::{ContainerId, Resources};

/// What a task's command does. Travels in `command.value`, so that the host needs no second channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Runs for so long; `None`: until it is killed.
    pub runs_ms: Option<u64>,
    pub exit_code: i32,
    /// Ends on SIGTERM.
    pub obeys: bool,
}

impl Behaviour {
    pub fn to_command(self) -> v1::CommandInfo {
        let runs = self.runs_ms.map_or("-".to_owned(), |ms| ms.to_string());
        let value = format!("{runs} {} {}", self.exit_code, self.obeys);
        v1::CommandInfo { value: Some(value), ..v1::CommandInfo::default() }
    }

    /// A command that says something else ends at once, with success.
    pub fn of(task: &v1::TaskInfo) -> Self {
        let value = task.command.as_ref().map(|command| command.value()).unwrap_or_default();
        let mut words = value.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let runs_ms = match word() {
            "-" => None,
            ms => Some(ms.parse().unwrap_or(0)),
        };
        let exit_code = word().parse().unwrap_or(0);
        Behaviour { runs_ms, exit_code, obeys: word() != "false" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// The launcher was asked.
    Asked,
    /// It never started and never will.
    Void,
    Running,
    Ended(Ending),
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) key: (String, String),
    pub(crate) resources: Resources,
    pub(crate) behaviour: Behaviour,
    pub(crate) command: Command,
    pub(crate) pid: i32,
    /// A signal that came before the command was there to get it.
    pub(crate) early_term: bool,
    pub(crate) limited: bool,
    /// Its processes and its groups are gone; its exit file is not.
    pub(crate) destroyed: bool,
}

impl Container {
    pub(crate) fn runs(&self) -> bool {
        self.command == Command::Running
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    /// Directories of volumes, by role and persistence id, with how often a task wrote to each.
    pub(crate) volumes: BTreeMap<(String, String), u64>,
    next_pid: i32,
}

impl Host {
    /// Nothing runs any more and nothing of it is left; volumes are on the disk.
    pub(crate) fn clear(&mut self) {
        self.containers.clear();
    }

    pub(crate) fn start(&mut self, id: &ContainerId) -> Option<i32> {
        let container = self.containers.get_mut(id)?;
        if container.command != Command::Asked {
            return None;
        }
        self.next_pid += 1;
        container.pid = 1000 + self.next_pid;
        container.command = Command::Running;
        Some(container.pid)
    }

    /// Ends a running command. Whether it ran.
    pub(crate) fn end(&mut self, id: &ContainerId, ending: Ending) -> bool {
        match self.containers.get_mut(id) {
            Some(container) if container.runs() => {
                container.command = Command::Ended(ending);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn start_time(pid: i32) -> u64 {
        u64::try_from(pid).unwrap_or(0) * 10
    }

    /// What a starting agent finds. A command that is on its way has started to nobody's knowledge:
    /// it will not.
    pub(crate) fn observe(&mut self) -> BTreeMap<ContainerId, Observed> {
        let mut observed = BTreeMap::new();
        for (id, container) in &mut self.containers {
            if container.command == Command::Asked {
                container.command = Command::Void;
            }
            let limitation = container.limited.then(limitation);
            let found = match container.command {
                Command::Asked | Command::Void => Observed::NotStarted,
                Command::Running => Observed::Running {
                    pid: container.pid,
                    start_time_ticks: Host::start_time(container.pid),
                    limitation,
                },
                Command::Ended(ending) => Observed::Ended { ending, limitation },
            };
            observed.insert(id.clone(), found);
        }
        observed
    }
}

/// What the kernel would tell of a container that took too much memory.
pub(crate) fn limitation() -> mezzo_agent_core::Limitation {
    mezzo_agent_core::Limitation {
        reason: v1::task_status::Reason::ContainerLimitationMemory,
        message: "memory limit exceeded".to_owned(),
        resources: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_travels_in_its_command() {
        for runs_ms in [None, Some(70)] {
            let behaviour = Behaviour { runs_ms, exit_code: 3, obeys: false };
            let task = v1::TaskInfo { command: Some(behaviour.to_command()), ..Default::default() };
            assert_eq!(Behaviour::of(&task), behaviour);
        }
        let nonsense = v1::TaskInfo::default();
        let ends = Behaviour { runs_ms: Some(0), exit_code: 0, obeys: true };
        assert_eq!(Behaviour::of(&nonsense), ends);
    }
}
