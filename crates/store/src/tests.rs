//! Behaviour of one open store, and of opening what should not be opened. What needs a second process
//! (locks, `kill -9`, full and read-only file systems) is in `tests/processes.rs`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::{Batch, ClaimError, Layout, OpenError, Salvage, SalvageError, Store};

const NUMBERS: &str = "numbers";
const NAMES: &str = "names";

fn layout() -> Layout {
    Layout::new("test", 2, [NUMBERS, NAMES])
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &layout()).expect("opens")
}

fn keys(store: &Store, family: &str, prefix: &str) -> Vec<String> {
    store
        .scan(family, prefix)
        .map(|item| String::from_utf8(item.expect("reads").0.into_vec()).expect("text"))
        .collect()
}

#[test]
fn a_store_keeps_what_it_was_given() {
    let dir = TempDir::new().expect("a directory");
    let nested = dir.path().join("new/store");
    let store = open(&nested);
    store
        .write(Batch::new().put(NUMBERS, "1", "one").put(NAMES, "1", "other family"))
        .expect("writes");
    store
        .write_synced(Batch::new().put(NUMBERS, "2", "two"))
        .expect("writes")
        .wait()
        .expect("syncs");
    store
        .write_and_sync(Batch::new().delete(NUMBERS, "1").delete(NUMBERS, "never there"))
        .expect("syncs");
    drop(store);

    let store = open(&nested);
    assert_eq!(store.get(NUMBERS, "1").expect("reads"), None);
    assert_eq!(store.get(NUMBERS, "2").expect("reads").as_deref(), Some(&b"two"[..]));
    assert_eq!(store.get(NAMES, "1").expect("reads").as_deref(), Some(&b"other family"[..]));
}

#[test]
fn a_whole_family_is_replaced_in_one_batch() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    assert_eq!(store.last_key(NAMES).expect("reads"), None);
    for key in [&b""[..], b"k", b"\xff\xff"] {
        store.write(Batch::new().put(NAMES, key, "old").put(NUMBERS, key, "old")).expect("writes");
    }
    let last = store.last_key(NAMES).expect("reads").expect("there are three");
    assert_eq!(&*last, b"\xff\xff");
    let mut batch = Batch::new();
    batch.add_delete_range(NAMES, *b"", [&*last, &[0]].concat());
    batch.add_put(NAMES, *b"l", *b"new");
    store.write_and_sync(batch).expect("writes");
    assert_eq!(keys(&store, NAMES, ""), ["l"]);
    assert_eq!(store.scan(NUMBERS, "").count(), 3);
}

#[test]
fn scans_end_with_their_prefix_and_ranges_with_their_end() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let mut batch = Batch::new();
    for key in ["a", "b/", "b/1", "b/2", "b0", "c"] {
        batch.add_put(NAMES, key, "");
    }
    store.write(batch).expect("writes");
    assert_eq!(keys(&store, NAMES, "b/"), ["b/", "b/1", "b/2"]);
    assert_eq!(keys(&store, NAMES, ""), ["a", "b/", "b/1", "b/2", "b0", "c"]);
    assert_eq!(store.range(NAMES, "b/1", "b0").count(), 2);

    let mut batch = Batch::new();
    batch.add_delete_prefix(NAMES, "b/");
    batch.add_put(NAMES, "b/3", "after the delete in the same batch");
    batch.add_delete_range(NAMES, "c", "d");
    store.write(batch).expect("writes");
    assert_eq!(keys(&store, NAMES, ""), ["a", "b/3", "b0"]);
}

#[test]
fn a_snapshot_does_not_move() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    store.write(Batch::new().put(NAMES, "a", "1")).expect("writes");
    let snapshot = store.snapshot();
    store.write(Batch::new().put(NAMES, "a", "2").put(NAMES, "b", "1")).expect("writes");
    assert_eq!(snapshot.get(NAMES, "a").expect("reads").as_deref(), Some(&b"1"[..]));
    assert_eq!(snapshot.scan(NAMES, "").count(), 1);
    assert_eq!(store.scan(NAMES, "").count(), 2);
}

