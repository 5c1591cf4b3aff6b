//! How a task ended, in Mesos' states, reasons and sentences.

use std::borrow::Cow;

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::{Reason, Source, Termination};
use mezzo_types::Now;

use crate::core::Core;
use crate::input::Ending;
use crate::task::{Cause, TaskKey};

/// A wait status, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Code(i32),
    Signal { signal: i32, core_dumped: bool },
}

impl Exit {
    /// As `wait(2)` encodes it on Linux: the low seven bits are the signal, the eighth says whether a
    /// core was dumped, the next eight are the exit code.
    fn from_wait_status(status: i32) -> Exit {
        let signal = status & 0x7f;
        if signal == 0 {
            Exit::Code((status >> 8) & 0xff)
        } else {
            Exit::Signal { signal, core_dumped: status & 0x80 != 0 }
        }
    }

    fn sentence(self) -> String {
        match self {
            Exit::Code(code) => format!("Command exited with status {code}"),
            Exit::Signal { signal, core_dumped } => {
                let dumped = if core_dumped { " (core dumped)" } else { "" };
                format!("Command terminated with signal {}{dumped}", signal_name(signal))
            }
        }
    }
}

/// A wait status in a sentence's words.
pub(crate) fn exit_sentence(status: i32) -> String {
    Exit::from_wait_status(status).sentence()
}

impl Core {
    /// The terminal status of a task whose command ran.
    pub(crate) fn ending_status(&self, now: Now, key: &TaskKey, ending: Ending) -> v1::TaskStatus {
        let exit = match ending {
            Ending::Status(status) => Some(Exit::from_wait_status(status)),
            Ending::Unknown => None,
        };
        let task = self.tasks.get(key);
        let limitation = task.and_then(|task| task.limitation.as_ref());
        let cause = task.and_then(|task| task.kill).map(|kill| kill.cause);
        let sentence = match exit {
            Some(exit) => exit.sentence(),
            None => "The command ended but its exit status is unknown: its init process was killed"
                .to_owned(),
        };
        let mut status = match (limitation, cause, exit) {
            // Met limits come first: they are why the task ended, whatever was ordered meanwhile.
            (Some(limitation), _, _) => v1::TaskStatus {
                limitation: Some(v1::TaskResourceLimitation {
                    resources: limitation.resources.clone(),
                }),
                ..self.agent_status(
                    now,
                    key,
                    TaskState::TaskFailed,
                    limitation.reason,
                    &limitation.message,
                )
            },
            (None, Some(Cause::CompletionTime), _) => v1::TaskStatus {
                reason: Some(Reason::MaxCompletionTimeReached as i32),
                message: Some("Killed because it ran longer than max_completion_time".to_owned()),
                ..self.status(now, key, TaskState::TaskFailed, Source::Executor)
            },
            (None, Some(cause @ (Cause::Ordered | Cause::Unhealthy | Cause::Draining)), _) => {
                v1::TaskStatus {
                    reason: (cause == Cause::Draining).then_some(Reason::AgentDraining as i32),
                    healthy: (cause == Cause::Unhealthy).then_some(false),
                    message: Some(sentence),
                    ..self.status(now, key, TaskState::TaskKilled, Source::Executor)
                }
            }
            (None, None, Some(exit)) => {
                let state = match exit {
                    Exit::Code(0) => TaskState::TaskFinished,
                    _ => TaskState::TaskFailed,
                };
                v1::TaskStatus {
                    message: Some(sentence),
                    ..self.status(now, key, state, Source::Executor)
                }
            }
            (None, None, None) => self.agent_status(
                now,
                key,
                TaskState::TaskFailed,
                Reason::ExecutorTerminated,
                sentence,
            ),
        };
        let oom = limitation.is_some_and(|l| l.reason == Reason::ContainerLimitationMemory);
        let (exit_code, signal) = match exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal { signal, .. }) => (None, Some(signal)),
            None => (None, None),
        };
        if exit.is_some() || oom {
            status.termination = Some(Termination { exit_code, signal, oom: oom.then_some(true) });
        }
        status
    }
}

/// A signal's name as the C library tells it, which is what Mesos' sentences have.
pub fn signal_name(signal: i32) -> Cow<'static, str> {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        16 => "Stack fault",
        17 => "Child exited",
        18 => "Continued",
        19 => "Stopped (signal)",
        20 => "Stopped",
        21 => "Stopped (tty input)",
        22 => "Stopped (tty output)",
        23 => "Urgent I/O condition",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        26 => "Virtual timer expired",
        27 => "Profiling timer expired",
        28 => "Window changed",
        29 => "I/O possible",
        30 => "Power failure",
        31 => "Bad system call",
        34..=64 => return Cow::Owned(format!("Real-time signal {}", signal - 34)),
        _ => return Cow::Owned(format!("Unknown signal {signal}")),
    };
    Cow::Borrowed(name)
}
