//! The log as its consumer sees it, crashed wherever it can be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mezzo_store::{Batch, Layout, Store};
use prost_raft::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};
use tempfile::TempDir;

use crate::effect::Effect;
use crate::node::Node;
use crate::queue::Proposal;
use crate::{Config, FAMILIES, Log, LogEvent, StartError};

const MACHINE: &str = "machine";

fn open(dir: &Path) -> Store {
    Store::open(dir, &Layout::new("test", 1, FAMILIES.into_iter().chain([MACHINE]))).expect("opens")
}

/// A consumer: keeps each payload under its index, and the applied index, in one batch, as a master does.
struct Machine {
    store: Store,
    node: Node,
    applied: u64,
    events: Vec<String>,
}

impl Machine {
    fn try_start(dir: &Path, config: &Config) -> Result<Self, StartError> {
        let store = open(dir);
        let applied = store
            .get(MACHINE, "applied")
            .expect("reads")
            .map_or(0, |value| u64::from_be_bytes(value.try_into().expect("eight bytes")));
        let node = Node::open(store.clone(), config, applied)?;
        let mut machine = Self { store, node, applied, events: Vec::new() };
        machine.drive();
        machine.node.campaign().expect("campaigns");
        machine.drive();
        Ok(machine)
    }

    fn start(dir: &Path, retain_bytes: u64) -> Self {
        Self::try_start(dir, &Config { retain_bytes, ..Config::new(1) }).expect("starts")
    }

    fn propose(&mut self, token: u64) {
        let mut events = Vec::new();
        let payload = format!("payload {token}").into_bytes();
        self.node.propose(Proposal { token, payload }, &mut |effect| events.push(effect));
        self.take(events);
    }

    fn drive(&mut self) {
        let mut events = Vec::new();
        self.node.drive(&mut |effect| events.push(effect)).expect("goes on");
        self.take(events);
        self.node.check_invariants();
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            // There are no others in a group of one.
            let Effect::Tell(event) = effect else { continue };
            self.events.push(match event {
                LogEvent::Leader { term } => format!("leader in {term}"),
                LogEvent::NotLeader { leader } => format!("not leader but {leader:?}"),
                LogEvent::Committed { index, term, payload, token } => {
                    assert!(index > self.applied, "entry {index} came after {}", self.applied);
                    self.applied = index;
                    let applied = Batch::new()
                        .put(MACHINE, index.to_be_bytes(), payload.clone())
                        .put(MACHINE, "applied", index.to_be_bytes());
                    self.store.write(applied).expect("writes");
                    let payload = String::from_utf8(payload).expect("text");
                    format!("{index} in {term} is {payload} of {token:?}")
                }
                LogEvent::Dropped { token, reason } => format!("dropped {token}: {reason:?}"),
                other => panic!("{other:?}"),
            });
        }
    }

    /// Drops applied entries if the log has grown beyond its size.
    fn compact(&mut self) {
        self.node.applied(self.applied).expect("writes");
        self.node.check_invariants();
    }

    fn payloads(&self) -> Vec<String> {
        let mut payloads = BTreeMap::new();
        for item in self.store.scan(MACHINE, "") {
            let (key, value) = item.expect("reads");
            if *key != *b"applied" {
                payloads.insert(key, String::from_utf8(value.into_vec()).expect("text"));
            }
        }
        payloads.into_values().collect()
    }
}

fn expected(tokens: std::ops::Range<u64>) -> Vec<String> {
    tokens.map(|token| format!("payload {token}")).collect()
}

#[test]
fn a_group_of_one_leads_at_once_and_commits_in_order() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), u64::MAX);
    assert_eq!(machine.events, ["leader in 1"]);
    for token in [7, 8] {
        machine.propose(token);
    }
    machine.drive();
    machine.propose(9);
    machine.drive();
    let lines = [
        "2 in 1 is payload 7 of Some(7)",
        "3 in 1 is payload 8 of Some(8)",
        "4 in 1 is payload 9 of Some(9)",
    ];
    assert_eq!(machine.events[1..], lines);
}

#[test]
fn what_waits_together_is_one_sync() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), u64::MAX);
    let before = machine.store.counts().synced_writes;
    for token in 0..10_000 {
        machine.propose(token);
    }
    machine.drive();
    assert_eq!(machine.store.counts().synced_writes - before, 1);
    assert_eq!(machine.payloads().len(), 10_000);
}

