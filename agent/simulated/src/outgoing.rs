//! Messages of one agent that wait for its stream. Takes memory while something waits, and hardly any
//! otherwise: a channel of the runtime would hold room for dozens of messages for each agent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use mezzo_proto::internal::v1::AgentToMaster;

/// Messages that may wait. A real agent's bound is the same: all tasks of a machine may have an update
/// to send when the master comes back.
const WAITING_MAX: usize = 16_384;

/// The agent's end. Dropping it ends the stream, both ways.
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Mutex<Shared>>,
}

/// The stream's end: what is sent, in order.
#[derive(Debug)]
pub(crate) struct Messages {
    shared: Arc<Mutex<Shared>>,
}

/// Tells that the agent has dropped its end.
#[derive(Debug)]
pub(crate) struct Ended {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: VecDeque<AgentToMaster>,
    ended: bool,
    sending: Option<Waker>,
    receiving: Option<Waker>,
}

/// The master takes nothing.
#[derive(Debug)]
pub(crate) struct Congested;

pub(crate) fn outgoing() -> (Sender, Messages, Ended) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    let (sending, receiving) = (Arc::clone(&shared), Arc::clone(&shared));
    (Sender { shared }, Messages { shared: sending }, Ended { shared: receiving })
}

impl Sender {
    pub(crate) fn send(&self, message: AgentToMaster) -> Result<(), Congested> {
        let mut shared = lock(&self.shared);
        if shared.waiting.len() >= WAITING_MAX {
            return Err(Congested);
        }
        shared.waiting.push_back(message);
        let waker = shared.sending.take();
        drop(shared);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.ended = true;
        let wakers = [shared.sending.take(), shared.receiving.take()];
        drop(shared);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Stream for Messages {
    type Item = AgentToMaster;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<AgentToMaster>> {
        let mut shared = lock(&self.shared);
        match shared.waiting.pop_front() {
            Some(message) => {
                if shared.waiting.is_empty() {
                    shared.waiting = VecDeque::new();
                }
                Poll::Ready(Some(message))
            }
            None if shared.ended => Poll::Ready(None),
            None => {
                remember(&mut shared.sending, context);
                Poll::Pending
            }
        }
    }
}

impl Ended {
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if shared.ended {
            return Poll::Ready(());
        }
        remember(&mut shared.receiving, context);
        Poll::Pending
    }
}

fn remember(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(known) if known.will_wake(context.waker()) => {}
        other => *other = Some(context.waker().clone()),
    }
}

/// A panic while holding it cannot leave the queue half-written.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use mezzo_proto::internal::v1::{Pong, Unregister, agent_to_master::Message};

    use super::*;

    fn message(message: Message) -> AgentToMaster {
        AgentToMaster { message: Some(message) }
    }

    #[tokio::test]
    async fn what_is_sent_comes_in_order_and_then_the_end() {
        let (sender, messages, ended) = outgoing();
        let reading = tokio::spawn(messages.collect::<Vec<_>>());
        let waiting = tokio::spawn(std::future::poll_fn(move |context| ended.poll(context)));
        sender.send(message(Message::Pong(Pong {}))).unwrap();
        tokio::task::yield_now().await;
        sender.send(message(Message::Unregister(Unregister {}))).unwrap();
        assert!(!waiting.is_finished());
        drop(sender);
        let expected = [Message::Pong(Pong {}), Message::Unregister(Unregister {})].map(message);
        assert_eq!(reading.await.unwrap(), expected);
        waiting.await.unwrap();
    }

    #[test]
    fn it_is_bounded() {
        let (sender, _messages, _ended) = outgoing();
        for _ in 0..WAITING_MAX {
            sender.send(AgentToMaster::default()).unwrap();
        }
        sender.send(AgentToMaster::default()).unwrap_err();
    }
}
