//! Deadlines, earliest first.

use std::collections::BTreeSet;

use mezzo_types::Now;

use crate::checks::CheckKind;
use crate::executor::ExecutorKey;
use crate::input::LinkId;
use crate::task::TaskKey;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The grace period of a kill is over.
    Kill(TaskKey),
    /// `max_completion_time` is over.
    Completion(TaskKey),
    /// A check of the task is due.
    Check(TaskKey, CheckKind),
    /// The master was silent for too long.
    Silence(LinkId),
    /// An executor had time enough, to subscribe or to end.
    Executor(ExecutorKey),
}

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(u64, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, due_ns: u64, timer: Timer) {
        self.0.insert((due_ns, timer));
    }

    pub(crate) fn cancel(&mut self, due_ns: u64, timer: Timer) {
        self.0.remove(&(due_ns, timer));
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|(due, _)| *due)
    }

    pub(crate) fn pop_due(&mut self, now: Now) -> Option<Timer> {
        if !now.reached(self.next()?) {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    pub(crate) fn contains(&self, due_ns: u64, timer: &Timer) -> bool {
        self.0.contains(&(due_ns, timer.clone()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Timer> {
        self.0.iter().map(|(_, timer)| timer)
    }
}