#[test]
fn a_restart_delivers_what_was_not_applied_and_then_leads_in_a_new_term() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), u64::MAX);
    (0..4).for_each(|token| machine.propose(token));
    machine.drive();
    let forget = Batch::new().put(MACHINE, "applied", 3_u64.to_be_bytes());
    machine.store.write(forget).expect("writes");
    drop(machine);

    let machine = Machine::start(dir.path(), u64::MAX);
    // Tokens belong to the run that gave them.
    assert_eq!(
        machine.events,
        ["4 in 1 is payload 2 of None", "5 in 1 is payload 3 of None", "leader in 2"]
    );
}

#[test]
fn a_deposed_leader_answers_its_proposals() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), u64::MAX);
    // Appended in term 1, but the term has passed before it is committed.
    machine.propose(1);
    machine.node.depose();
    machine.propose(2);
    machine.drive();
    assert_eq!(machine.events[1..], ["dropped 2: NotLeader", "not leader but None"]);
    machine.node.campaign().expect("campaigns");
    machine.drive();
    assert_eq!(machine.events[3..], ["2 in 1 is payload 1 of Some(1)", "leader in 3"]);
}

#[test]
fn an_entry_of_another_leader_takes_the_place_of_an_uncommitted_one() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), u64::MAX);
    machine.propose(1);
    machine.propose(2);
    let replacement = Entry { index: 2, term: 5, data: b"payload 99".to_vec(), ..Entry::default() };
    let mut append =
        Message { from: 2, to: 1, term: 5, index: 1, log_term: 1, commit: 2, ..Message::default() };
    append.set_msg_type(MessageType::MsgAppend);
    append.entries.push(replacement);
    machine.node.step(&append.encode_to_vec(), &mut |_| {}).expect("raft takes it");
    machine.drive();
    // With an entry of a later term committed, nothing of an earlier one can follow: the second is out, too.
    let lines = [
        "not leader but Some(2)",
        "dropped 1: Overwritten",
        "dropped 2: Overwritten",
        "2 in 5 is payload 99 of None",
    ];
    assert_eq!(machine.events[1..], lines);
    machine.node.campaign().expect("campaigns");
    machine.drive();
    assert_eq!(machine.events[5..], ["leader in 6"]);
    drop(machine);
    assert_eq!(Machine::start(dir.path(), u64::MAX).payloads(), ["payload 99"]);
}

#[test]
fn kept_entries_are_bounded_and_unapplied_ones_are_always_kept() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), 1000);
    for token in 0..500 {
        machine.propose(token);
        machine.drive();
        machine.compact();
        let status = machine.node.status();
        assert!(status.retained_bytes <= 1000, "{status:?}");
    }
    let status = machine.node.status();
    assert!(status.first_index > 400 && status.last_index == 501, "{status:?}");
    // A consumer that stands still keeps its entries.
    let applied = machine.applied;
    (500..600).for_each(|token| machine.propose(token));
    machine.drive();
    machine.node.applied(applied).expect("writes");
    assert_eq!(machine.node.status().first_index, applied + 1);
    machine.compact();
    assert_eq!(machine.node.status().retained_bytes, 0);
    drop(machine);

    // An empty log above its base: the first entry is the new term's.
    let mut machine = Machine::start(dir.path(), 1000);
    assert_eq!(machine.events, ["leader in 2"]);
    machine.propose(600);
    machine.drive();
    assert_eq!(machine.events[1], "603 in 2 is payload 600 of Some(600)");
    assert_eq!(machine.payloads(), expected(0..601));
}

/// Copies a store as `kill -9` leaves it; with `lost`, as a power loss does that takes the last bytes of the
/// write-ahead log.
pub(crate) fn crashed_copy(from: &Path, lost: u64) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("lists").path();
        let target = copy.path().join(path.file_name().expect("a name"));
        fs::copy(&path, &target).expect("copies");
        if path.extension().is_some_and(|extension| extension == "log") {
            let file = fs::OpenOptions::new().write(true).open(&target).expect("opens");
            file.set_len(file.metadata().expect("exists").len().saturating_sub(lost))
                .expect("cuts");
        }
    }
    copy
}

