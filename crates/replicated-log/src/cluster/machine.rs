//! One node with its consumer.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use mezzo_store::{Batch, Layout, Store};
use prost_raft::Message as _;
use raft::eraftpb::MessageType;

use crate::effect::{Effect, Recipient};
use crate::node::Node;
use crate::records;
use crate::{Config, FAMILIES, GroupId, LogError, LogEvent, StateFamilies};

use super::checks::Checks;

pub(super) const STATE: &str = "machine";
pub(super) const META: &str = "machine_meta";
pub(super) const APPLIED: &[u8] = b"applied";

pub(super) fn config(node_id: u64, founders: &[u64], seed: u64) -> Config {
    Config {
        founders: founders.to_vec(),
        state: Some(StateFamilies { families: vec![STATE, META], applied: (META, APPLIED) }),
        heartbeat_ticks: 2,
        election_ticks: 10,
        seed,
        group_if_founded: GroupId([node_id as u8; 16]),
        ..Config::new(node_id)
    }
}

pub(super) fn layout() -> Layout {
    Layout::new("test", 1, FAMILIES.into_iter().chain([STATE, META]))
}

/// Entries that the consumer's state consists of: older ones go, so that a state is not only ever more.
pub(super) const KEPT: usize = 8;

/// What leaves a machine.
#[derive(Debug)]
pub(super) enum Out {
    Message { to: u64, bytes: Vec<u8> },
    State(Recipient),
}

pub(super) struct Machine {
    pub id: u64,
    pub store: Store,
    pub node: Node,
    /// Told and not applied yet, as in the channel between log and consumer.
    inbox: VecDeque<(u64, Vec<u8>)>,
    pub applied: u64,
    /// The last entry that the consumer was told.
    pub delivered: u64,
    pub leads: bool,
    pub removed: bool,
    /// In short what the consumer was told, for the trace.
    pub told: Vec<String>,
}

/// The process was killed in the midst of its work.
pub(super) struct Killed;

impl Machine {
    pub fn open(dir: &Path, config: &Config) -> Self {
        let store = Store::open(dir, &layout()).expect("opens");
        let applied = applied_in(&store);
        let node = Node::open(store.clone(), config, applied).expect("starts");
        Self {
            id: config.node_id,
            store,
            node,
            inbox: VecDeque::new(),
            applied,
            delivered: applied,
            leads: false,
            removed: false,
            told: Vec::new(),
        }
    }

    /// Does something to the node and drives it. Returns what has left the process, and whether it lives: it is killed at
    /// the `kill_at`-th effect.
    pub fn act(
        &mut self,
        checks: &mut Checks,
        kill_at: Option<usize>,
        action: impl FnOnce(&mut Node, &mut dyn FnMut(Effect)) -> Result<(), LogError>,
    ) -> (Vec<Out>, bool) {
        let mut out = Vec::new();
        let mut count = 0;
        let Self { id, store, node, inbox, applied, delivered, leads, removed, told } = self;
        let mut emit = |effect| {
            count += 1;
            if kill_at.is_some_and(|kill_at| count >= kill_at) {
                resume_unwind(Box::new(Killed));
            }
            let event = match effect {
                Effect::Send { to, message } => {
                    rests_on_the_disk(store, &message);
                    return out.push(Out::Message { to, bytes: message });
                }
                Effect::SendState(recipient) => return out.push(Out::State(recipient)),
                Effect::Tell(event) => event,
            };
            told.push(format!("{id}: {event:?}"));
            match event {
                LogEvent::Leader { term } => {
                    checks.leader(*id, term);
                    *leads = true;
                }
                LogEvent::NotLeader { .. } => *leads = false,
                LogEvent::Committed { index, term, payload, token } => {
                    assert!(index > *delivered, "{index} came after {delivered}");
                    *delivered = index;
                    checks.committed(*id, index, term, &payload, token);
                    inbox.push_back((index, payload));
                }
                LogEvent::Dropped { token, reason } => checks.dropped(*id, token, reason),
                LogEvent::Uncertain { token } => checks.uncertain(*id, token),
                LogEvent::ReadIndex { token, index } => {
                    checks.read_answered(*id, token, index, *delivered);
                }
                LogEvent::Members { .. } => {}
                LogEvent::Removed => *removed = true,
                LogEvent::Restoring { hold } => {
                    while apply_one(store, inbox, applied) {}
                    hold.release();
                }
                LogEvent::Restored { index } => {
                    let found = applied_in(store);
                    assert!(found <= index && found >= *applied, "{found}, {index}, {applied}");
                    checks.state(*id, found, &state_in(store));
                    checks.restored += 1;
                    (*applied, *delivered) = (found, found);
                }
                LogEvent::Failed { error } => panic!("{error:?}"),
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            action(node, &mut emit).and_then(|()| node.drive(&mut emit)).expect("goes on");
        }));
        match outcome {
            Ok(()) => (out, true),
            Err(panic) if panic.is::<Killed>() => (out, false),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Applies one entry that was told; whether there was one.
    pub fn apply(&mut self) -> bool {
        apply_one(&self.store, &mut self.inbox, &mut self.applied)
    }

    pub fn state(&self) -> BTreeMap<u64, Vec<u8>> {
        state_in(&self.store)
    }
}

/// What a message says must be on the disk already when it leaves: the term, a vote, entries that are confirmed.
fn rests_on_the_disk(store: &Store, message: &[u8]) {
    let message = raft::eraftpb::Message::decode(message).expect("raft's own");
    let known = records::load_state(store).expect("reads").expect("there is a log");
    let (term, vote) = (known.hard_state.term, known.hard_state.vote);
    match message.get_msg_type() {
        // These name a term that is only thought of.
        MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => {}
        // A node that waits for its state promises nothing.
        MessageType::MsgAppendResponse if known.conf_state.voters.is_empty() => {}
        _ => assert!(message.term <= term, "its term is not on the disk: {message:?}"),
    }
    match message.get_msg_type() {
        MessageType::MsgRequestVote => assert_eq!(vote, message.from, "it votes for itself"),
        MessageType::MsgRequestVoteResponse if !message.reject => {
            assert_eq!((term, vote), (message.term, message.to), "its vote is not on the disk");
        }
        MessageType::MsgAppendResponse if !message.reject && message.index > known.base.index => {
            let entry = records::entry(store, message.index).expect("reads");
            assert!(entry.is_some(), "entry {} is not on the disk", message.index);
        }
        _ => {}
    }
}

fn apply_one(store: &Store, inbox: &mut VecDeque<(u64, Vec<u8>)>, applied: &mut u64) -> bool {
    let Some((index, payload)) = inbox.pop_front() else { return false };
    let mut batch = Batch::new().put(STATE, index.to_be_bytes(), payload).put(
        META,
        APPLIED,
        index.to_be_bytes(),
    );
    let kept = state_in(store);
    if let Some((oldest, _)) = kept.first_key_value().filter(|_| kept.len() >= KEPT) {
        batch.add_delete(STATE, oldest.to_be_bytes());
    }
    store.write_derived(batch).expect("writes");
    *applied = index;
    true
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

pub(super) fn applied_in(store: &Store) -> u64 {
    store.get(META, APPLIED).expect("reads").map_or(0, |value| number(&value))
}

pub(super) fn state_in(store: &Store) -> BTreeMap<u64, Vec<u8>> {
    store
        .scan(STATE, b"")
        .map(|item| {
            let (key, value) = item.expect("reads");
            (number(&key), value.into_vec())
        })
        .collect()
}
