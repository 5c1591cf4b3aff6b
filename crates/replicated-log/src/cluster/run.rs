//! The loop: first whatever may happen, then peace, in which everything must come to an end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tempfile::TempDir;

use super::checks::{Checks, NO_TOKEN, payload};
use super::machine::{Killed, Machine, Out, config};
use super::network::{Message, Network, Transfer};
use crate::effect::{Effect, Recipient};
use crate::node::Node;
use crate::queue::Proposal;
use crate::random::Random;
use crate::spool::Spool;
use crate::{Change, Config, LogError};

/// A member, alive or dead.
pub(super) struct Seat {
    pub config: Config,
    pub dir: TempDir,
    pub machine: Option<Machine>,
}

pub(super) struct Cluster {
    pub seats: BTreeMap<u64, Seat>,
    pub network: Network,
    pub checks: Checks,
    pub trace: Vec<String>,
    pub chance: Random,
    next_token: u64,
    retain_bytes: u64,
    /// Kill the next machine that acts at this effect.
    pub kill_at: Option<usize>,
}

/// Where stores are put: memory, if there is some to be had as a file system.
pub(super) fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory")
}

impl Cluster {
    pub fn new(founders: &[u64], seed: u64, retain_bytes: u64) -> Self {
        let mut cluster = Self {
            seats: BTreeMap::new(),
            network: Network::default(),
            checks: Checks::default(),
            trace: Vec::new(),
            chance: Random::new(seed),
            next_token: 1,
            retain_bytes,
            kill_at: None,
        };
        for id in founders {
            cluster.add(*id, founders);
        }
        cluster
    }

    /// A new node; with no founders, one that waits to be contacted.
    pub fn add(&mut self, id: u64, founders: &[u64]) {
        let config =
            Config { retain_bytes: self.retain_bytes, ..config(id, founders, self.chance.next()) };
        self.seats.insert(id, Seat { config, dir: directory(), machine: None });
        self.start(id);
    }

