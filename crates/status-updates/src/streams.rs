//! All streams of one sender.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;

use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{Now, Uuid16};

use crate::backoff::Backoff;
use crate::stream::{Stream, Update};

/// The streams of one sender to one receiver. `K` names a stream, `B` is what travels.
#[derive(Debug)]
pub struct UpdateStreams<K, B> {
    pub(crate) backoff: Backoff,
    pub(crate) connected: bool,
    pub(crate) streams: BTreeMap<K, Stream<B>>,
    /// (due, stream) of every stream with a timer.
    pub(crate) timers: BTreeSet<(u64, K)>,
    pub(crate) effects: VecDeque<Effect<K, B>>,
}

/// What the owner must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<K, B> {
    Send { stream: K, update: Update<B> },
}

/// What became of an update that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// It was handed in before.
    Duplicate,
}

/// Why an update was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error("the stream already has its terminal update")]
    AfterTerminal,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The update left the queue; the stream goes on.
    Advanced,
    /// It was the terminal update: the stream is over and forgotten.
    Closed,
    /// The update was acknowledged before.
    Duplicate,
}

/// An acknowledgement that acknowledges nothing: to be dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAcknowledgement {
    #[error("there is no such stream of updates")]
    UnknownStream,
    #[error("no update waits for an acknowledgement")]
    NothingInFlight,
    #[error("update {in_flight} waits for its acknowledgement, not {acknowledged}")]
    WrongUuid { in_flight: Uuid16, acknowledged: Uuid16 },
}

impl<K: Ord + Clone + Debug, B: Clone> UpdateStreams<K, B> {
    pub fn new(backoff: Backoff) -> Self {
        UpdateStreams {
            backoff,
            connected: false,
            streams: BTreeMap::new(),
            timers: BTreeSet::new(),
            effects: VecDeque::new(),
        }
    }

    /// Hands an update in; its stream begins with its first one.
    ///
    /// # Errors
    /// The stream already has its terminal update and this is another one.
    pub fn push(&mut self, now: Now, key: K, update: Update<B>) -> Result<Pushed, PushError> {
        let first_wait = self.backoff.first;
        let stream = self.streams.entry(key.clone()).or_insert_with(|| Stream::new(first_wait));
        if stream.knows(update.uuid) {
            return Ok(Pushed::Duplicate);
        }
        if stream.ending {
            return Err(PushError::AfterTerminal);
        }
        stream.ending = update.terminal;
        stream.queue.push_back(update);
        if stream.queue.len() == 1 {
            self.send_first(now, &key);
        }
        Ok(Pushed::Queued)
    }

    /// The receiver has the update with this uuid for good.
    ///
    /// # Errors
    /// The uuid is not that of the update in flight (nor of one that was acknowledged before).
    pub fn acknowledge(
        &mut self,
        now: Now,
        key: &K,
        uuid: Uuid16,
    ) -> Result<Acknowledged, InvalidAcknowledgement> {
        let stream = self.streams.get_mut(key).ok_or(InvalidAcknowledgement::UnknownStream)?;
        if stream.acknowledged.contains(&uuid) {
            return Ok(Acknowledged::Duplicate);
        }
        let first = stream.queue.front().ok_or(InvalidAcknowledgement::NothingInFlight)?;
        if first.uuid != uuid {
            let in_flight = first.uuid;
            return Err(InvalidAcknowledgement::WrongUuid { in_flight, acknowledged: uuid });
        }
        let terminal = first.terminal;
        stream.queue.pop_front();
        stream.remember(uuid);
        stream.wait = self.backoff.first;
        if let Some(due) = stream.due_ns.take() {
            self.timers.remove(&(due, key.clone()));
        }
        if terminal {
            self.streams.remove(key);
            return Ok(Acknowledged::Closed);
        }
        self.send_first(now, key);
        Ok(Acknowledged::Advanced)
    }

    /// The receiver can be reached (anew): everything in flight leaves at once.
    pub fn connected(&mut self, now: Now) {
        self.disconnected();
        self.connected = true;
        let keys: Vec<K> = self.streams.keys().cloned().collect();
        if is_on(Bug::UpdatesNotResent) {
            return;
        }
        for key in keys {
            self.send_first(now, &key);
        }
    }

    /// The receiver cannot be reached: nothing is sent and no timer runs.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.timers.clear();
        self.effects.clear();
        for stream in self.streams.values_mut() {
            stream.due_ns = None;
            stream.wait = self.backoff.first;
        }
    }

    /// Drops a stream with everything in it. Returns whether there was one.
    pub fn forget(&mut self, key: &K) -> bool {
        let Some(stream) = self.streams.remove(key) else { return false };
        if let Some(due) = stream.due_ns {
            self.timers.remove(&(due, key.clone()));
        }
        self.effects.retain(|Effect::Send { stream, .. }| stream != key);
        true
    }

    /// Sends again what has waited long enough.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((due, key)) = self.timers.first().cloned() {
            if !now.reached(due) {
                break;
            }
            self.timers.remove(&(due, key.clone()));
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.due_ns = None;
            }
            self.send_first(now, &key);
        }
    }

    /// Monotonic time, in nanoseconds, at which [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub fn poll_effect(&mut self) -> Option<Effect<K, B>> {
        self.effects.pop_front()
    }

    /// What a stream still has to deliver, in order; the first one is in flight. Empty for a
    /// stream that does not exist.
    pub fn pending(&self, key: &K) -> impl Iterator<Item = &Update<B>> {
        self.streams.get(key).into_iter().flat_map(|stream| &stream.queue)
    }

    /// Whether a stream has, or lately had, the update with this uuid.
    pub fn knows(&self, key: &K, uuid: Uuid16) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.knows(uuid))
    }

    pub fn contains(&self, key: &K) -> bool {
        self.streams.contains_key(key)
    }

    /// Number of living streams.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Sends the first update of a stream, if there is one and someone to send it to, and sets its
    /// timer.
    fn send_first(&mut self, now: Now, key: &K) {
        if !self.connected {
            return;
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let newest = is_on(Bug::UpdatesOutOfOrder);
        let next = if newest { stream.queue.back() } else { stream.queue.front() };
        let Some(update) = next else { return };
        self.effects.push_back(Effect::Send { stream: key.clone(), update: update.clone() });
        let due = now.plus(stream.wait);
        stream.wait = self.backoff.after(stream.wait);
        stream.due_ns = Some(due);
        self.timers.insert((due, key.clone()));
    }
}
