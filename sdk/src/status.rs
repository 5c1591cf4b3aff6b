//! Reading the status of a task.

use crate::v1::{TaskState, TaskStatus};

/// The state's name as Mesos writes it, or `TASK_UNKNOWN` for a number without a name.
pub fn state_name(number: i32) -> &'static str {
    TaskState::try_from(number).unwrap_or(TaskState::TaskUnknown).as_str_name()
}

/// How the process of a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited by itself with this code, 0 to 255.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
}

impl Ending {
    /// The ending that a status tells of: none before the end, and none for a task whose process
    /// was never started or was lost from sight.
    pub fn of(status: &TaskStatus) -> Option<Ending> {
        let termination = status.termination.as_ref()?;
        if let Some(signal) = termination.signal.filter(|signal| *signal != 0) {
            return u8::try_from(signal).ok().map(Ending::Signaled);
        }
        termination.exit_code.and_then(|code| u8::try_from(code).ok()).map(Ending::Exited)
    }

    /// The code a shell would report: 128 is added to a signal's number.
    pub fn shell_code(self) -> u8 {
        match self {
            Ending::Exited(code) => code,
            Ending::Signaled(signal) => signal.saturating_add(128),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::task_status::Termination;

    fn ending(exit_code: Option<i32>, signal: Option<i32>) -> Option<Ending> {
        let termination = Some(Termination { exit_code, signal, ..Default::default() });
        Ending::of(&TaskStatus { termination, ..Default::default() })
    }

    #[test]
    fn endings_are_read_from_the_termination_only() {
        assert_eq!(Ending::of(&TaskStatus::default()), None);
        assert_eq!(ending(Some(3), None), Some(Ending::Exited(3)));
        assert_eq!(ending(Some(0), Some(9)), Some(Ending::Signaled(9)));
        assert_eq!(ending(Some(1), Some(0)), Some(Ending::Exited(1)));
        assert_eq!(ending(Some(256), None), None, "no exit code is that large");
    }

    #[test]
    fn shell_codes() {
        assert_eq!(Ending::Exited(255).shell_code(), 255);
        assert_eq!(Ending::Signaled(15).shell_code(), 143);
    }
}
