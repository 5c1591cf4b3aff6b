//! What always holds.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::UpdateStreams;

/// An invariant that does not hold: a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("stream {stream}: an update follows the terminal one")]
    AfterTerminal { stream: String },
    #[error("stream {stream}: two updates have the uuid {uuid}")]
    RepeatedUuid { stream: String, uuid: String },
    #[error("stream {stream}: its timer is {timer:?} but the list of timers says otherwise")]
    Timer { stream: String, timer: Option<u64> },
    #[error("stream {stream}: an update is in flight on a connection but nothing will repeat it")]
    NoBackstop { stream: String },
    #[error("there are {timers} timers for {armed} streams that wait")]
    StrayTimers { timers: usize, armed: usize },
}

impl<K: Ord + Clone + Debug, B: Clone> UpdateStreams<K, B> {
    /// Checks every stream: O(updates). For tests and simulations.
    ///
    /// # Errors
    /// The first thing found that must never be.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        let mut armed = 0;
        for (key, stream) in &self.streams {
            let name = || format!("{key:?}");
            let last = stream.queue.len().wrapping_sub(1);
            if stream.queue.iter().enumerate().any(|(at, update)| update.terminal && at != last) {
                return Err(Violation::AfterTerminal { stream: name() });
            }
            let mut seen = BTreeSet::new();
            let queued = stream.queue.iter().map(|update| update.uuid);
            for uuid in stream.acknowledged.iter().copied().chain(queued) {
                if !seen.insert(uuid) {
                    return Err(Violation::RepeatedUuid { stream: name(), uuid: uuid.to_string() });
                }
            }
            if let Some(due) = stream.due_ns {
                armed += 1;
                if !self.timers.contains(&(due, key.clone())) || stream.queue.is_empty() {
                    return Err(Violation::Timer { stream: name(), timer: stream.due_ns });
                }
            }
            if self.connected && !stream.queue.is_empty() && stream.due_ns.is_none() {
                return Err(Violation::NoBackstop { stream: name() });
            }
        }
        if armed != self.timers.len() {
            return Err(Violation::StrayTimers { timers: self.timers.len(), armed });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mezzo_types::{Now, Uuid16};

    use super::*;
    use crate::{Backoff, Update};

    /// What the check says of a sound pair of streams after `ruin`.
    fn check(ruin: impl FnOnce(&mut UpdateStreams<u8, ()>)) -> Result<(), Violation> {
        let mut streams = UpdateStreams::new(Backoff::default());
        streams.connected(Now::default());
        for (key, uuid, terminal) in [(1, 1, false), (1, 2, true), (2, 3, false)] {
            let update = Update { uuid: Uuid16([uuid; 16]), terminal, body: () };
            streams.push(Now::default(), key, update).unwrap();
        }
        ruin(&mut streams);
        streams.check_invariants()
    }

    #[test]
    fn what_is_broken_on_purpose_is_noticed() {
        assert_eq!(check(|_| {}), Ok(()));
        let stream = || "1".to_owned();
        assert_eq!(
            check(|streams| {
                let queue = &mut streams.streams.get_mut(&1).unwrap().queue;
                queue.swap(0, 1);
            }),
            Err(Violation::AfterTerminal { stream: stream() })
        );
        assert_eq!(
            check(|streams| {
                let stream = streams.streams.get_mut(&1).unwrap();
                stream.acknowledged.push_back(Uuid16([2; 16]));
            }),
            Err(Violation::RepeatedUuid { stream: stream(), uuid: Uuid16([2; 16]).to_string() })
        );
        let timer = Some(10_000_000_000);
        assert_eq!(
            check(|streams| streams.timers.clear()),
            Err(Violation::Timer { stream: stream(), timer })
        );
        assert_eq!(
            check(|streams| streams.streams.get_mut(&1).unwrap().due_ns = None),
            Err(Violation::NoBackstop { stream: stream() })
        );
        assert_eq!(
            check(|streams| {
                streams.timers.insert((1, 9));
            }),
            Err(Violation::StrayTimers { timers: 3, armed: 2 })
        );
    }
}
