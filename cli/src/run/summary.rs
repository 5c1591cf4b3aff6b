//! What is printed about a run of several tasks, and about a detached one.

use std::time::Duration;

use mezzo_sdk::v1::{TaskState, TaskStatus};
use serde::Serialize;

use crate::output::Row;

/// The JSON form of a run's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    tasks: usize,
    finished: usize,
    failed: usize,
    killed: usize,
    /// Refused, dropped, lost with their agent, or never launched.
    other: usize,
    /// From the first launch to the last ending.
    seconds: f64,
    /// Tasks that ended, per second.
    tasks_per_second: f64,
}

impl Summary {
    pub(crate) fn new<'s>(
        tasks: usize,
        endings: impl Iterator<Item = &'s TaskStatus>,
        elapsed: Duration,
    ) -> Self {
        let (mut finished, mut failed, mut killed, mut ended) = (0, 0, 0, 0);
        for status in endings {
            ended += 1;
            match status.state() {
                TaskState::TaskFinished => finished += 1,
                TaskState::TaskFailed => failed += 1,
                TaskState::TaskKilled => killed += 1,
                _ => {}
            }
        }
        let seconds = elapsed.as_secs_f64();
        Summary {
            tasks,
            finished,
            failed,
            killed,
            other: tasks - finished - failed - killed,
            seconds: (seconds * 1000.0).round() / 1000.0,
            tasks_per_second: if seconds > 0.0 {
                (f64::from(ended) / seconds * 10.0).round() / 10.0
            } else {
                0.0
            },
        }
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let mut text = format!("{} tasks: {} finished", self.tasks, self.finished);
        for (count, word) in
            [(self.failed, "failed"), (self.killed, "killed"), (self.other, "not run to an end")]
        {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        text.push_str(&format!(
            " in {:.2} s, {:.1} tasks/s\n",
            self.seconds, self.tasks_per_second
        ));
        text
    }
}

/// The JSON form of a task that was left running.
#[derive(Debug, Serialize)]
pub(crate) struct Detached {
    pub(crate) task_id: String,
    pub(crate) framework_id: String,
    pub(crate) agent_id: Option<String>,
}

impl Row for Detached {
    const HEADINGS: &'static [&'static str] = &["TASK"];

    fn cells(&self) -> Vec<String> {
        vec![self.task_id.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(states: &[TaskState]) -> Vec<TaskStatus> {
        states
            .iter()
            .map(|state| TaskStatus { state: *state as i32, ..Default::default() })
            .collect()
    }

    #[test]
    fn counts_and_rate() {
        use TaskState::{TaskDropped, TaskFailed, TaskFinished, TaskKilled};
        let all = statuses(&[TaskFinished, TaskFinished, TaskFailed, TaskKilled, TaskDropped]);
        let summary = Summary::new(6, all.iter(), Duration::from_millis(2500));
        assert_eq!(
            summary.line(),
            "6 tasks: 2 finished, 1 failed, 1 killed, 2 not run to an end in 2.50 s, 2.0 tasks/s\n"
        );
        let json = serde_json::to_value(&summary).expect("json");
        assert_eq!((&json["other"], &json["seconds"]), (&2.into(), &2.5.into()));

        let summary = Summary::new(2, all[..2].iter(), Duration::from_secs(1));
        assert_eq!(summary.line(), "2 tasks: 2 finished in 1.00 s, 2.0 tasks/s\n");
    }
}