#[test]
fn writers_that_wait_together_share_one_sync() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    // The first round's callback holds the sync thread, so the next group gathers behind it.
    let (held, holds) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    store
        .write_synced_then(Batch::new().put(NUMBERS, "first", ""), move |outcome| {
            outcome.expect("syncs");
            held.send(()).expect("the test waits");
            released.recv().expect("the test releases");
        })
        .expect("writes");
    holds.recv().expect("the first round is over");
    let tickets: Vec<_> = (0..100)
        .map(|number: u32| {
            store
                .write_synced(Batch::new().put(NUMBERS, number.to_be_bytes(), "x"))
                .expect("writes")
        })
        .collect();
    release.send(()).expect("the sync thread waits");
    for ticket in tickets {
        ticket.wait().expect("syncs");
    }
    let counts = store.counts();
    assert_eq!((counts.writes, counts.synced_writes, counts.syncs), (101, 101, 2));
}

#[test]
fn derived_writes_cause_no_sync() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let syncs = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&syncs);
    store.observe_syncs(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    store.write_and_sync(Batch::new().put(NUMBERS, "a", "1")).expect("syncs");
    store.write_derived(Batch::new().put(NUMBERS, "b", "2")).expect("writes");
    assert_eq!(store.get(NUMBERS, "b").expect("reads").as_deref(), Some(&b"2"[..]));
    // At its end a store syncs whatever waits for a sync.
    drop(store);
    assert_eq!(syncs.load(Ordering::Relaxed), 1);
    assert_eq!(keys(&open(dir.path()), NUMBERS, ""), ["a", "b"]);
}

#[test]
fn a_synchronous_writer_takes_the_waiting_ones_along() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let (held, holds) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    store
        .write_synced_then(Batch::new().put(NUMBERS, "first", ""), move |_| {
            held.send(()).expect("the test waits");
            released.recv().expect("the test releases");
        })
        .expect("writes");
    holds.recv().expect("the first round is over");
    let ticket = store.write_synced(Batch::new().put(NUMBERS, "second", "")).expect("writes");
    store.write_and_sync(Batch::new().put(NUMBERS, "third", "")).expect("syncs");
    // The sync thread is still held: only the synchronous writer can have answered this.
    ticket.wait().expect("syncs");
    release.send(()).expect("the sync thread waits");
    assert_eq!(store.counts().syncs, 2);
}

#[test]
fn unsynced_writes_are_flushed_once_and_soon() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    for number in 0..1000_u32 {
        store.write(Batch::new().put(NUMBERS, number.to_be_bytes(), "x")).expect("writes");
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.counts().syncs == 0 {
        assert!(Instant::now() < deadline, "no flush came");
        std::thread::yield_now();
    }
    // A thousand writes took some intervals on a slow machine, never a sync each.
    let counts = store.counts();
    assert_eq!((counts.writes, counts.synced_writes), (1000, 0));
    assert!(counts.syncs < 100, "{counts:?}");
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let (done, finished) = mpsc::channel();
    let last = store.clone();
    store
        .write_synced_then(Batch::new().put(NAMES, "a", "1"), move |outcome| {
            drop(last);
            done.send(outcome).expect("the test waits");
        })
        .expect("writes");
    drop(store);
    assert_eq!(finished.recv().expect("the callback ran"), Ok(()));
}

#[test]
fn a_store_knows_whose_it_is() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    assert_eq!(store.owner().expect("reads"), None);
    store.claim("cluster-1").expect("free to claim");
    store.claim("cluster-1").expect("still ours");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.owner().expect("reads").as_deref(), Some("cluster-1"));
    let error = store.claim("cluster-2").expect_err("taken");
    assert!(matches!(error, ClaimError::Owned(OpenError::OtherOwner { .. })));
    assert!(
        error.to_string().contains("belongs to \"cluster-1\", not to \"cluster-2\""),
        "{error}"
    );
}

