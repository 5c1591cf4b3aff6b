//! Counters since the start of the process.

use std::collections::BTreeMap;

use mezzo_proto::v1::{OperationState, TaskState};

use crate::checks::{CheckKind, CheckOutcome};

/// What the agent counted. `/metrics` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Terminal updates made, by state.
    pub tasks_ended: BTreeMap<TaskState, u64>,
    /// Launch orders taken.
    pub launches: u64,
    /// Launch orders that had been taken before.
    pub launches_repeated: u64,
    pub container_launch_errors: u64,
    pub acknowledgements_valid: u64,
    pub acknowledgements_invalid: u64,
    /// Executors that were started, and that ended: among the latter command tasks, which are their own.
    pub executors_launched: u64,
    pub executors_ended: u64,
    /// Messages between frameworks and executors, either way: handed on, or dropped for want of a listener.
    pub messages_valid: u64,
    pub messages_invalid: u64,
    /// Updates of executors that were taken, and those of unknown tasks.
    pub updates_valid: u64,
    pub updates_invalid: u64,
    /// Operations on resources that were ordered, by how they ended.
    pub operations_ended: BTreeMap<OperationState, u64>,
    /// Orders of operations that had been taken before.
    pub operations_repeated: u64,
    pub operation_acknowledgements_valid: u64,
    pub operation_acknowledgements_invalid: u64,
    /// Registrations that a master confirmed.
    pub registrations: u64,
    /// Records that could not be read at the start.
    pub recovery_errors: u64,
    /// Health checks that came to an end, and those of them that the task did not pass.
    pub health_checks: u64,
    pub health_checks_failed: u64,
    /// Checks that came to an end, and those of them without a result.
    pub checks: u64,
    pub checks_failed: u64,
    /// Checks of either kind that the agent could not carry out.
    pub checks_unavailable: u64,
}

impl Statistics {
    pub(crate) fn count_check(&mut self, kind: CheckKind, outcome: &CheckOutcome) {
        let failed = match (kind, outcome) {
            (_, CheckOutcome::Unavailable(_)) => {
                self.checks_unavailable += 1;
                return;
            }
            (CheckKind::Health, _) => outcome.verdict().is_some_and(|found| found.is_err()),
            (CheckKind::Check, _) => matches!(outcome, CheckOutcome::Failed(_)),
        };
        let (all, bad) = match kind {
            CheckKind::Health => (&mut self.health_checks, &mut self.health_checks_failed),
            CheckKind::Check => (&mut self.checks, &mut self.checks_failed),
        };
        *all += 1;
        *bad += u64::from(failed);
    }
}
