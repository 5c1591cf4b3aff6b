//! One stream: its queue, its timer and what it remembers.

use std::collections::VecDeque;
use std::time::Duration;

use mezzo_types::Uuid16;

/// How many acknowledged uuids a living stream remembers, to tell a repeated update or a repeated
/// acknowledgement from a wrong one. A sender repeats what it has in flight, which is little.
pub const REMEMBERED_ACKNOWLEDGEMENTS: usize = 32;

/// One update, and whatever its owner wants back when it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<B> {
    pub uuid: Uuid16,
    /// Nothing can follow it; its acknowledgement ends the stream.
    pub terminal: bool,
    pub body: B,
}

#[derive(Debug)]
pub(crate) struct Stream<B> {
    /// The first one is in flight.
    pub(crate) queue: VecDeque<Update<B>>,
    /// Oldest first.
    pub(crate) acknowledged: VecDeque<Uuid16>,
    /// A terminal update was handed in.
    pub(crate) ending: bool,
    /// Wait that follows the next sending.
    pub(crate) wait: Duration,
    /// Monotonic time of the next sending; set while an update is in flight on a connection.
    pub(crate) due_ns: Option<u64>,
}

impl<B> Stream<B> {
    pub(crate) fn new(wait: Duration) -> Self {
        Stream {
            queue: VecDeque::new(),
            acknowledged: VecDeque::new(),
            ending: false,
            wait,
            due_ns: None,
        }
    }

    pub(crate) fn knows(&self, uuid: Uuid16) -> bool {
        self.acknowledged.contains(&uuid) || self.queue.iter().any(|update| update.uuid == uuid)
    }

    pub(crate) fn remember(&mut self, uuid: Uuid16) {
        if self.acknowledged.len() == REMEMBERED_ACKNOWLEDGEMENTS {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back(uuid);
    }
}
