//! Random at length, and a few things that chance seldom does.

use super::run::{Cluster, for_seeds};
use crate::random::Random;
use crate::spool::Spool;
use crate::{Change, Role};

const STEPS: u64 = 600;

/// What may happen, drawn from the seed.
fn storm(seed: u64) -> Cluster {
    let mut chance = Random::new(seed ^ 0x5eed);
    let founders: &[u64] = match chance.below(4) {
        0 => &[1],
        1 | 2 => &[1, 2, 3],
        _ => &[1, 2, 3, 4, 5],
    };
    let retain = [60, 300, 3000][chance.below(3) as usize];
    let mut cluster = Cluster::new(founders, seed, retain);
    // Clocks do not agree; in every third run one of them nearly stands.
    let slow = (chance.below(3) == 0).then(|| 1 + chance.below(founders.len() as u64));
    cluster.network.lost_percent = chance.below(3) * 5;
    cluster.network.repeated_percent = chance.below(3) * 5;
    for _ in 0..STEPS {
        one_step(&mut cluster, &mut chance, slow);
    }
    cluster
}

fn one_step(cluster: &mut Cluster, chance: &mut Random, slow: Option<u64>) {
    let alive = cluster.alive();
    let all: Vec<u64> = cluster.seats.keys().copied().collect();
    let one = chance.pick(&alive).unwrap_or(1);
    let leaders = cluster.leaders();
    let leader = chance.pick(&leaders).unwrap_or(one);
    match chance.below(100) {
        0..45 => {
            for _ in 0..4 {
                if let Some(message) = cluster.network.take(chance) {
                    cluster.deliver(message);
                }
            }
        }
        45..65 => {
            for id in alive {
                if chance.percent(if slow == Some(id) { 10 } else { 85 }) {
                    cluster.tick(id);
                }
            }
        }
        65..69 => (0..chance.below(5)).for_each(|_| cluster.tick(one)),
        69..77 => cluster.propose(if chance.percent(90) { leader } else { one }),
        77..81 => cluster.read(leader),
        81..88 => alive.iter().for_each(|id| cluster.apply(*id, 3)),
        88..91 => {
            let count = cluster.network.transfers.len() as u64;
            if count > 0 {
                let place = chance.below(count) as usize;
                (0..4).for_each(|_| cluster.carry(place));
            }
        }
        91 => {
            if chance.percent(50) {
                cluster.kill(one);
            } else {
                cluster.kill_at = Some(1 + chance.below(4) as usize);
            }
        }
        92 | 93 => cluster.start(chance.pick(&all).unwrap_or(1)),
        94 => cut(cluster, chance, &all),
        95 => cluster.network.cuts.clear(),
        96 | 97 => change(cluster, chance, leader, &all),
        98 => {
            let to = chance.pick(&all).unwrap_or(1);
            cluster.act(leader, |node, _| {
                // Whoever cannot lead is refused.
                let _ = node.transfer_leader(to);
                Ok(())
            });
        }
        _ => {
            let ticks = 1 + chance.below(2) as usize;
            cluster.act(one, |node, _| {
                node.forget_leader(ticks);
                Ok(())
            });
        }
    }
}

/// Cuts one node off, both ways or one, or one way between two.
fn cut(cluster: &mut Cluster, chance: &mut Random, all: &[u64]) {
    let (Some(one), Some(other)) = (chance.pick(all), chance.pick(all)) else { return };
    let kind = chance.below(4);
    let others: Vec<u64> = if kind == 3 { vec![other] } else { all.to_vec() };
    for other in others {
        if kind != 1 {
            cluster.network.cuts.insert((one, other));
        }
        if kind != 2 {
            cluster.network.cuts.insert((other, one));
        }
    }
}

fn change(cluster: &mut Cluster, chance: &mut Random, leader: u64, all: &[u64]) {
    let Some(node) = chance.pick(all) else { return };
    match chance.below(5) {
        0 | 1 if all.len() < 6 => {
            let new = all.len() as u64 + 1;
            cluster.add(new, &[]);
            cluster.change(leader, Change::AddLearner(new));
        }
        2 => cluster.change(leader, Change::AddLearner(node)),
        3 => cluster.change(leader, Change::Remove(node)),
        _ => all.iter().for_each(|node| cluster.change(leader, Change::Promote(*node))),
    }
}

