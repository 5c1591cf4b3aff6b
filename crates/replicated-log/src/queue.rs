//! Proposals on their way to the log's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::ProposeError;

/// Largest payload of one proposal: it must fit into one message between masters, with room to spare.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// Most proposals that may wait, by number and by the bytes of their payloads. Far above what the log
/// leaves waiting while the disk keeps up.
pub const MAX_QUEUED: usize = 65_536;
pub const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Bytes that one round takes: one batch of the store, one sync.
const ROUND_BYTES: usize = 4 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub token: u64,
    pub payload: Vec<u8>,
}

/// What the thread does next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub proposals: Vec<Proposal>,
    /// The consumer has applied up to here, if that is news.
    pub applied: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    proposals: VecDeque<Proposal>,
    bytes: usize,
    applied: Option<u64>,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn propose(&self, proposal: Proposal) -> Result<(), ProposeError> {
        let bytes = proposal.payload.len();
        if bytes == 0 {
            return Err(ProposeError::Empty);
        }
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(ProposeError::TooLarge { bytes, limit: MAX_PAYLOAD_BYTES });
        }
        let mut state = self.state();
        if state.closed {
            return Err(ProposeError::Stopped);
        }
        if state.proposals.len() >= MAX_QUEUED || state.bytes + bytes > MAX_QUEUED_BYTES {
            return Err(ProposeError::Full);
        }
        state.bytes += bytes;
        state.proposals.push_back(proposal);
        // The thread takes everything at once: later proposals find it woken.
        if state.proposals.len() == 1 {
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Tells how far the consumer has come. Does not wake the thread: it only matters for what it writes next.
    pub fn applied(&self, index: u64) {
        let mut state = self.state();
        state.applied = state.applied.max(Some(index));
    }

    /// Waits for work; `None` once closed. A round takes everything that waits, up to [`ROUND_BYTES`].
    pub fn take(&self) -> Option<Work> {
        let mut state = self.state();
        while state.proposals.is_empty() && !state.closed {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        let mut work = Work { proposals: Vec::new(), applied: state.applied.take() };
        let mut bytes = 0;
        while bytes < ROUND_BYTES {
            let Some(proposal) = state.proposals.pop_front() else { break };
            bytes += proposal.payload.len();
            work.proposals.push(proposal);
        }
        state.bytes -= bytes;
        Some(work)
    }

    /// Ends the queue: what still waits is forgotten, and no more is taken.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.proposals.clear();
        state.bytes = 0;
        drop(state);
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(token: u64, bytes: usize) -> Proposal {
        Proposal { token, payload: vec![1; bytes] }
    }

    #[test]
    fn what_waits_goes_in_one_round_up_to_its_size() {
        let queue = Queue::default();
        for token in 0..3 {
            queue.propose(proposal(token, ROUND_BYTES / 2)).expect("there is room");
        }
        queue.applied(7);
        queue.applied(5);
        let work = queue.take().expect("open");
        assert_eq!(
            work.proposals.iter().map(|proposal| proposal.token).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!(work.applied, Some(7));
        let work = queue.take().expect("open");
        assert_eq!((work.proposals.len(), work.applied), (1, None));
    }

    #[test]
    fn a_proposal_that_cannot_be_taken_is_answered_with_its_reason() {
        let queue = Queue::default();
        assert_eq!(queue.propose(proposal(0, 0)), Err(ProposeError::Empty));
        let too_large =
            ProposeError::TooLarge { bytes: MAX_PAYLOAD_BYTES + 1, limit: MAX_PAYLOAD_BYTES };
        assert_eq!(queue.propose(proposal(0, MAX_PAYLOAD_BYTES + 1)), Err(too_large));
        for token in 0..4 {
            queue.propose(proposal(token, MAX_PAYLOAD_BYTES)).expect("there is room");
        }
        assert_eq!(queue.propose(proposal(4, 1)), Err(ProposeError::Full));
        assert_eq!(queue.take().expect("open").proposals.len(), 1);
        queue.propose(proposal(4, 1)).expect("there is room again");
        queue.close();
        assert_eq!(queue.propose(proposal(5, 1)), Err(ProposeError::Stopped));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn the_number_of_waiting_proposals_is_bounded() {
        let queue = Queue::default();
        for token in 0..MAX_QUEUED as u64 {
            queue.propose(proposal(token, 1)).expect("there is room");
        }
        assert_eq!(queue.propose(proposal(0, 1)), Err(ProposeError::Full));
    }
}
