//! A container as the agent sees it, and what happens to it.

use crate::failure::{Failure, Step};
use crate::wire::{Body, Record, State};

/// One container of the launcher's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    /// Of `mezzo-init`, in the launcher's pid namespace. Once the container has ended the number may
    /// be another process'.
    pub pid: i32,
    /// Clock ticks after boot; with the pid and the boot id it names the process.
    pub start_time_ticks: u64,
    pub state: ContainerState,
}

/// ```text
/// Launching ──▶ Running ──▶ Exited ──▶ (forgotten)
///     └───────▶ Failed ───────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// The process exists, the command has not been executed yet.
    Launching,
    /// The command has been executed.
    Running,
    /// The command was never executed; the process is gone.
    Failed(Failure),
    /// The process is gone.
    Exited {
        /// Raw, as of wait(2).
        status: i32,
        /// The status is the command's own. Otherwise `mezzo-init` was killed before it could write it
        /// down, and the status is that of `mezzo-init`.
        recorded: bool,
    },
}

impl ContainerState {
    /// The process is gone.
    pub fn is_ended(&self) -> bool {
        matches!(self, ContainerState::Failed(_) | ContainerState::Exited { .. })
    }
}

/// What the launcher tells everybody who is connected. For each container: `Started` and then
/// `Exited`, or `LaunchFailed` alone. Events while nobody is connected are not repeated: the list
/// has the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The command has been executed.
    Started { container: String, pid: i32, start_time_ticks: u64 },
    /// The command was not executed; no process is left.
    LaunchFailed { container: String, failure: Failure },
    /// The command has ended, and with a pid namespace all of the container's processes.
    Exited {
        container: String,
        /// Raw, as of wait(2).
        status: i32,
        /// See [`ContainerState::Exited`].
        recorded: bool,
    },
    /// The connection is gone; the last event there is.
    Disconnected,
}

impl From<&Container> for Record {
    fn from(container: &Container) -> Record {
        let mut record = Record {
            container: container.id.clone(),
            pid: container.pid,
            start_time_ticks: container.start_time_ticks,
            ..Record::default()
        };
        match container.state {
            ContainerState::Launching => record.set_state(State::Launching),
            ContainerState::Running => record.set_state(State::Running),
            ContainerState::Failed(failure) => {
                record.set_state(State::Failed);
                record.step = u32::from(failure.step as u8);
                record.index = u32::from(failure.index);
                record.errno = failure.errno;
                record.status = failure.status;
            }
            ContainerState::Exited { status, recorded } => {
                record.set_state(State::Exited);
                record.status = Some(status);
                record.recorded = recorded;
            }
        }
        record
    }
}

/// `None` for a state of a newer launcher.
pub(crate) fn container_of(record: Record) -> Option<Container> {
    let state = match record.state() {
        State::Unspecified => return None,
        State::Launching => ContainerState::Launching,
        State::Running => ContainerState::Running,
        State::Failed => ContainerState::Failed(failure_of(&record)),
        State::Exited => ContainerState::Exited {
            status: record.status.unwrap_or_default(),
            recorded: record.recorded,
        },
    };
    Some(Container {
        id: record.container,
        pid: record.pid,
        start_time_ticks: record.start_time_ticks,
        state,
    })
}

/// `None` for what is no event.
pub(crate) fn event_of(body: Body) -> Option<Event> {
    match body {
        Body::Started(record) => Some(Event::Started {
            container: record.container,
            pid: record.pid,
            start_time_ticks: record.start_time_ticks,
        }),
        Body::LaunchFailed(record) => {
            let failure = failure_of(&record);
            Some(Event::LaunchFailed { container: record.container, failure })
        }
        Body::Exited(record) => Some(Event::Exited {
            container: record.container,
            status: record.status.unwrap_or_default(),
            recorded: record.recorded,
        }),
        Body::Done(_) | Body::Refused(_) | Body::Listing(_) | Body::Hello(_) => None,
    }
}

pub(crate) fn failure_of(record: &Record) -> Failure {
    Failure {
        step: Step::from_number(record.step),
        index: u8::try_from(record.index).unwrap_or(u8::MAX),
        errno: record.errno,
        status: record.status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_cross_the_wire_unchanged() {
        let failure = Failure { step: Step::Cgroup, index: 1, errno: 19, status: None };
        let silent = Failure { step: Step::Init, index: 0, errno: 0, status: Some(9) };
        for state in [
            ContainerState::Launching,
            ContainerState::Running,
            ContainerState::Failed(failure),
            ContainerState::Failed(silent),
            ContainerState::Exited { status: 768, recorded: true },
            ContainerState::Exited { status: 9, recorded: false },
        ] {
            let container = Container { id: "c".into(), pid: 7, start_time_ticks: 8, state };
            assert_eq!(container_of(Record::from(&container)), Some(container));
        }
    }
}
