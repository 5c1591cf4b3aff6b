//! Which task states end a task.

use mezzo_proto::v1::TaskState;

/// Whether a task in this state is over for good: no update can follow it and its resources are
/// free. `TASK_UNREACHABLE` and `TASK_UNKNOWN` are not terminal: the task may still be running.
pub fn is_terminal(state: TaskState) -> bool {
    match state {
        TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled
        | TaskState::TaskError
        | TaskState::TaskLost
        | TaskState::TaskDropped
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator => true,
        TaskState::TaskStaging
        | TaskState::TaskStarting
        | TaskState::TaskRunning
        | TaskState::TaskKilling
        | TaskState::TaskUnreachable
        | TaskState::TaskUnknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_and_unknown_are_not_terminal() {
        let terminal: Vec<i32> =
            (0..14).filter(|n| TaskState::try_from(*n).is_ok_and(is_terminal)).collect();
        assert_eq!(terminal, [2, 3, 4, 5, 7, 9, 11, 12]);
    }
}
