//! What is on its way to the log's thread: proposals, messages of other nodes, and what else is asked of it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::effect::Recipient;
use crate::error::ProposeError;
use crate::membership::Change;
use crate::spool::Spool;

/// Largest payload of one proposal: it must fit into one message between masters, with room to spare.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// Most proposals that may wait, by number and by the bytes of their payloads. Far above what the log
/// leaves waiting while the disk keeps up.
pub const MAX_QUEUED: usize = 65_536;
pub const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Bytes that one round takes: one batch of the store, one sync.
const ROUND_BYTES: usize = 4 << 20;

/// Messages of other nodes that may wait, by number and bytes. Raft repeats what is dropped.
const MAX_MESSAGES: usize = 4096;
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// What else may wait, reads above all.
const MAX_ORDERS: usize = 65_536;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub token: u64,
    pub payload: Vec<u8>,
}

/// What is asked of the thread beside proposals.
#[derive(Debug)]
pub(crate) enum Order {
    Read {
        token: u64,
    },
    Change {
        token: u64,
        change: Change,
    },
    Transfer {
        token: u64,
        node_id: u64,
    },
    /// The connection to this node broke and cannot be made again.
    Lost {
        node_id: u64,
    },
    /// Messages to this node were lost.
    Unreachable {
        node_id: u64,
    },
    /// A state has arrived whole.
    State(Spool),
    /// The sending of a state has ended.
    StateSent {
        recipient: Recipient,
        is_whole: bool,
    },
}

/// What the thread does next.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub proposals: Vec<Proposal>,
    pub messages: Vec<Vec<u8>>,
    pub orders: Vec<Order>,
    /// The consumer has applied up to here, if that is news.
    pub applied: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// For those who wait for the end without waiting for work.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    proposals: VecDeque<Proposal>,
    bytes: usize,
    messages: Vec<Vec<u8>>,
    message_bytes: usize,
    orders: Vec<Order>,
    applied: Option<u64>,
    closed: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.proposals.is_empty() && self.messages.is_empty() && self.orders.is_empty()
    }
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
        // The thread takes everything at once: whoever comes later finds it woken.
        let was_idle = state.is_idle();
        state.bytes += bytes;
        state.proposals.push_back(proposal);
        self.wake(state, was_idle);
        Ok(())
    }

    fn wake(&self, state: MutexGuard<'_, State>, was_idle: bool) {
        drop(state);
        if was_idle {
            self.wake.notify_one();
        }
    }

    /// Takes a message of another node, or drops it if too many wait. Whether the log still runs.
    pub fn message(&self, message: Vec<u8>) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let bytes = state.message_bytes + message.len();
        if state.messages.len() < MAX_MESSAGES && bytes <= MAX_MESSAGE_BYTES {
            let was_idle = state.is_idle();
            state.message_bytes = bytes;
            state.messages.push(message);
            self.wake(state, was_idle);
        }
        true
    }

    /// Takes an order of the consumer's.
    pub fn ask(&self, order: Order) -> Result<(), ProposeError> {
        if self.state().orders.len() >= MAX_ORDERS {
            return Err(ProposeError::Full);
        }
        self.order(order)
    }

    /// Takes an order of the network's, of which there are never more than a few for each node.
    pub fn order(&self, order: Order) -> Result<(), ProposeError> {
        let mut state = self.state();
        if state.closed {
            return Err(ProposeError::Stopped);
        }
        let was_idle = state.is_idle();
        state.orders.push(order);
        self.wake(state, was_idle);
        Ok(())
    }

    /// Tells how far the consumer has come. Does not wake the thread: it only matters for what it writes next.
    pub fn applied(&self, index: u64) {
        let mut state = self.state();
        state.applied = state.applied.max(Some(index));
    }

    /// Waits for work, for at most `patience` if there is a limit; nothing at all has come then. `None` once closed. A round
    /// takes everything that waits, of proposals up to [`ROUND_BYTES`].
    pub fn take(&self, patience: Option<Duration>) -> Option<Work> {
        let mut state = self.state();
        let idle = |state: &mut State| state.is_idle() && !state.closed;
        state = match patience {
            None => self.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.wake.wait_timeout_while(state, patience, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if state.closed {
            return None;
        }
        state.message_bytes = 0;
        let mut work = Work {
            proposals: Vec::new(),
            messages: std::mem::take(&mut state.messages),
            orders: std::mem::take(&mut state.orders),
            applied: state.applied.take(),
        };
        let mut bytes = 0;
        while bytes < ROUND_BYTES {
            let Some(proposal) = state.proposals.pop_front() else { break };
            bytes += proposal.payload.len();
            work.proposals.push(proposal);
        }
        state.bytes -= bytes;
        Some(work)
    }

    /// Waits until the queue is closed.
    pub async fn ended(&self) {
        // The sender is here: it does not go while somebody waits.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Ends the queue: what still waits is forgotten, and no more is taken.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.proposals.clear();
        state.bytes = 0;
        state.messages.clear();
        state.message_bytes = 0;
        let orders = std::mem::take(&mut state.orders);
        drop(state);
        drop(orders);
        self.wake.notify_all();
        self.ended.send_replace(true);
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
        let work = queue.take(None).expect("open");
        assert_eq!(
            work.proposals.iter().map(|proposal| proposal.token).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!(work.applied, Some(7));
        let work = queue.take(None).expect("open");
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
        assert_eq!(queue.take(None).expect("open").proposals.len(), 1);
        queue.propose(proposal(4, 1)).expect("there is room again");
        queue.close();
        assert_eq!(queue.propose(proposal(5, 1)), Err(ProposeError::Stopped));
        assert!(queue.take(None).is_none());
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