/// Runs of which a failure prints the seed; `MEZZO_LOG_SEEDS=from..to` chooses others.
const SEEDS: std::ops::Range<u64> = 0..120;

fn seeds() -> std::ops::Range<u64> {
    let Ok(chosen) = std::env::var("MEZZO_LOG_SEEDS") else { return SEEDS };
    let (from, to) = chosen.split_once("..").expect("from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn whatever_happens_nothing_committed_is_lost_and_peace_comes() {
    // Two at a time: each waits for its stores now and then.
    let halves = std::thread::scope(|scope| {
        [0, 1]
            .map(|half| {
                scope.spawn(move || {
                    let mut totals = [0; 3];
                    for_seeds(seeds().filter(|seed| seed % 2 == half), |seed| {
                        let mut cluster = storm(seed);
                        cluster.settle();
                        totals[0] += cluster.checks.log.len() as u64;
                        totals[1] += cluster.checks.restored;
                        totals[2] += cluster.checks.answered_reads;
                    });
                    totals
                })
            })
            .map(|half| half.join().expect("see the seed above"))
    });
    let least = seeds().count() as u64;
    let totals = [0, 1, 2].map(|place| halves[0][place] + halves[1][place]);
    assert!(
        totals[0] > 10 * least && totals[1] > least / 10 && totals[2] > 2 * least,
        "little happened: {totals:?} entries, restored states and reads"
    );
    println!("{totals:?} entries, restored states and reads");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut cluster = storm(seed);
        cluster.settle();
        cluster.trace
    };
    for seed in [3, 4] {
        let (first, second) = (run(seed), run(seed));
        assert!(first.len() > 100);
        let differs = first.iter().zip(&second).position(|(one, other)| one != other);
        assert_eq!((differs, first.len()), (None, second.len()), "seed {seed}");
    }
}

#[test]
fn a_group_of_one_becomes_three_and_its_first_node_leaves() {
    let mut cluster = Cluster::new(&[1], 7, 200);
    cluster.settle();
    for id in [2, 3] {
        cluster.add(id, &[]);
        assert_eq!(cluster.machine(id).expect("alive").node.status().role, Role::Joining);
        let leader = cluster.leaders()[0];
        cluster.change(leader, Change::AddLearner(id));
        cluster.settle();
        cluster.change(leader, Change::Promote(id));
        cluster.settle();
    }
    let status = cluster.machine(1).expect("alive").node.status();
    assert_eq!((status.role, status.voters), (Role::Leader, vec![1, 2, 3]));
    // The leader cannot be taken out: it hands over first.
    cluster.change(1, Change::Remove(1));
    cluster.act(1, |node, _| {
        node.transfer_leader(2).expect("2 is heard of");
        Ok(())
    });
    cluster.settle();
    assert_eq!(cluster.leaders(), [2]);
    cluster.change(2, Change::Remove(1));
    cluster.settle();
    let first = cluster.machine(1).expect("alive");
    assert!(first.removed, "it is told");
    assert_eq!(first.node.status().role, Role::Removed);
    let term = first.node.status().term;
    (0..100).for_each(|_| cluster.tick(1));
    assert_eq!(cluster.machine(1).expect("alive").node.status().term, term, "it is quiet");
    cluster.kill(1);
    cluster.start(1);
    assert!(cluster.machine(1).expect("alive").removed, "it is told again");
}

/// Three nodes that have agreed on something, and who leads them.
fn three(retain_bytes: u64) -> (Cluster, u64, [u64; 2]) {
    let mut cluster = Cluster::new(&[1, 2, 3], 17, retain_bytes);
    cluster.settle();
    let leader = cluster.leaders()[0];
    let followers = [1 + leader % 3, 1 + (leader + 1) % 3];
    (cluster, leader, followers)
}

fn isolate(cluster: &mut Cluster, node: u64) {
    for other in [1, 2, 3] {
        cluster.network.cuts.insert((node, other));
        cluster.network.cuts.insert((other, node));
    }
}

/// Delivers everything that is on its way and can get through.
fn deliver_all(cluster: &mut Cluster) {
    while let Some(message) = cluster.network.take_first() {
        if !cluster.network.cuts.contains(&(message.from, message.to)) {
            cluster.deliver(message);
        }
    }
}

