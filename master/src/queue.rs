//! What waits for one peer, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that may wait for one peer, as encoded. One message may be larger: nothing else waits then.
pub(crate) const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Places that an empty queue keeps: after a burst it gives the others back.
const KEPT_ROOM: usize = 64;

/// The loop's end. Dropping it ends the receiver after what waits.
#[derive(Debug)]
pub(crate) struct Sender<M> {
    shared: Arc<Shared<M>>,
    limit: usize,
}

/// The connection's end. Dropping it makes the sender's messages vanish.
#[derive(Debug)]
pub(crate) struct Receiver<M> {
    shared: Arc<Shared<M>>,
}

#[derive(Debug)]
struct Shared<M> {
    waiting: Mutex<Waiting<M>>,
    changed: Notify,
}

#[derive(Debug)]
struct Waiting<M> {
    /// In boxes: a decoded message takes kilobytes wherever it lies, and tens of thousands of queues keep their room.
    messages: VecDeque<(usize, Box<M>)>,
    bytes: usize,
    /// Either end is gone.
    closed: bool,
}

/// The peer is too slow: how much waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A queue of up to `limit` messages.
pub(crate) fn queue<M>(limit: usize) -> (Sender<M>, Receiver<M>) {
    let waiting = Waiting { messages: VecDeque::new(), bytes: 0, closed: false };
    let shared = Arc::new(Shared { waiting: Mutex::new(waiting), changed: Notify::new() });
    (Sender { shared: Arc::clone(&shared), limit }, Receiver { shared })
}

impl<M> Sender<M> {
    /// Queues a message of so many bytes. One for a peer that is gone is dropped: its end is on the
    /// way to the loop.
    pub(crate) fn send(&self, message: Box<M>, bytes: usize) -> Result<(), Full> {
        let mut waiting = self.shared.lock();
        if waiting.closed {
            return Ok(());
        }
        let too_large = waiting.bytes + bytes > QUEUE_BYTES && !waiting.messages.is_empty();
        if waiting.messages.len() >= self.limit || too_large {
            return Err(Full { messages: waiting.messages.len(), bytes: waiting.bytes });
        }
        waiting.bytes += bytes;
        waiting.messages.push_back((bytes, message));
        drop(waiting);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Ends the queue with this instead of all that waits: a peer that is too slow would hold it for
    /// as long as it pleases.
    pub(crate) fn end_with(self, last: Option<Box<M>>) {
        let mut waiting = self.shared.lock();
        if !waiting.closed {
            waiting.messages = last.map(|last| (0, last)).into_iter().collect();
            waiting.bytes = 0;
        }
    }
}

impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl<M> Receiver<M> {
    /// The next message; `None` when there are no more. Loses nothing when it is dropped half-way.
    pub(crate) async fn recv(&mut self) -> Option<Box<M>> {
        loop {
            {
                let mut waiting = self.shared.lock();
                if let Some((bytes, message)) = waiting.messages.pop_front() {
                    waiting.bytes -= bytes;
                    if waiting.messages.is_empty() && waiting.messages.capacity() > KEPT_ROOM {
                        waiting.messages.shrink_to(KEPT_ROOM);
                    }
                    return Some(message);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.shared.changed.notified().await;
        }
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.closed = true;
        waiting.messages = VecDeque::new();
        waiting.bytes = 0;
    }
}

impl<M> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, Waiting<M>> {
        // A panic while holding it cannot leave the queue half-written.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_in_order_until_the_sender_is_gone() {
        let (sender, mut receiver) = queue(8);
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(message) = receiver.recv().await {
                read.push(*message);
            }
            read
        });
        for number in 0..5 {
            sender.send(Box::new(number), 1).expect("room");
            tokio::task::yield_now().await;
        }
        drop(sender);
        assert_eq!(reading.await.expect("ends"), [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn it_is_bounded_in_number_and_in_bytes() {
        let (sender, mut receiver) = queue(2);
        sender.send(Box::new("a"), 1).expect("room");
        sender.send(Box::new("b"), 1).expect("room");
        assert_eq!(sender.send(Box::new("c"), 1), Err(Full { messages: 2, bytes: 2 }));
        let mut next = async || receiver.recv().await.map(|message| *message);
        assert_eq!((next().await, next().await), (Some("a"), Some("b")));
        sender.send(Box::new("larger than all"), QUEUE_BYTES + 1).expect("nothing else waits");
        let full = Full { messages: 1, bytes: QUEUE_BYTES + 1 };
        assert_eq!(sender.send(Box::new("d"), 1), Err(full));
        sender.end_with(Some(Box::new("too slow")));
        assert_eq!(receiver.recv().await.as_deref(), Some(&"too slow"));
        assert_eq!(receiver.recv().await, None);
    }

    #[test]
    fn nothing_is_kept_for_a_peer_that_is_gone() {
        let (sender, receiver) = queue(1);
        sender.send(Box::new(1), 1).expect("room");
        drop(receiver);
        for _ in 0..10 {
            sender.send(Box::new(2), 1).expect("vanishes");
        }
        assert!(sender.shared.lock().messages.is_empty());
    }
}
