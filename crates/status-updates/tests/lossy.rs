//! A sender and a receiver with a network between them that loses, repeats and breaks, and a sender
//! that dies and starts anew from what it wrote down. First whatever the seed brings, then a sound
//! network: everything must have arrived, in order, and be forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mezzo_status_updates::{Acknowledged, Backoff, Effect, Update, UpdateStreams};
use mezzo_types::{IdSource, Now, Uuid16};
use proptest::prelude::*;

type Key = u8;

struct World {
    seed: IdSource,
    now: Now,
    streams: UpdateStreams<Key, u32>,
    /// What the owner wrote down: updates handed in and not acknowledged.
    stored: BTreeMap<Key, VecDeque<Update<u32>>>,
    /// Next body of each stream; `None` after its terminal update.
    next: BTreeMap<Key, Option<u32>>,
    to_receiver: VecDeque<(Key, Update<u32>)>,
    to_sender: VecDeque<(Key, Uuid16)>,
    /// Bodies in the order of their first arrival.
    received: BTreeMap<Key, Vec<u32>>,
}

const STREAMS: u64 = 5;

impl World {
    fn new(seed: u64) -> Self {
        let mut world = World {
            seed: IdSource::new([seed, 0]),
            now: Now::default(),
            streams: UpdateStreams::new(Backoff::default()),
            stored: BTreeMap::new(),
            next: BTreeMap::new(),
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            received: BTreeMap::new(),
        };
        world.streams.connected(world.now);
        world
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.seed.next_u64() % 100 < percent
    }

    fn push(&mut self, terminal: bool) {
        let key = (self.seed.next_u64() % STREAMS) as Key;
        let Some(body) = *self.next.entry(key).or_insert(Some(0)) else { return };
        let update = Update { uuid: self.seed.next_uuid(), terminal, body };
        self.next.insert(key, (!terminal).then_some(body + 1));
        self.stored.entry(key).or_default().push_back(update.clone());
        self.streams.push(self.now, key, update).unwrap();
    }

    /// The sender dies and starts anew.
    fn restart(&mut self) {
        self.streams = UpdateStreams::new(Backoff::default());
        for (key, updates) in &self.stored {
            for update in updates {
                self.streams.push(self.now, *key, update.clone()).unwrap();
            }
        }
        self.streams.connected(self.now);
    }

    fn exchange(&mut self, loss: u64) {
        while let Some(Effect::Send { stream, update }) = self.streams.poll_effect() {
            if !self.chance(loss) {
                self.to_receiver.push_back((stream, update));
            }
        }
        while let Some((key, update)) = self.to_receiver.pop_front() {
            let bodies = self.received.entry(key).or_default();
            let expected = bodies.len() as u32;
            assert!(update.body <= expected, "{} of {key} before {expected}", update.body);
            if update.body == expected {
                bodies.push(update.body);
            }
            if !self.chance(loss) {
                self.to_sender.push_back((key, update.uuid));
            }
        }
        while let Some((key, uuid)) = self.to_sender.pop_front() {
            match self.streams.acknowledge(self.now, &key, uuid) {
                Ok(Acknowledged::Duplicate) => continue,
                Ok(Acknowledged::Advanced | Acknowledged::Closed) => {
                    let first = self.stored.get_mut(&key).and_then(VecDeque::pop_front).unwrap();
                    assert_eq!(first.uuid, uuid);
                }
                // A late acknowledgement of what was acknowledged already.
                Err(_) => assert!(
                    self.stored.get(&key).is_none_or(|s| s.front().is_none_or(|u| u.uuid != uuid))
                ),
            }
        }
        self.streams.check_invariants().unwrap();
    }

    fn step(&mut self) {
        match self.seed.next_u64() % 10 {
            0..=3 => self.push(false),
            4 => self.push(true),
            5 => self.streams.disconnected(),
            6 => self.streams.connected(self.now),
            7 => self.restart(),
            _ => {
                let seconds = self.seed.next_u64() % 30;
                self.now = self.now.advanced(Duration::from_secs(seconds));
                self.streams.handle_timeout(self.now);
            }
        }
        self.exchange(40);
    }

    fn settle(&mut self) {
        self.streams.connected(self.now);
        loop {
            let before = self.stored.values().map(VecDeque::len).sum::<usize>();
            self.exchange(0);
            if self.stored.values().map(VecDeque::len).sum::<usize>() == before {
                break;
            }
        }
        for (key, next) in &self.next {
            let received = self.received.get(key).map_or(0, Vec::len) as u32;
            match next {
                Some(next) => assert_eq!(received, *next),
                None => assert!(!self.streams.contains(key), "stream {key} is not forgotten"),
            }
        }
        assert!(self.stored.values().all(VecDeque::is_empty));
    }
}

proptest! {
    #[test]
    fn everything_arrives_in_order_whatever_is_lost(seed: u64, steps in 1usize..400) {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        world.settle();
    }
}
