//! What can happen to the master.

use bytes::Bytes;
use mezzo_proto::internal::v1::AgentToMaster;
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::Call;
use mezzo_types::{AgentId, FrameworkId, TaskId};

/// A framework's event stream, numbered by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// An agent's connection, numbered by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A caller that waits for an [`Answer`](crate::Answer), numbered by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A SUBSCRIBE call. The stream is open from the shell's point of view; what is wrong with the
    /// subscription is told as an ERROR event.
    Subscribe { stream: StreamId, call: Box<Call>, principal: Option<String> },
    /// Any other scheduler call.
    ///
    /// `stream` is the subscription the caller names (HTTP: by `Mesos-Stream-Id`, gRPC: its own);
    /// `None` if it names none or one that does not exist. `task_infos` are the received bytes of
    /// each TaskInfo in the call, in order, so that fields we do not know reach the agent.
    Call { request: RequestId, stream: Option<StreamId>, call: Box<Call>, task_infos: Vec<Bytes> },
    /// The peer closed the stream, or was too slow to be kept.
    StreamClosed { stream: StreamId },
    /// A message of an agent. The first on a link must be `Register`.
    AgentMessage { link: LinkId, message: Box<AgentToMaster> },
    /// The agent's connection ended.
    LinkClosed { link: LinkId },
    /// Whether the disk has room for new promises: the sentence for those who want some, or nothing.
    Room { shortage: Option<String> },
    /// An operator wants a task ended. Without `framework` the task id must be unique.
    KillTask {
        request: RequestId,
        framework: Option<FrameworkId>,
        task: TaskId,
        policy: Option<v1::KillPolicy>,
    },
    /// An operator wants a framework gone with all its tasks.
    Teardown { request: RequestId, framework: FrameworkId },
    /// An operator asserts that an agent will never come back: its id is barred.
    MarkAgentGone { request: RequestId, agent: AgentId },
    /// An operator wants resources of an agent that nobody holds reserved, made a volume, and so on.
    /// `principal` is who asks, if that is known.
    Operate {
        request: RequestId,
        agent: AgentId,
        operation: Box<v1::offer::Operation>,
        principal: Option<String>,
    },
}
