//! Making a log again of what was saved of one.

use std::collections::BTreeMap;

use mezzo_store::Records;
use prost_raft::Message;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, SnapshotMetadata};

use crate::config::GroupId;
use crate::records::{BASE, CONF_INDEX, CONF_STATE, FOUNDERS, GROUP, HARD_STATE, NODE, entry_key};

/// Added to the highest term that is known where the record of the terms is lost: no agent may ever see one
/// term twice, and a lost term is one of the few that followed.
const TERMS_SKIPPED: u64 = 1000;

/// Changes the records of a group of one (as saved from families [`FAMILIES`](crate::FAMILIES)) so that
/// [`Log::start`](crate::Log::start) takes them. `applied` is the last entry in the consumer's state, if that is
/// known; otherwise all entries that are left are delivered again. Returns the index to start with, and a
/// sentence for each thing that was lost. A sound log is left alone.
pub fn mend(
    state: &mut Records,
    entries: &mut Records,
    node_id: u64,
    applied: Option<u64>,
) -> (u64, Vec<String>) {
    let mut lost = Vec::new();
    let hard_state = take::<HardState>(state, HARD_STATE);
    let base = take::<SnapshotMetadata>(state, BASE);
    let sound = decode(entries, &mut lost);
    if applied.is_none() {
        lost.push("the index up to which the log was applied".to_owned());
    }
    let first = sound.keys().next().copied();
    let applied = applied
        .or(base.as_ref().map(|base| base.index))
        .or(first.map(|first| first.saturating_sub(1)))
        .unwrap_or(0);
    // Only what follows without a hole can be delivered.
    let start = base.as_ref().map_or(applied, |base| base.index.min(applied));
    let mut kept: BTreeMap<u64, Entry> = run(&sound, start);
    let mut base_index = start;
    if kept.keys().next_back().copied().unwrap_or(start) < applied {
        kept = run(&sound, applied);
        base_index = applied;
    }
    let left_out = sound.len() - kept.len();
    let behind = sound.range(applied + 1..).filter(|(index, _)| !kept.contains_key(index)).count();
    if behind > 0 {
        lost.push(format!("{behind} entries of the log that come after a lost one"));
    }
    let base_term = base
        .as_ref()
        .filter(|base| base.index == base_index)
        .map(|base| base.term)
        .or(sound.get(&base_index).map(|entry| entry.term))
        .or(kept.values().next().map(|entry| entry.term))
        .or(hard_state.as_ref().map(|hard_state| hard_state.term))
        .unwrap_or(0);
    let highest = kept.values().map(|entry| entry.term).max().unwrap_or(0).max(base_term);
    let last = kept.keys().next_back().copied().unwrap_or(base_index);
    let hard_state = match hard_state {
        Some(mut hard_state) => {
            if hard_state.commit > last {
                let missing = hard_state.commit - last;
                lost.push(format!("the last {missing} entries of the log, which were committed"));
            }
            hard_state.term = hard_state.term.max(highest);
            hard_state.commit = hard_state.commit.clamp(applied, last);
            hard_state
        }
        None => {
            lost.push(
                "the record of the terms: they go on far above the highest that is known"
                    .to_owned(),
            );
            HardState { term: highest + TERMS_SKIPPED, vote: 0, commit: applied }
        }
    };
    if lost.is_empty() && left_out == 0 && base.is_some() && state.contains_key(CONF_STATE) {
        return (applied, lost);
    }
    // Whoever was in the group: from here on this node is alone, and what the kept entries say of members is past.
    let conf_state = ConfState { voters: vec![node_id], ..ConfState::default() };
    if kept.values().any(|entry| entry.entry_type() != EntryType::EntryNormal) {
        state.insert(CONF_INDEX.to_vec(), last.to_be_bytes().to_vec());
    } else {
        state.remove(CONF_INDEX);
    }
    state.insert(NODE.to_vec(), node_id.to_be_bytes().to_vec());
    // Those who were in it go on as another group: they and this node must not take each other for members.
    state.insert(GROUP.to_vec(), GroupId::random().0.to_vec());
    state.remove(FOUNDERS);
    let base = SnapshotMetadata {
        index: base_index,
        term: base_term,
        conf_state: Some(conf_state.clone()),
    };
    state.insert(HARD_STATE.to_owned(), hard_state.encode_to_vec());
    state.insert(CONF_STATE.to_owned(), conf_state.encode_to_vec());
    state.insert(BASE.to_owned(), base.encode_to_vec());
    entries.retain(|key, _| {
        key.as_slice().try_into().is_ok_and(|key| kept.contains_key(&u64::from_be_bytes(key)))
    });
    (applied, lost)
}

fn take<M: Message + Default>(state: &Records, key: &[u8]) -> Option<M> {
    M::decode(state.get(key)?.as_slice()).ok()
}

fn decode(entries: &Records, lost: &mut Vec<String>) -> BTreeMap<u64, Entry> {
    let mut sound = BTreeMap::new();
    for (key, value) in entries {
        match Entry::decode(value.as_slice()) {
            Ok(entry) if *key == entry_key(entry.index) => {
                sound.insert(entry.index, entry);
            }
            _ => lost.push(format!("the entry of the log under {key:02x?}")),
        }
    }
    sound
}

/// The entries from `after + 1` up to the first hole.
fn run(sound: &BTreeMap<u64, Entry>, after: u64) -> BTreeMap<u64, Entry> {
    let mut next = after + 1;
    let mut term = 0;
    let follows = |(index, entry): &(&u64, &Entry)| {
        let follows = **index == next && entry.term >= term;
        next += 1;
        term = entry.term;
        follows
    };
    let run = sound.range(after + 1..).take_while(follows);
    run.map(|(index, entry)| (*index, entry.clone())).collect()
}