fn refusal(dir: &Path, layout: &Layout) -> String {
    let error = Store::open(dir, layout).expect_err("must be refused");
    let text = error.to_string();
    assert!(text.contains(&dir.display().to_string()), "{text}: names the directory");
    text
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("thesis.tex"), "years of work").expect("writes");
    let text = refusal(dir.path(), &layout());
    assert!(text.contains("holds \"thesis.tex\" and no Mezzo store"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);

    let file = dir.path().join("thesis.tex");
    assert!(refusal(&file, &layout()).contains("is a file, not a directory"));
    assert!(refusal(&file.join("below"), &layout()).contains("is a file, not a directory"));

    let other = TempDir::new().expect("a directory");
    let db = rocksdb::DB::open_default(other.path()).expect("opens");
    db.put("some", "thing").expect("writes");
    drop(db);
    assert!(
        refusal(other.path(), &layout())
            .contains("holds \"a RocksDB database\" and no Mezzo store")
    );
}

#[test]
fn a_database_without_any_record_is_a_creation_that_was_interrupted() {
    let dir = TempDir::new().expect("a directory");
    drop(rocksdb::DB::open(&crate::tuning::database(), dir.path()).expect("opens"));
    let store = open(dir.path());
    store.write_and_sync(Batch::new().put(NAMES, "a", "1")).expect("syncs");
}

#[test]
fn kind_and_format_are_checked() {
    let dir = TempDir::new().expect("a directory");
    drop(open(dir.path()));
    let text = refusal(dir.path(), &Layout::new("other", 2, [NUMBERS]));
    assert!(text.contains("is that of Mezzo's test, not of its other"), "{text}");
    let text = refusal(dir.path(), &Layout::new("test", 1, [NUMBERS]));
    assert!(
        text.contains("has format 2, written by a newer Mezzo; this one reads formats up to 1"),
        "{text}"
    );
    // A newer binary opens an older format, and a layout that lacks a family leaves it alone.
    drop(Store::open(dir.path(), &Layout::new("test", 3, [NUMBERS])).expect("opens"));
    drop(open(dir.path()));
}

#[test]
fn a_damaged_store_says_so() {
    let dir = TempDir::new().expect("a directory");
    drop(open(dir.path()));
    for entry in fs::read_dir(dir.path()).expect("lists") {
        let path = entry.expect("lists").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-")) {
            let mut bytes = fs::read(&path).expect("reads");
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
            fs::write(&path, bytes).expect("writes");
        }
    }
    let text = refusal(dir.path(), &layout());
    assert!(text.contains("is damaged; `mezzo test repair` shows what can be saved"), "{text}");
}

#[test]
fn a_second_open_in_the_same_process_is_refused_and_does_not_drop_the_lock() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    for _ in 0..2 {
        let text = refusal(dir.path(), &layout());
        assert!(
            text.contains(&format!("in use by this process (pid {})", std::process::id())),
            "{text}"
        );
    }
    drop(store);
    open(dir.path());
}

/// Copies a store as `kill -9` or a power loss would leave it, with its write-ahead log cut to `length` bytes.
fn copy_with_log_cut(from: &Path, to: &Path, length: u64) {
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("lists").path();
        let target = to.join(path.file_name().expect("a name"));
        fs::copy(&path, &target).expect("copies");
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = fs::OpenOptions::new().write(true).open(&target).expect("opens");
            log.set_len(length.min(log.metadata().expect("exists").len())).expect("cuts");
        }
    }
}

fn log_length(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| fs::metadata(path).expect("exists").len())
        .sum()
}