#[test]
fn a_crash_after_any_step_loses_nothing_that_was_delivered() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), 150);
    // The tokens are numbers in order: the next one is how many were delivered.
    for delivered in 0..12 {
        machine.propose(delivered);
        let proposed = crashed_copy(dir.path(), 0);
        machine.drive();
        let committed = crashed_copy(dir.path(), 0);
        machine.compact();
        let compacted = crashed_copy(dir.path(), 0);
        for (copy, least) in
            [(proposed, delivered), (committed, delivered + 1), (compacted, delivered + 1)]
        {
            let mut again = Machine::start(copy.path(), 150);
            assert_eq!(again.payloads(), expected(0..least));
            again.propose(least);
            again.drive();
            again.compact();
            drop(again);
            assert_eq!(Machine::start(copy.path(), 150).payloads(), expected(0..least + 1));
        }
    }
    assert!(machine.node.status().first_index > 5, "compactions were among the steps");
}

#[test]
fn a_power_loss_at_any_byte_leaves_a_log_that_starts() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), 100);
    for token in 0..6 {
        machine.propose(token);
        machine.drive();
        machine.compact();
    }
    let length: u64 = fs::read_dir(dir.path())
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| fs::metadata(path).expect("exists").len())
        .sum();
    let mut seen = std::collections::BTreeSet::new();
    for lost in (0..length).step_by(17) {
        let copy = crashed_copy(dir.path(), lost);
        // Cut before the marker, the store is an interrupted creation, and the log a new one.
        let machine = Machine::start(copy.path(), 100);
        machine.node.check_invariants();
        let payloads = machine.payloads();
        assert_eq!(payloads, expected(0..payloads.len() as u64), "{lost} of {length} bytes lost");
        seen.insert(payloads.len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
}

fn refusal(dir: &Path, node_id: u64) -> String {
    match Machine::try_start(dir, &Config::new(node_id)) {
        Ok(_) => panic!("must not start"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_log_that_does_not_fit_its_state_does_not_start() {
    let dir = TempDir::new().expect("a directory");
    assert!(refusal(dir.path(), 0).contains("number the masters from 1"));
    let mut machine = Machine::start(dir.path(), 10);
    (0..5).for_each(|token| machine.propose(token));
    machine.drive();
    machine.compact();
    let store = machine.store.clone();
    drop(machine);
    let set = |applied: u64| {
        store.write(Batch::new().put(MACHINE, "applied", applied.to_be_bytes())).expect("writes");
    };
    let check = |node_id: u64, part: &str| {
        let config = Config::new(node_id);
        let applied = store.get(MACHINE, "applied").expect("reads").expect("set");
        let applied = u64::from_be_bytes(applied.try_into().expect("eight bytes"));
        let error = Node::open(store.clone(), &config, applied)
            .map(drop)
            .expect_err("must not start")
            .to_string();
        assert!(error.contains(part), "{error}");
    };
    check(2, "belongs to the group of nodes [1], not to node 2 alone");
    set(5);
    check(1, "applied up to entry 5, but the log begins at entry 7");
    set(7);
    check(1, "applied up to entry 7, but the log ends at entry 6");
    set(6);
    store.write(Batch::new().put(FAMILIES[1], 8_u64.to_be_bytes(), [])).expect("writes");
    check(1, "entry 0 is filed under");
    store.write(Batch::new().put(FAMILIES[1], 8_u64.to_be_bytes(), [0x18, 0x08])).expect("writes");
    check(1, "entry 8 follows where 7 should");
    store
        .write(Batch::new().delete(FAMILIES[1], 8_u64.to_be_bytes()).delete(FAMILIES[0], "base"))
        .expect("writes");
    check(1, "only some are there (true, true, false)");
}

#[test]
fn a_log_from_before_groups_had_more_nodes_opens_as_it_is() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), u64::MAX);
    (0..3).for_each(|token| machine.propose(token));
    machine.drive();
    let batch = Batch::new().delete(FAMILIES[0], "node").delete(FAMILIES[0], "group");
    machine.store.write(batch).expect("writes");
    drop(machine);
    assert!(
        refusal(dir.path(), 2).contains("belongs to the group of nodes [1], not to node 2 alone")
    );
    let machine = Machine::start(dir.path(), u64::MAX);
    assert_eq!(machine.events, ["leader in 2"]);
    assert_eq!(machine.payloads(), expected(0..3));
    let group = machine.node.group();
    assert!(group.is_some(), "it has an id from now on");
    drop(machine);
    assert_eq!(Machine::start(dir.path(), u64::MAX).node.group(), group);
}

#[test]
fn founders_that_do_not_fit_do_not_found() {
    let state = crate::StateFamilies { families: vec![MACHINE], applied: (MACHINE, b"applied") };
    let check = |founders: &[u64], state: Option<crate::StateFamilies>, part: &str| {
        let dir = TempDir::new().expect("a directory");
        let config = Config { founders: founders.to_vec(), state, ..Config::new(1) };
        let error = Node::open(open(dir.path()), &config, 0).map(drop).expect_err("must not start");
        assert!(error.to_string().contains(part), "{error}");
    };
    check(&[1, 2, 2], Some(state.clone()), "name each once");
    check(&[2, 3], Some(state.clone()), "is not among the founders");
    check(&[1, 0], Some(state.clone()), "number the masters from 1");
    check(&[1, 2, 3, 4, 5, 6, 7, 8], Some(state.clone()), "name fewer");
    check(&[1, 2, 3], None, "where the state is");
    let own = crate::StateFamilies { families: vec![FAMILIES[0]], ..state.clone() };
    check(&[1, 2, 3], Some(own), "the log's own");
    check(
        &[1],
        Some(crate::StateFamilies { families: vec![], ..state.clone() }),
        "not part of the state",
    );
    // A founder's store is nobody else's.
    let dir = TempDir::new().expect("a directory");
    let config = |node_id| Config {
        founders: vec![1, 2, 3],
        state: Some(state.clone()),
        ..Config::new(node_id)
    };
    drop(Node::open(open(dir.path()), &config(1), 0).expect("founds"));
    let error = Node::open(open(dir.path()), &config(2), 0).map(drop).expect_err("must not start");
    assert!(error.to_string().contains("belongs to node 1, not to node 2"), "{error}");
    // Nor is a log that one node founded: to the others' leader it would claim entries that are not theirs.
    let dir = TempDir::new().expect("a directory");
    let alone = Config { founders: vec![1], ..config(1) };
    drop(Node::open(open(dir.path()), &alone, 0).expect("founds"));
    let error = Node::open(open(dir.path()), &config(1), 0).map(drop).expect_err("must not start");
    assert!(error.to_string().contains("add them as learners"), "{error}");
    drop(Node::open(open(dir.path()), &alone, 0).expect("goes on alone"));
}

#[test]
fn what_raft_would_die_of_is_not_taken() {
    use prost_raft::Message as _;
    use raft::eraftpb::{Entry, Message, MessageType};

    let state = crate::StateFamilies { families: vec![MACHINE], applied: (MACHINE, b"applied") };
    let dir = TempDir::new().expect("a directory");
    let config = Config { founders: vec![1, 2, 3], state: Some(state), ..Config::new(1) };
    let mut node = Node::open(open(dir.path()), &config, 0).expect("founds");
    let mut step = |kind: MessageType, change: &dyn Fn(&mut Message)| {
        let mut message = Message { to: 1, from: 2, term: 2, ..Message::default() };
        message.set_msg_type(kind);
        change(&mut message);
        let stepped = node.step(&message.encode_to_vec(), &mut |_| {});
        node.drive(&mut |_| {}).expect("goes on");
        stepped
    };
    let entry = |index, term| Entry { index, term, ..Entry::default() };
    type Case<'a> = (MessageType, &'a dyn Fn(&mut Message));
    let refused: [Case<'_>; 7] = [
        (MessageType::MsgHeartbeat, &|message| message.term = u64::MAX),
        (MessageType::MsgHeartbeat, &|message| message.commit = 7),
        (MessageType::MsgAppend, &|message| message.index = 9),
        (MessageType::MsgAppend, &|message| {
            (message.index, message.log_term) = (1, 1);
            message.entries = vec![entry(2, 2), entry(4, 2)];
        }),
        (MessageType::MsgAppend, &|message| {
            (message.index, message.log_term) = (1, 1);
            message.entries = vec![entry(2, 3)];
        }),
        (MessageType::MsgAppend, &|message| {
            (message.index, message.log_term) = (u64::MAX, 1);
            message.entries = vec![entry(0, 2)];
        }),
        (MessageType::MsgAppendResponse, &|message| message.index = u64::MAX),
    ];
    for (at, (kind, change)) in refused.into_iter().enumerate() {
        let error = step(kind, change).expect_err("not taken");
        assert!(matches!(error, crate::MessageError::Unsound { from: 2, .. }), "{at}: {error}");
    }
    step(MessageType::MsgAppend, &|message| {
        (message.index, message.log_term) = (1, 1);
        message.entries = vec![entry(2, 2), entry(3, 2)];
    })
    .expect("taken");
    assert_eq!((node.status().last_index, node.status().term), (3, 2));
}

