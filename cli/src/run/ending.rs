//! How a task's end becomes an exit code and a sentence.

use mezzo_sdk::v1::{TaskState, TaskStatus};
use mezzo_sdk::{Ending, state_name};

/// Exit code of a task that failed without having an exit code.
const FAILED: u8 = 1;

/// The exit code that a shell would give the command.
pub(crate) fn exit_code(status: &TaskStatus) -> u8 {
    match (status.state(), Ending::of(status)) {
        (TaskState::TaskFinished, None) => 0,
        // Failed for another reason than its process: what the process returned is not the answer.
        (TaskState::TaskFailed, Some(Ending::Exited(0))) => FAILED,
        (TaskState::TaskKilled, Some(Ending::Exited(0))) if unhealthy(status) => FAILED,
        (_, Some(ending)) => ending.shell_code(),
        (_, None) => FAILED,
    }
}

/// A last status says so only of a task that was killed for it.
fn unhealthy(status: &TaskStatus) -> bool {
    status.healthy == Some(false)
}

/// What went wrong with a task: a sentence, and below it what else its message says. None if
/// nothing did.
pub(crate) fn complaint(task_id: &str, status: &TaskStatus) -> Option<String> {
    let verb = match status.state() {
        TaskState::TaskFinished if exit_code(status) == 0 => return None,
        TaskState::TaskFinished | TaskState::TaskFailed => "failed".to_owned(),
        TaskState::TaskKilled if unhealthy(status) => {
            "was killed because its health check failed".to_owned()
        }
        TaskState::TaskKilled => "was killed".to_owned(),
        TaskState::TaskError => "was refused".to_owned(),
        _ => format!("ended as {}", state_name(status.state)),
    };
    let mut sentence = format!("{task_id} {verb}");
    let message = status.message.as_deref().unwrap_or_default().trim();
    let (first, details) = message.split_once('\n').unwrap_or((message, ""));
    if !first.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(first.trim_end());
    }
    if status.reason.is_some() {
        sentence.push_str(&format!(" ({})", status.reason().as_str_name()));
    }
    for detail in details.lines().filter(|line| !line.trim().is_empty()) {
        sentence.push_str("\n  ");
        sentence.push_str(detail.trim_end());
    }
    Some(sentence)
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1::task_status::{Reason, Termination};

    use super::*;

    fn status(state: TaskState, exit_code: Option<i32>, signal: Option<i32>) -> TaskStatus {
        let termination = (exit_code.is_some() || signal.is_some()).then(|| Termination {
            exit_code,
            signal,
            ..Default::default()
        });
        TaskStatus { state: state as i32, termination, ..Default::default() }
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        use TaskState::{TaskDropped, TaskError, TaskFailed, TaskFinished, TaskKilled};
        for (state, code, signal, expect) in [
            (TaskFinished, Some(0), None, 0),
            (TaskFinished, None, None, 0),
            (TaskFailed, Some(3), None, 3),
            (TaskFailed, Some(255), None, 255),
            (TaskFailed, None, Some(9), 137),
            (TaskFailed, None, Some(11), 139),
            (TaskFailed, None, None, 1),
            (TaskFailed, Some(0), None, 1),
            (TaskKilled, None, Some(15), 143),
            (TaskKilled, Some(7), None, 7),
            (TaskKilled, None, None, 1),
            (TaskError, None, None, 1),
            (TaskDropped, None, None, 1),
        ] {
            assert_eq!(
                exit_code(&status(state, code, signal)),
                expect,
                "{state:?} {code:?} {signal:?}"
            );
        }
    }

    #[test]
    fn who_was_killed_for_its_health_did_not_succeed() {
        let mut ended = status(TaskState::TaskKilled, Some(0), None);
        assert_eq!(exit_code(&ended), 0);
        ended.healthy = Some(false);
        assert_eq!(exit_code(&ended), FAILED);
        assert_eq!(
            complaint("t", &ended).as_deref(),
            Some("t was killed because its health check failed")
        );
    }

    #[test]
    fn sentences_have_the_message_and_the_reason() {
        let mut failed = status(TaskState::TaskFailed, None, Some(9));
        failed.message = Some("Memory limit exceeded: 64 MB\n\nrss 1\ncache 2\n".to_owned());
        failed.reason = Some(Reason::ContainerLimitationMemory as i32);
        assert_eq!(
            complaint("hog", &failed).as_deref(),
            Some(
                "hog failed: Memory limit exceeded: 64 MB (REASON_CONTAINER_LIMITATION_MEMORY)\n  \
                 rss 1\n  cache 2"
            )
        );
        assert_eq!(complaint("t", &status(TaskState::TaskFinished, Some(0), None)), None);
        let gone = status(TaskState::TaskGone, None, None);
        assert_eq!(complaint("t", &gone).as_deref(), Some("t ended as TASK_GONE"));
    }
}
