//! How connections talk to the leader's loop: cheap to clone, channels stay inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mezzo_master_core::{Answer, Input, LinkId, Order, Refusal, RequestId, StreamId};
use mezzo_proto::internal::v1::{AgentToMaster, MasterToAgent};
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, Event};
use mezzo_types::{AgentId, FrameworkId, TaskId};
use tokio::sync::{mpsc, oneshot};

use crate::queue::{self, queue};
use crate::streams::StreamNames;

/// Events that may wait for one framework; a slower one is disconnected with a reason.
pub(crate) const STREAM_QUEUE: usize = 4096;
/// Messages that may wait for one agent.
pub(crate) const LINK_QUEUE: usize = 4096;
/// Inputs of a kind that may wait for the loop: callers beyond that wait in turn, on their own connection.
pub(crate) const INPUT_QUEUE: usize = 4096;

/// What the loop takes beside the core's inputs: the other ends of channels.
#[derive(Debug)]
pub(crate) enum Message {
    Input(Input),
    Stream { stream: StreamId, events: queue::Sender<Event>, first: Input },
    Link { link: LinkId, messages: queue::Sender<MasterToAgent> },
    Request { request: RequestId, answer: oneshot::Sender<Result<Answer, Refusal>>, input: Input },
}

/// The loop is gone: the process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the master is shutting down")]
pub struct Gone;

/// A request on its way through the loop.
#[derive(Debug)]
pub(crate) struct Begun(oneshot::Receiver<Result<Answer, Refusal>>);

impl Begun {
    pub(crate) async fn answer(self) -> Result<Result<Answer, Refusal>, Gone> {
        self.0.await.map_err(|_| Gone)
    }
}

/// The loop's end: what agents say and what all others say, each in its order. They are kept apart so that ten
/// thousand agents that speak at once do not hold up the framework whose acknowledgements would quiet them.
#[derive(Debug)]
pub(crate) struct Inbox {
    calls: mpsc::Receiver<Message>,
    agents: mpsc::Receiver<Message>,
    agents_next: bool,
}

impl Inbox {
    /// The next message, of either kind in turn; `None` when there are no more handles. Loses nothing when it is
    /// dropped half-way.
    pub(crate) async fn recv(&mut self) -> Option<Message> {
        if let Some(message) = self.try_recv() {
            return Some(message);
        }
        // A channel ends with the last handle, and so do both.
        tokio::select! {
            message = self.calls.recv() => message,
            message = self.agents.recv() => message,
        }
    }

    /// The next message that is here already.
    pub(crate) fn try_recv(&mut self) -> Option<Message> {
        self.agents_next = !self.agents_next;
        let (first, second) = match self.agents_next {
            true => (&mut self.agents, &mut self.calls),
            false => (&mut self.calls, &mut self.agents),
        };
        first.try_recv().or_else(|_| second.try_recv()).ok()
    }
}

/// Sees how much waits for the loop, and does not keep it alive.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    calls: mpsc::WeakSender<Message>,
    agents: mpsc::WeakSender<Message>,
}

impl Queues {
    /// What frameworks and operators want.
    pub(crate) fn calls(&self) -> usize {
        waiting(&self.calls)
    }

    /// What agents say.
    pub(crate) fn agents(&self) -> usize {
        waiting(&self.agents)
    }
}

fn waiting(queue: &mpsc::WeakSender<Message>) -> usize {
    queue.upgrade().map_or(0, |queue| queue.max_capacity() - queue.capacity())
}

/// A way to the leader's loop.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    calls: mpsc::Sender<Message>,
    agents: mpsc::Sender<Message>,
    next_id: Arc<AtomicU64>,
    names: StreamNames,
}

impl Handle {
    /// A handle, and the loop's end of its channel.
    pub(crate) fn new() -> (Self, Inbox) {
        let (calls, of_calls) = mpsc::channel(INPUT_QUEUE);
        let (agents, of_agents) = mpsc::channel(INPUT_QUEUE);
        let next_id = Arc::new(AtomicU64::new(1));
        let handle = Self { calls, agents, next_id, names: StreamNames::default() };
        (handle, Inbox { calls: of_calls, agents: of_agents, agents_next: false })
    }