    pub fn start(&mut self, id: u64) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.machine.is_none() {
            seat.machine = Some(Machine::open(seat.dir.path(), &seat.config));
            self.trace.push(format!("{id} starts"));
            self.act(id, |_, _| Ok(()));
        }
    }

    fn sent(&mut self, recipient: Recipient, is_whole: bool) {
        self.act(recipient.from, |node, _| {
            node.state_sent(recipient, is_whole);
            Ok(())
        });
    }

    pub fn kill(&mut self, id: u64) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.machine.take().is_some() {
            self.trace.push(format!("{id} dies"));
            self.checks.died(id);
            // Connections break, and what was on its way goes with them.
            let mut sent = Vec::new();
            self.network.transfers.retain(|transfer| {
                let Recipient { to, from, .. } = transfer.recipient;
                let goes = to == id || from == id;
                if goes && from != id {
                    sent.push(transfer.recipient);
                }
                !goes
            });
            for recipient in sent {
                self.sent(recipient, false);
            }
        }
    }

    pub fn machine(&mut self, id: u64) -> Option<&mut Machine> {
        self.seats.get_mut(&id)?.machine.as_mut()
    }

    pub fn alive(&self) -> Vec<u64> {
        let alive = self.seats.iter().filter(|(_, seat)| seat.machine.is_some());
        alive.map(|(id, _)| *id).collect()
    }

    pub fn leaders(&self) -> Vec<u64> {
        let leads = |seat: &Seat| seat.machine.as_ref().is_some_and(|machine| machine.leads);
        self.seats.iter().filter(|(_, seat)| leads(seat)).map(|(id, _)| *id).collect()
    }

    /// Does something at a node and sends what comes of it.
    pub fn act(
        &mut self,
        id: u64,
        action: impl FnOnce(&mut Node, &mut dyn FnMut(Effect)) -> Result<(), LogError>,
    ) {
        let Some(machine) = self.seats.get_mut(&id).and_then(|seat| seat.machine.as_mut()) else {
            return;
        };
        let (outs, lives) = machine.act(&mut self.checks, self.kill_at, action);
        self.trace.append(&mut machine.told);
        if !lives {
            self.kill_at = None;
            self.kill(id);
        }
        for out in outs {
            match out {
                Out::Message { to, bytes } => {
                    let message = Message { from: id, to, bytes };
                    self.network.send(message, &mut self.chance);
                }
                Out::State(recipient) => self.send_state(recipient),
            }
        }
    }

    fn send_state(&mut self, recipient: Recipient) {
        let Recipient { to, from, .. } = recipient;
        let mut frames = Vec::new();
        let is_busy = self.network.transfers.iter().any(|transfer| transfer.recipient.to == to);
        let is_sent = !is_busy
            && self.seats.get(&from).is_some_and(|seat| {
                let (Some(machine), Some(state)) = (&seat.machine, &seat.config.state) else {
                    return false;
                };
                let mut sink = |frame| {
                    frames.push(frame);
                    Ok(())
                };
                crate::source::send_state(&machine.store, state, recipient, &mut sink).is_ok()
            });
        if is_sent {
            self.trace.push(format!("{from} sends its state to {to}"));
            self.network.transfers.push(Transfer { recipient, frames, next: 0, spool: None });
        } else {
            self.sent(recipient, false);
        }
    }

    /// Hands over the next frame of a state.
    pub fn carry(&mut self, place: usize) {
        let Some(transfer) = self.network.transfers.get_mut(place) else { return };
        let Recipient { to, from, .. } = transfer.recipient;
        let is_cut = self.network.cuts.contains(&(from, to));
        let seat = self.seats.get(&to);
        let machine = seat.and_then(|seat| seat.machine.as_ref());
        let frame = transfer.frames.get(transfer.next).cloned().unwrap_or_default();
        transfer.next += 1;
        let added = match (machine, &mut transfer.spool) {
            _ if is_cut => None,
            (Some(_), Some(spool)) => match catch_unwind(AssertUnwindSafe(|| spool.add(&frame))) {
                Ok(added) => added.ok(),
                Err(panic) if panic.is::<Killed>() => return self.kill(to),
                Err(panic) => resume_unwind(panic),
            },
            (Some(machine), none) => {
                let node = &machine.node;
                *none = Spool::begin(&machine.store, node.config(), node.group(), &frame).ok();
                none.as_ref().map(|_| false)
            }
            (None, _) => None,
        };
        if added == Some(false) {
            return;
        }
        let transfer = self.network.transfers.remove(place);
        let is_whole = added == Some(true);
        self.trace.push(format!("the state of {from} for {to}: {is_whole}"));
        if let Some(spool) = transfer.spool.filter(|_| is_whole) {
            self.act(to, |node, emit| node.restore(spool, emit));
        }
        self.sent(transfer.recipient, is_whole);
    }

    pub fn deliver(&mut self, message: Message) {
        let Message { from, to, bytes } = message;
        self.trace.push(format!("{from} -> {to}: {} bytes", bytes.len()));
        self.act(to, |node, emit| {
            // A stranger's answer is no matter.
            let _ = node.step(&bytes, emit);
            Ok(())
        });
    }

    /// The next token, if the node is there to be asked.
    fn token_for(&mut self, id: u64) -> Option<u64> {
        self.machine(id)?;
        self.next_token += 1;
        Some(self.next_token - 1)
    }

    pub fn propose(&mut self, id: u64) {
        let Some(token) = self.token_for(id) else { return };
        self.checks.proposed(id, token);
        self.act(id, |node, emit| {
            node.propose(Proposal { token, payload: payload(token) }, emit);
            Ok(())
        });
    }

    pub fn read(&mut self, id: u64) {
        let Some(token) = self.token_for(id) else { return };
        self.checks.read_asked(id, token);
        self.act(id, |node, emit| {
            node.read_index(token, emit);
            Ok(())
        });
    }

    pub fn change(&mut self, id: u64, change: Change) {
        self.trace.push(format!("{id} is asked for {change:?}"));
        self.act(id, |node, emit| {
            node.propose_change(NO_TOKEN, change, emit);
            Ok(())
        });
    }

    pub fn tick(&mut self, id: u64) {
        self.act(id, |node, _| node.tick());
    }

    pub fn apply(&mut self, id: u64, limit: usize) {
        if let Some(machine) = self.machine(id) {
            for _ in 0..limit {
                if !machine.apply() {
                    break;
                }
            }
            let applied = machine.applied;
            machine.node.applied(applied).expect("writes");
        }
    }

    /// Peace: everybody is there, nothing is lost. Runs until all members have the same, or too long.
    pub fn settle(&mut self) {
        self.network.heal();
        self.kill_at = None;
        for id in self.seats.keys().copied().collect::<Vec<_>>() {
            self.start(id);
        }
        for round in 0..400 {
            for id in self.alive() {
                self.tick(id);
            }
            while let Some(message) = self.network.take_first() {
                self.deliver(message);
            }
            while !self.network.transfers.is_empty() {
                self.carry(0);
            }
            for id in self.alive() {
                self.apply(id, usize::MAX);
            }
            if let [leader] = self.members_that_lead()[..] {
                if round % 5 == 0 && round < 20 {
                    self.propose(leader);
                    self.read(leader);
                } else if self.is_settled(leader) {
                    return self.check_the_end(leader);
                }
            }
        }
        panic!("no peace within 400 rounds");
    }

    /// Leaders that are members still.
    fn members_that_lead(&self) -> Vec<u64> {
        let leads = |id: &u64| {
            let machine = self.seats[id].machine.as_ref();
            machine.is_some_and(|machine| machine.node.status().voters.contains(id))
        };
        self.leaders().into_iter().filter(leads).collect()
    }

    fn is_settled(&self, leader: u64) -> bool {
        let status = self.seats[&leader].machine.as_ref().map(|machine| machine.node.status());
        let Some(status) = status else { return false };
        let members = status.voters.iter().chain(&status.learners);
        let last = status.commit_index;
        members.clone().count() > 0
            && members.into_iter().all(|id| {
                let machine = self.seats[id].machine.as_ref();
                machine.is_some_and(|machine| {
                    machine.node.status().commit_index == last
                        && machine.node.raw.raft.raft_log.applied == last
                })
            })
            && status.last_index == last
    }

    fn check_the_end(&mut self, leader: u64) {
        let status = self.seats[&leader].machine.as_ref().expect("leads").node.status();
        for id in status.voters.iter().chain(&status.learners) {
            let machine = self.seats[id].machine.as_ref().expect("alive");
            self.checks.state(*id, u64::MAX, &machine.state());
            machine.node.check_invariants();
            let known = machine.node.status();
            assert_eq!((&known.voters, &known.learners), (&status.voters, &status.learners));
            assert_eq!(known.group, status.group, "one group has one id");
            assert!(known.group.is_some());
            let open = self.checks.open.get(id);
            assert!(open.is_none_or(|open| open.is_empty()), "{id} owes answers: {open:?}");
        }
        self.checks.at_the_end();
    }
}

/// Runs `check` for each seed; a failure names the seed.
pub(super) fn for_seeds(seeds: impl Iterator<Item = u64>, mut check: impl FnMut(u64)) {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(seed))) {
            eprintln!("failed with seed {seed}");
            resume_unwind(panic);
        }
    }
}