#[test]
fn a_log_torn_anywhere_yields_a_prefix_of_the_writes() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let before = log_length(dir.path());
    let mut lengths = Vec::new();
    for number in 0..8_u32 {
        let value = vec![number as u8; 40];
        store
            .write(Batch::new().put(NUMBERS, number.to_be_bytes(), value.clone()).put(
                NAMES,
                number.to_be_bytes(),
                value,
            ))
            .expect("writes");
        lengths.push(log_length(dir.path()));
    }
    let end = log_length(dir.path());
    for length in (before..=end).step_by(13).chain(lengths.iter().copied()) {
        let torn = TempDir::new().expect("a directory");
        copy_with_log_cut(dir.path(), torn.path(), length);
        let store = open(torn.path());
        let found = store.scan(NUMBERS, "").count();
        assert_eq!(
            found,
            lengths.iter().filter(|whole| **whole <= length).count(),
            "cut to {length}"
        );
        assert_eq!(store.scan(NAMES, "").count(), found, "a batch lands whole, over families too");
    }
}

/// Copies a store as it lies, with a byte turned in the files whose names begin or end as told.
fn copy_with_byte_turned(from: &Path, to: &Path, name: &str, offset: u64) {
    copy_with_log_cut(from, to, u64::MAX);
    for entry in fs::read_dir(to).expect("lists") {
        let path = entry.expect("lists").path();
        let found = path.file_name().expect("a name").to_string_lossy().into_owned();
        if found.starts_with(name) || found.ends_with(name) {
            let mut bytes = fs::read(&path).expect("reads");
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= 0x55;
            }
            fs::write(&path, bytes).expect("writes");
        }
    }
}

#[test]
fn damage_in_the_midst_of_the_log_is_no_torn_tail() {
    for synced in [true, false] {
        let dir = TempDir::new().expect("a directory");
        let store = open(dir.path());
        let mut ends = vec![log_length(dir.path())];
        for number in 0..8_u32 {
            let batch = Batch::new().put(NUMBERS, number.to_be_bytes(), vec![7; 40]);
            match synced {
                true => store.write_and_sync(batch).expect("syncs"),
                false => store.write(batch).expect("writes"),
            }
            ends.push(log_length(dir.path()));
        }
        if !synced && store.counts().syncs > 0 {
            // The flush came too early on this machine: the log says so, and rightly.
            continue;
        }
        for (number, end) in ends[1..].iter().enumerate() {
            let turned = TempDir::new().expect("a directory");
            copy_with_byte_turned(dir.path(), turned.path(), ".log", end - 10);
            match Store::open(turned.path(), &layout()) {
                Ok(store) => {
                    // Nothing says that the damaged record was on the disk.
                    assert!(!synced || number + 2 >= ends[1..].len(), "{number} was relied on");
                    assert_eq!(store.scan(NUMBERS, "").count(), number);
                }
                Err(error) => {
                    assert!(synced, "{error}");
                    assert!(matches!(error, OpenError::DamagedLog { .. }), "{error:?}");
                    assert!(error.to_string().contains("`mezzo test repair`"), "{error}");
                }
            }
        }
    }
}

/// A store with tables and a log: `NUMBERS` in both, `NAMES` in the log only.
fn filled(dir: &Path) {
    let store = open(dir);
    store.claim("cluster-1").expect("claims");
    for number in 0..500_u32 {
        let value = number.to_string().repeat(20);
        store.write(Batch::new().put(NUMBERS, number.to_be_bytes(), value)).expect("writes");
    }
    drop(store);
    let store = open(dir);
    store
        .write_and_sync(Batch::new().put(NAMES, "a", "1").delete(NUMBERS, 3_u32.to_be_bytes()).put(
            NUMBERS,
            500_u32.to_be_bytes(),
            "500".repeat(20),
        ))
        .expect("syncs");
}

