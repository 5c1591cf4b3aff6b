//! What the shell tells the core.

use mezzo_proto::internal::v1::MasterToAgent;
use mezzo_proto::v1;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{ContainerId, Uuid16};

use crate::checks::{CheckKind, CheckOutcome};

/// One stream to a master; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// One stream of events to an executor; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorStreamId(pub u64);

/// One call of an executor that waits for its answer; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

#[derive(Clone, Debug)]
pub enum Input {
    /// A stream to the master opened.
    LinkUp {
        link: LinkId,
    },
    /// It ended, whoever ended it.
    LinkDown {
        link: LinkId,
    },
    Master {
        link: LinkId,
        message: Box<MasterToAgent>,
    },
    /// The command runs. With the boot id, `pid` and `start_time_ticks` (field 22 of
    /// `/proc/<pid>/stat`) name the container's first process for ever.
    Started {
        container: ContainerId,
        pid: i32,
        start_time_ticks: u64,
    },
    /// The command never ran. `message` says why, with the next step where there is one.
    LaunchFailed {
        container: ContainerId,
        message: String,
    },
    /// The container met a limit and must end. Comes before its `Exited`.
    Limited {
        container: ContainerId,
        limitation: Limitation,
    },
    /// The container's processes are gone.
    Exited {
        container: ContainerId,
        ending: Ending,
    },
    /// Nothing is left of the container but its sandbox; answers every `Destroy`.
    Destroyed {
        container: ContainerId,
    },
    /// What came of an `Effect::Check`: each one is answered once, unless the container ended.
    Checked {
        container: ContainerId,
        kind: CheckKind,
        outcome: CheckOutcome,
    },
    /// Answers [`Effect::Update`](crate::Effect::Update) with the same `grant`: the container may use what
    /// it was given, or why not.
    Updated {
        container: ContainerId,
        grant: u64,
        result: Result<(), String>,
    },
    /// A call of an executor, of which [`validate_call`](crate::validate_call) found nothing wrong. `stream` is the one that SUBSCRIBE opens.
    ExecutorCall {
        request: RequestId,
        stream: Option<ExecutorStreamId>,
        call: Box<v1::executor::Call>,
    },
    /// The stream is gone: the executor closed it, or was too slow to be kept.
    ExecutorGone {
        stream: ExecutorStreamId,
    },
    /// Answers `MakeVolumes`: the directories are there, or why they are not.
    VolumesMade {
        operation: Uuid16,
        outcome: Result<(), String>,
    },
    /// Whether the disk has room for new promises: the sentence for those who want some, or nothing.
    Room {
        shortage: Option<String>,
    },
    /// Leave the cluster for good: end every task, then tell the master.
    Leave,
}

/// How a container's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The wait status as `wait(2)` gives it.
    Status(i32),
    /// Nobody saw it: its init was killed before it could write the status down.
    Unknown,
}

/// Why a container must end that did nothing wrong in its own eyes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limitation {
    pub reason: Reason,
    /// A sentence with the numbers.
    pub message: String,
    /// The resources whose limit was met, with what was used of them.
    pub resources: Vec<v1::Resource>,
}