/// Reads events until the one with `token` is committed; returns all tokens committed on the way.
fn until(events: &mut crate::Events, token: u64) -> Vec<Option<u64>> {
    let mut tokens = Vec::new();
    loop {
        match events.blocking_recv().expect("goes on") {
            LogEvent::Committed { token: committed, .. } => {
                tokens.push(committed);
                if committed == Some(token) {
                    return tokens;
                }
            }
            LogEvent::Leader { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits for the end of the events, after which the store is free.
fn finish(log: Log, mut events: crate::Events) {
    drop(log);
    while let Some(event) = events.blocking_recv() {
        assert!(!matches!(event, LogEvent::Failed { .. }), "{event:?}");
    }
}

#[test]
fn the_thread_coalesces_what_gathers_behind_it() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let (log, mut events) = Log::start(store.clone(), &Config::new(1), 0).expect("starts");
    for token in 0..6000 {
        log.propose(token, vec![1; 10]).expect("there is room");
    }
    assert_eq!(until(&mut events, 5999).len(), 6000);
    finish(log, events);

    // The replay of 6000 events does not fit into the channel: the thread stands until somebody reads.
    let before = store.counts().synced_writes;
    let (log, mut events) = Log::start(store.clone(), &Config::new(1), 0).expect("starts");
    for token in 0..10_000 {
        log.propose(token, vec![1; 10]).expect("there is room");
    }
    let tokens = until(&mut events, 9999);
    let replayed = std::iter::repeat_n(None, 6000);
    assert!(tokens.into_iter().eq(replayed.chain((0..10_000).map(Some))), "all, once, in order");
    // One for the new term and one for all proposals.
    assert_eq!(store.counts().synced_writes - before, 2);
    assert_eq!(log.status().leading, Some(2));
    finish(log, events);
}

#[test]
fn the_end_of_the_events_is_the_end_of_the_log() {
    let dir = TempDir::new().expect("a directory");
    let (log, mut events) = Log::start(open(dir.path()), &Config::new(1), 0).expect("starts");
    log.propose(1, b"x".to_vec()).expect("there is room");
    assert_eq!(until(&mut events, 1), [Some(1)]);
    let other = log.clone();
    drop(log);
    other.propose(2, b"y".to_vec()).expect("a clone keeps it running");
    assert_eq!(until(&mut events, 2), [Some(2)]);
    finish(other, events);
    drop(open(dir.path()));

    // A consumer that goes away stops the log too; the next proposal finds out.
    let (log, events) = Log::start(open(dir.path()), &Config::new(1), 0).expect("starts");
    drop(events);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // Until it has found out, proposals may even fill the queue.
    while log.propose(3, b"z".to_vec()) != Err(crate::ProposeError::Stopped) {
        assert!(std::time::Instant::now() < deadline, "the log goes on without a consumer");
        std::thread::yield_now();
    }
}

#[test]
fn only_term_and_vote_and_entries_wait_for_the_disk() {
    let dir = TempDir::new().expect("a directory");
    let mut machine = Machine::start(dir.path(), 1);
    let before = machine.store.counts();
    machine.propose(1);
    machine.drive();
    machine.compact();
    let after = machine.store.counts();
    assert_eq!(after.synced_writes - before.synced_writes, 1);
    // The entry; the machine's own record; the compaction.
    assert_eq!(after.writes - before.writes, 3);
}