/// What a repair of `dir` keeps of `NUMBERS`, all of it true.
fn saved(dir: &Path) -> usize {
    let salvage = Salvage::read(dir, &layout()).expect("reads");
    assert!(!salvage.damage().is_empty());
    let kept = salvage.replace(dir, &layout()).expect("replaces");
    assert!(kept.join("CURRENT").exists() || kept.is_dir());
    let store = open(dir);
    let mut numbers = 0;
    for item in store.scan(NUMBERS, "") {
        let (key, value) = item.expect("reads");
        let number = u32::from_be_bytes((*key).try_into().expect("a number"));
        assert_eq!(*value, *number.to_string().repeat(20).as_bytes(), "no garbage");
        numbers += 1;
    }
    numbers
}

#[test]
fn without_its_manifest_everything_is_found_again() {
    let dir = TempDir::new().expect("a directory");
    filled(dir.path());
    let turned = TempDir::new().expect("a directory");
    let turned = turned.path().join("store");
    fs::create_dir(&turned).expect("creates");
    copy_with_byte_turned(dir.path(), &turned, "MANIFEST-", 20);
    assert!(matches!(Store::open(&turned, &layout()), Err(OpenError::Damaged { .. })));
    assert_eq!(saved(&turned), 500);
    let store = open(&turned);
    assert_eq!(store.get(NAMES, "a").expect("reads").as_deref(), Some(&b"1"[..]));
    assert_eq!(store.owner().expect("reads").as_deref(), Some("cluster-1"));
}

#[test]
fn a_damaged_table_costs_no_more_than_it_must_and_nothing_is_made_up() {
    let dir = TempDir::new().expect("a directory");
    filled(dir.path());
    for offset in [1000, 9000] {
        let parent = TempDir::new().expect("a directory");
        let turned = parent.path().join("store");
        fs::create_dir(&turned).expect("creates");
        copy_with_byte_turned(dir.path(), &turned, ".sst", offset);
        let numbers = saved(&turned);
        assert!((250..500).contains(&numbers), "byte {offset}: {numbers} of 500 are left");
    }
}

#[test]
fn a_sound_store_is_read_whole_and_one_in_use_is_left_alone() {
    let dir = TempDir::new().expect("a directory");
    filled(dir.path());
    let mut salvage = Salvage::read(dir.path(), &layout()).expect("reads");
    assert_eq!(salvage.damage(), &[] as &[String]);
    assert_eq!(salvage.family(NUMBERS).map(|records| records.len()), Some(500));
    drop(salvage);
    let other = Layout::new("other", 2, [NUMBERS]);
    assert!(matches!(Salvage::read(dir.path(), &other), Err(SalvageError::NotOurs(_))));
    let nothing = TempDir::new().expect("a directory");
    assert!(matches!(Salvage::read(nothing.path(), &layout()), Err(SalvageError::Nothing { .. })));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_store_is_an_ordered_map(steps in prop::collection::vec(step(), 1..60)) {
        let dir = TempDir::new().expect("a directory");
        let mut store = open(dir.path());
        let mut model = std::collections::BTreeMap::new();
        let mut pending = model.clone();
        let mut batch = Batch::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    batch.add_put(NUMBERS, [key], [value]);
                    pending.insert(key, value);
                }
                Step::Delete(key) => {
                    batch.add_delete(NUMBERS, [key]);
                    pending.remove(&key);
                }
                Step::DeleteRange(from, to) => {
                    batch.add_delete_range(NUMBERS, [from], [to]);
                    pending.retain(|key, _| !(from..to).contains(key));
                }
                Step::Commit => {
                    store.write(std::mem::take(&mut batch)).expect("writes");
                    model = pending.clone();
                }
                Step::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
            }
            let found: Vec<(u8, u8)> = store.scan(NUMBERS, "")
                .map(|item| item.expect("reads"))
                .map(|(key, value)| (key[0], value[0]))
                .collect();
            prop_assert_eq!(&found, &model.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>());
        }
    }
}
