//! How executors' connections talk to the loop: a handle for the API, and the loop's end of their streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mezzo_agent_core::{
    ExecutorAnswer, ExecutorEvent, ExecutorRefusal, ExecutorStreamId, Input, RequestId,
};
use mezzo_proto::v1::executor::{Call, call};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for one executor: more than it is ever given at once. A slower one is cut off, and finds what
/// it missed by subscribing anew.
const STREAM_EVENTS_MAX: usize = 1024;
/// Calls that may wait for the loop; callers beyond that wait on their own connections.
pub(crate) const CALLS_MAX: usize = 1024;

type Answer = Result<ExecutorAnswer, ExecutorRefusal>;

/// What connections tell the loop.
#[derive(Debug)]
pub(crate) enum ExecutorMessage {
    Call {
        call: Box<Call>,
        answer: oneshot::Sender<Answer>,
        /// Of SUBSCRIBE.
        stream: Option<(ExecutorStreamId, mpsc::Sender<ExecutorEvent>)>,
    },
    /// The connection of a stream ended.
    Gone(ExecutorStreamId),
}

/// The loop is gone: the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is shutting down")]
pub(crate) struct Gone;

/// A way to the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ExecutorHandle {
    inbox: mpsc::Sender<ExecutorMessage>,
    next_stream: Arc<AtomicU64>,
}

impl ExecutorHandle {
    /// A handle, and the loop's end of its channel.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ExecutorMessage>) {
        let (inbox, messages) = mpsc::channel(CALLS_MAX);
        (ExecutorHandle { inbox, next_stream: Arc::new(AtomicU64::new(1)) }, messages)
    }

    /// Carries out a call other than SUBSCRIBE.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Gone> {
        self.send(call, None).await
    }

    /// Opens a stream. Events come on the receiver until it closes.
    pub(crate) async fn subscribe(
        &self,
        call: Call,
    ) -> Result<Result<Subscription, ExecutorRefusal>, Gone> {
        debug_assert!(call.r#type() == call::Type::Subscribe);
        let stream = ExecutorStreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let (sender, events) = mpsc::channel(STREAM_EVENTS_MAX);
        // From here on the loop may know of the stream: whatever happens, it hears of the end.
        let subscription = Subscription { stream, events, inbox: self.inbox.clone() };
        let answer = self.send(call, Some((stream, sender))).await?;
        Ok(answer.map(|_| subscription))
    }

    async fn send(
        &self,
        call: Call,
        stream: Option<(ExecutorStreamId, mpsc::Sender<ExecutorEvent>)>,
    ) -> Result<Answer, Gone> {
        let (answer, receiver) = oneshot::channel();
        let message = ExecutorMessage::Call { call: Box::new(call), answer, stream };
        self.inbox.send(message).await.map_err(|_| Gone)?;
        receiver.await.map_err(|_| Gone)
    }
}

/// An executor's open stream; dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    stream: ExecutorStreamId,
    pub(crate) events: mpsc::Receiver<ExecutorEvent>,
    inbox: mpsc::Sender<ExecutorMessage>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (inbox, gone) = (self.inbox.clone(), ExecutorMessage::Gone(self.stream));
        // A destructor cannot wait for room in the queue itself. The loop may be gone, which is an end, too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { inbox.send(gone).await.ok() });
        }
    }
}

/// The loop's end of everything.
#[derive(Debug, Default)]
pub(crate) struct Executors {
    streams: HashMap<ExecutorStreamId, mpsc::Sender<ExecutorEvent>>,
    requests: HashMap<RequestId, oneshot::Sender<Answer>>,
    last_request: u64,
}

impl Executors {
    /// What a message is to the core.
    pub(crate) fn take(&mut self, message: ExecutorMessage) -> Input {
        match message {
            ExecutorMessage::Gone(stream) => {
                self.streams.remove(&stream);
                Input::ExecutorGone { stream }
            }
            ExecutorMessage::Call { call, answer, stream } => {
                self.last_request += 1;
                let request = RequestId(self.last_request);
                self.requests.insert(request, answer);
                let stream = stream.map(|(stream, events)| {
                    self.streams.insert(stream, events);
                    stream
                });
                Input::ExecutorCall { request, stream, call }
            }
        }
    }

    pub(crate) fn answer(&mut self, request: RequestId, answer: Answer) {
        // Who asked may have gone meanwhile.
        if let Some(waiting) = self.requests.remove(&request) {
            let _ = waiting.send(answer);
        }
    }

    /// Hands an event to an executor's connection. `false`: it takes no more, and is cut off.
    pub(crate) fn send(&mut self, stream: ExecutorStreamId, event: ExecutorEvent) -> bool {
        let Some(events) = self.streams.get(&stream) else { return true };
        match events.try_send(event) {
            Ok(()) => true,
            // Its end is on the way to the loop.
            Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(
                    stream = stream.0,
                    "an executor is cut off: {STREAM_EVENTS_MAX} events wait for it and it does not take them"
                );
                self.streams.remove(&stream);
                false
            }
        }
    }

    /// The stream ends once what was sent before has been read.
    pub(crate) fn close(&mut self, stream: ExecutorStreamId) {
        self.streams.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> ExecutorEvent {
        ExecutorEvent::Other(mezzo_proto::v1::executor::Event::default())
    }

    #[tokio::test]
    async fn an_executor_that_does_not_read_is_cut_off() {
        let (handle, mut messages) = ExecutorHandle::new();
        let call = Call { r#type: Some(call::Type::Subscribe as i32), ..Call::default() };
        let subscribing = tokio::spawn(async move { handle.subscribe(call).await });
        let mut executors = Executors::default();
        let input = executors.take(messages.recv().await.unwrap());
        let Input::ExecutorCall { request, stream: Some(stream), .. } = input else {
            panic!("a call comes first: {input:?}")
        };
        executors.answer(request, Ok(ExecutorAnswer::Subscribed));
        let mut subscription = subscribing.await.unwrap().unwrap().unwrap();
        for _ in 0..STREAM_EVENTS_MAX {
            assert!(executors.send(stream, event()));
        }
        assert!(!executors.send(stream, event()), "the queue is full");
        // What was sent before is still there; then the stream ends.
        let mut received = 0;
        while subscription.events.recv().await.is_some() {
            received += 1;
        }
        assert_eq!(received, STREAM_EVENTS_MAX);
        drop(subscription);
        assert!(matches!(
            executors.take(messages.recv().await.unwrap()),
            Input::ExecutorGone { stream: gone } if gone == stream
        ));
    }
}