/// The connection to the leader broke at both others: one of them leads within two ticks, long before the lease is over.
fn lead_without(cluster: &mut Cluster, leader: u64, followers: [u64; 2]) {
    isolate(cluster, leader);
    for (ticks, id) in [1, 2].into_iter().zip(followers) {
        cluster.act(id, |node, _| {
            node.forget_leader(ticks);
            Ok(())
        });
    }
    cluster.tick(followers[0]);
    deliver_all(cluster);
    assert!(cluster.leaders().contains(&followers[0]), "{:?}", cluster.leaders());
}

#[test]
fn a_forgotten_leader_is_replaced_within_its_lease() {
    let (mut cluster, leader, followers) = three(1000);
    lead_without(&mut cluster, leader, followers);
    cluster.propose(followers[0]);
    deliver_all(&mut cluster);
    let answered = cluster.checks.open.get(&followers[0]).is_none_or(|open| open.is_empty());
    assert!(answered, "a majority commits");
    cluster.settle();
}

#[test]
fn a_leader_that_others_hear_keeps_its_lead() {
    let (mut cluster, leader, [one, _]) = three(1000);
    let term = cluster.machine(leader).expect("alive").node.status().term;
    // Only one of them has lost its connection.
    cluster.act(one, |node, _| {
        node.forget_leader(1);
        Ok(())
    });
    for _ in 0..30 {
        cluster.alive().into_iter().for_each(|id| cluster.tick(id));
        deliver_all(&mut cluster);
    }
    let status = cluster.machine(leader).expect("alive").node.status();
    assert_eq!((status.leading, cluster.leaders()), (Some(term), vec![leader]));
    assert_eq!(cluster.machine(one).expect("alive").node.status().leader, Some(leader));
}

#[test]
fn a_leader_that_does_not_know_of_its_successor_answers_no_read() {
    let (mut cluster, leader, followers) = three(1000);
    lead_without(&mut cluster, leader, followers);
    cluster.propose(followers[0]);
    deliver_all(&mut cluster);
    let answered = cluster.checks.answered_reads;
    cluster.read(leader);
    deliver_all(&mut cluster);
    assert!(cluster.leaders().contains(&leader), "it has not heard yet");
    assert_eq!(cluster.checks.answered_reads, answered);
    cluster.settle();
}

#[test]
fn proposals_that_a_taken_state_may_contain_are_uncertain() {
    let (mut cluster, leader, followers) = three(60);
    cluster.propose(leader);
    let token = *cluster.checks.open[&leader].first().expect("just proposed");
    // It reaches the others, and their answers do not reach the leader.
    cluster.network.cuts.extend(followers.map(|id| (id, leader)));
    deliver_all(&mut cluster);
    lead_without(&mut cluster, leader, followers);
    for _ in 0..6 {
        cluster.propose(followers[0]);
        deliver_all(&mut cluster);
        followers.into_iter().for_each(|id| cluster.apply(id, usize::MAX));
    }
    cluster.settle();
    assert!(cluster.checks.uncertain.contains(&token));
}

#[test]
fn a_node_of_another_group_takes_no_state() {
    let (mut cluster, leader, [one, _]) = three(1000);
    let recipient = crate::effect::Recipient { to: one, from: leader, term: 5 };
    let config = cluster.seats[&leader].config.clone();
    let machine = cluster.machine(leader).expect("alive");
    let mut frames = Vec::new();
    crate::source::send_state(
        &machine.store,
        config.state.as_ref().expect("known"),
        recipient,
        &mut |frame| {
            frames.push(frame);
            Ok(())
        },
    )
    .expect("reads");
    let config = cluster.seats[&one].config.clone();
    let store = cluster.machine(one).expect("alive").store.clone();
    let other = Some(crate::GroupId([77; 16]));
    let refused = |group, frame: &[u8]| {
        Spool::begin(&store, &config, group, frame).map(drop).expect_err("refused").to_string()
    };
    assert!(
        refused(other, &frames[0]).contains("belongs to group"),
        "{}",
        refused(other, &frames[0])
    );
    assert!(refused(None, &frames[1]).contains("header"));
    // A frame that is lost, or changed, is noticed at the end.
    let mut spool = Spool::begin(&store, &config, None, &frames[0]).expect("begins");
    let end = frames.last().expect("there is an end");
    assert!(spool.add(end).expect_err("refused").to_string().contains("checksum"));
}
