//! Where a log stands, for metrics and people.

use crate::config::GroupId;

/// What a node is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Takes what a leader sends, or waits for one.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads, or has just been elected and has not committed anything yet: see [`Status::leading`].
    Leader,
    /// Takes what a leader sends and has no vote.
    Learner,
    /// Is in no group yet, and waits to be contacted.
    Joining,
    /// Was taken out of the group.
    Removed,
}

/// A member of the group as this node, the leader, sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub node_id: u64,
    pub is_voter: bool,
    /// The last entry that it is known to have on its disk.
    pub matched: u64,
    /// It was heard of within the last election timeout.
    pub is_active: bool,
    /// The state itself is on its way to it.
    pub is_sent_state: bool,
}

/// Where a log stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub role: Role,
    /// The highest term that the node has seen.
    pub term: u64,
    /// The leader that the node knows of in that term.
    pub leader: Option<u64>,
    /// The term in which this node leads, if it does.
    pub leading: Option<u64>,
    pub group: Option<GroupId>,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// The other members, by number; empty at a node that does not lead.
    pub peers: Vec<Peer>,
    /// First and last entry that the log keeps; `last + 1 == first` if there is none.
    pub first_index: u64,
    pub last_index: u64,
    pub commit_index: u64,
    /// Bytes of the kept entries.
    pub retained_bytes: u64,
}
