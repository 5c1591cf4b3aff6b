//! What the driver wants done.

use crate::event::LogEvent;

/// One thing for whoever drives a [`Node`](crate::node::Node) to do, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    Tell(LogEvent),

    /// Send `message`, raft's own bytes, to node `to`. What it relies on is on the disk. It may be lost, repeated,
    /// delayed; raft copes.
    Send {
        to: u64,
        message: Vec<u8>,
    },

    /// Send the state itself, beside raft: see [`crate::source`]. The outcome goes to
    /// [`Node::state_sent`](crate::node::Node::state_sent).
    SendState(Recipient),
}

/// Whom a state goes to, and in whose name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub to: u64,
    pub from: u64,
    /// The leader's term: a receiver that knows of a later one refuses.
    pub term: u64,
}

/// Where effects go.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Effect);
