//! Asking until every task is answered, as Mesos' docs/reconciliation.md describes it.
//!
//! The master does not answer for a task while it cannot know: after a failover, until the agents
//! are back. So the tasks that are left are asked for again, after pauses that grow.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::scheduler::calls::reconciliation;
use crate::v1;
use crate::v1::scheduler::Call;

/// Tasks named in one call: well below a megabyte.
const BATCH: usize = 10_000;

const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Agents of a large cluster take minutes to be back.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A reconciliation under way. At most one is, so that requests do not pile up.
#[derive(Debug)]
pub(crate) struct Reconciliation {
    left: BTreeMap<String, Option<v1::AgentId>>,
    backoff: Backoff,
    /// When to ask next.
    due: Instant,
}

impl Reconciliation {
    /// None if there is nothing to ask.
    pub(crate) fn of(
        tasks: impl IntoIterator<Item = (v1::TaskId, Option<v1::AgentId>)>,
        now: Instant,
    ) -> Option<Self> {
        let left: BTreeMap<_, _> =
            tasks.into_iter().map(|(task, agent)| (task.value, agent)).collect();
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        (!left.is_empty()).then_some(Reconciliation { left, backoff, due: now })
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// What to ask now.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let task = |(id, agent): (&String, &Option<v1::AgentId>)| {
            (v1::TaskId { value: id.clone() }, agent.clone())
        };
        let tasks = Vec::from_iter(self.left.iter().map(task));
        tasks.chunks(BATCH).map(|batch| reconciliation(batch.iter().cloned())).collect()
    }

    /// The calls have been sent.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.due = now + self.backoff.next_pause();
    }

    /// A new connection: what was asked on the old one may be lost.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.backoff.reset();
        self.due = now;
    }

    /// An update came. True if it was the last one that was missing.
    pub(crate) fn answered(&mut self, task: &v1::TaskId) -> bool {
        self.left.remove(&task.value).is_some() && self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str) -> v1::TaskId {
        v1::TaskId { value: id.to_owned() }
    }

    fn asked(reconciliation: &Reconciliation) -> Vec<String> {
        let calls = reconciliation.calls();
        let tasks = calls.into_iter().flat_map(|call| call.reconcile.expect("body").tasks);
        tasks.map(|task| task.task_id.value).collect()
    }

    #[test]
    fn what_is_left_is_asked_again_after_growing_pauses() {
        let start = Instant::now();
        assert!(Reconciliation::of([], start).is_none());
        let tasks = ["a", "b", "c"].map(|id| (task(id), None));
        let mut reconciliation = Reconciliation::of(tasks, start).expect("something to ask");
        assert_eq!(reconciliation.due(), start);
        assert_eq!(asked(&reconciliation), ["a", "b", "c"]);
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            reconciliation.asked(start);
            longest = longest.max(reconciliation.due() - start);
        }
        assert!(longest > LONGEST_PAUSE / 2 && longest <= LONGEST_PAUSE, "{longest:?}");
        assert!(!reconciliation.answered(&task("b")));
        assert!(!reconciliation.answered(&task("b")), "answered twice");
        assert!(!reconciliation.answered(&task("other")));
        assert_eq!(asked(&reconciliation), ["a", "c"]);
        reconciliation.start_over(start);
        assert_eq!(reconciliation.due(), start);
        assert!(!reconciliation.answered(&task("a")));
        assert!(reconciliation.answered(&task("c")));
    }

    #[test]
    fn many_tasks_are_asked_for_in_several_calls() {
        let tasks = (0..BATCH + 1).map(|n| (task(&n.to_string()), None));
        let reconciliation = Reconciliation::of(tasks, Instant::now()).expect("something to ask");
        let calls = reconciliation.calls();
        let sizes = Vec::from_iter(
            calls.iter().map(|call| call.reconcile.as_ref().expect("body").tasks.len()),
        );
        assert_eq!(sizes, [BATCH, 1]);
    }
}