    /// What waits for the loop, for those who only look.
    pub(crate) fn queues(&self) -> Queues {
        Queues { calls: self.calls.downgrade(), agents: self.agents.downgrade() }
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a subscription. Events come on the receiver until it closes.
    pub(crate) async fn subscribe(
        &self,
        call: Call,
        principal: Option<String>,
    ) -> Result<Subscription, Gone> {
        let stream = StreamId(self.id());
        let (events, receiver) = queue(STREAM_QUEUE);
        let first = Input::Subscribe { stream, call: Box::new(call), principal };
        self.calls.send(Message::Stream { stream, events, first }).await.map_err(|_| Gone)?;
        let name = self.names.add(stream);
        Ok(Subscription { stream, name, events: receiver, handle: self.clone() })
    }

    /// Carries out a call on the subscription named by a `Mesos-Stream-Id`.
    pub(crate) async fn call_named(
        &self,
        name: Option<&str>,
        call: Call,
        task_infos: Vec<Bytes>,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        // A name that is not known is not the framework's: the core must see "some other stream".
        let stream = name.map(|name| self.names.find(name).unwrap_or(StreamId(0)));
        self.call(stream, call, task_infos).await
    }

    /// Carries out a call on a subscription.
    async fn call(
        &self,
        stream: Option<StreamId>,
        call: Call,
        task_infos: Vec<Bytes>,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        self.begin_call(stream, call, task_infos).await?.answer().await
    }

    /// Puts a call in its place among all others; what becomes of it can be awaited while the next is read.
    pub(crate) async fn begin_call(
        &self,
        stream: Option<StreamId>,
        call: Call,
        task_infos: Vec<Bytes>,
    ) -> Result<Begun, Gone> {
        self.begin(|request| Input::Call { request, stream, call: Box::new(call), task_infos })
            .await
    }

    /// An operator ends a task.
    pub(crate) async fn kill_task(
        &self,
        framework: Option<FrameworkId>,
        task: TaskId,
        policy: Option<v1::KillPolicy>,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        self.request(|request| Input::KillTask { request, framework, task, policy }).await
    }

    /// An operator removes a framework.
    pub(crate) async fn teardown(
        &self,
        framework: FrameworkId,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        self.request(|request| Input::Teardown { request, framework }).await
    }

    /// An operator says that an agent never comes back.
    pub(crate) async fn mark_agent_gone(
        &self,
        agent: AgentId,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        self.request(|request| Input::MarkAgentGone { request, agent }).await
    }

    /// An operator has resources of an agent reserved, made a volume, and so on.
    pub(crate) async fn operate(
        &self,
        agent: AgentId,
        operation: v1::offer::Operation,
        principal: Option<String>,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        let operation = Box::new(operation);
        self.request(|request| Input::Operate { request, agent, operation, principal }).await
    }

    /// An operator decides something about roles, machines or agents.
    pub(crate) async fn order(&self, order: Order) -> Result<Result<Answer, Refusal>, Gone> {
        self.request(|request| Input::Order { request, order: Box::new(order) }).await
    }

    async fn request(
        &self,
        input: impl FnOnce(RequestId) -> Input,
    ) -> Result<Result<Answer, Refusal>, Gone> {
        self.begin(input).await?.answer().await
    }

    async fn begin(&self, input: impl FnOnce(RequestId) -> Input) -> Result<Begun, Gone> {
        let request = RequestId(self.id());
        let (answer, receiver) = oneshot::channel();
        let message = Message::Request { request, answer, input: input(request) };
        self.calls.send(message).await.map_err(|_| Gone)?;
        Ok(Begun(receiver))
    }

    /// Opens an agent's link. Messages for the agent come on the receiver until it closes.
    pub(crate) async fn link(&self) -> Result<Link, Gone> {
        let link = LinkId(self.id());
        let (messages, receiver) = queue(LINK_QUEUE);
        self.agents.send(Message::Link { link, messages }).await.map_err(|_| Gone)?;
        Ok(Link { messages: receiver, sender: LinkSender { link, handle: self.clone() } })
    }

    /// Tells the loop from a destructor, which cannot wait for room in the queue itself.
    fn tell_later(inbox: &mpsc::Sender<Message>, input: Input) {
        let inbox = inbox.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // The loop may be gone, which is an end, too.
            runtime.spawn(async move { inbox.send(Message::Input(input)).await.ok() });
        }
    }
}

/// A framework's open stream; dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) stream: StreamId,
    /// The `Mesos-Stream-Id`.
    pub(crate) name: String,
    pub(crate) events: queue::Receiver<Event>,
    handle: Handle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.names.remove(&self.name);
        Handle::tell_later(&self.handle.calls, Input::StreamClosed { stream: self.stream });
    }
}

/// An agent's open connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) messages: queue::Receiver<MasterToAgent>,
    pub(crate) sender: LinkSender,
}

/// The way of an agent's messages to the loop; dropping it ends the link.
#[derive(Debug)]
pub(crate) struct LinkSender {
    link: LinkId,
    handle: Handle,
}

impl LinkSender {
    pub(crate) async fn send(&self, message: AgentToMaster) -> Result<(), Gone> {
        let input = Input::AgentMessage { link: self.link, message: Box::new(message) };
        self.handle.agents.send(Message::Input(input)).await.map_err(|_| Gone)
    }
}

impl Drop for LinkSender {
    fn drop(&mut self) {
        Handle::tell_later(&self.handle.agents, Input::LinkClosed { link: self.link });
    }
}
