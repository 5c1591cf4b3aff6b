//! Death at every step of what must not be done by halves: taking over a state, and changing the members. Raft 0.7 never
//! starts again when hard state, members and the bounds of the log do not fit each other.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::path::Path;
use std::rc::Rc;

use tempfile::TempDir;

use super::machine::{Killed, Machine};
use super::run::Cluster;
use crate::Change;
use crate::fault::on_step;
use crate::tests::crashed_copy;

/// Leaves what the store in `dir` looks like at the `nth` time that `step` is passed, with the process killed there.
fn die_at(step: &'static str, nth: u32, dir: &Path) -> Rc<Cell<Option<TempDir>>> {
    let left = Rc::new(Cell::new(None));
    let (slot, dir) = (Rc::clone(&left), dir.to_owned());
    let mut passed = 0;
    on_step(Some(Box::new(move |name| {
        passed += u32::from(name == step);
        if name == step && passed == nth {
            slot.set(Some(crashed_copy(&dir, 0)));
            resume_unwind(Box::new(Killed));
        }
    })));
    left
}

/// The dead node's store is what death has left of it.
fn revive(cluster: &mut Cluster, id: u64, left: &Cell<Option<TempDir>>, step: &str) {
    on_step(None);
    let dir = left.take().unwrap_or_else(|| panic!("{step} was not passed"));
    assert!(cluster.machine(id).is_none(), "{step}: it was killed");
    cluster.seats.get_mut(&id).expect("known").dir = dir;
    cluster.settle();
}

/// Three nodes, of which the third has missed more than the others keep.
fn with_one_behind() -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3], 11, 100);
    cluster.settle();
    cluster.kill(3);
    for _ in 0..10 {
        for leader in cluster.leaders() {
            cluster.propose(leader);
        }
        run_until(&mut cluster, |cluster| cluster.checks.open.values().all(|open| open.is_empty()));
    }
    cluster.checks.restored = 0;
    cluster
}

/// Ticks and delivers until `done`.
fn run_until(cluster: &mut Cluster, done: impl Fn(&Cluster) -> bool) {
    for _ in 0..500 {
        if done(cluster) {
            return;
        }
        cluster.alive().into_iter().for_each(|id| cluster.tick(id));
        while let Some(message) = cluster.network.take_first() {
            cluster.deliver(message);
        }
        if !cluster.network.transfers.is_empty() {
            cluster.carry(0);
        }
        cluster.alive().into_iter().for_each(|id| cluster.apply(id, usize::MAX));
    }
    panic!("it does not come");
}

#[test]
fn a_death_at_any_step_of_taking_over_a_state_leaves_a_node_that_starts_and_catches_up() {
    for step in [
        "state.frame.spooled",
        "state.spooled",
        "state.restoring",
        "state.released",
        "state.installing",
        "state.installed",
        "state.restored",
    ] {
        let mut cluster = with_one_behind();
        let left = die_at(step, 1, cluster.seats[&3].dir.path());
        cluster.start(3);
        run_until(&mut cluster, |cluster| !cluster.alive().contains(&3));
        revive(&mut cluster, 3, &left, step);
        assert!(
            cluster.checks.restored > 0 || step == "state.installed" || step == "state.restored"
        );
    }
}

#[test]
fn a_power_loss_at_any_byte_of_a_taken_state_leaves_the_old_one_or_the_new_one() {
    let mut cluster = with_one_behind();
    cluster.start(3);
    run_until(&mut cluster, |cluster| cluster.checks.restored > 0);
    let seat = &cluster.seats[&3];
    let logs = std::fs::read_dir(seat.dir.path())
        .expect("lists")
        .map(|entry| entry.expect("lists").path());
    let length: u64 = logs
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| std::fs::metadata(path).expect("exists").len())
        .sum();
    let mut applied = std::collections::BTreeSet::new();
    for lost in (0..length.min(3000)).step_by(61) {
        let copy = crashed_copy(seat.dir.path(), lost);
        let machine = Machine::open(copy.path(), &seat.config);
        machine.node.check_invariants();
        cluster.checks.state(3, machine.applied, &machine.state());
        applied.insert(machine.applied);
    }
    assert!(applied.len() > 1, "both were seen: {applied:?}");
}

#[test]
fn a_death_at_any_step_of_a_change_of_the_members_leaves_a_group_that_goes_on() {
    for step in ["members.changing", "members.changed"] {
        // At the leader first, then at a follower.
        for nth in [1, 2] {
            let mut cluster = Cluster::new(&[1, 2, 3], 5, 1000);
            cluster.settle();
            cluster.add(4, &[]);
            let leader = cluster.leaders()[0];
            let victim = if nth == 1 { leader } else { 1 + leader % 3 };
            let left = die_at(step, nth, cluster.seats[&victim].dir.path());
            cluster.change(leader, Change::AddLearner(4));
            run_until(&mut cluster, |cluster| cluster.alive().len() < 4);
            if cluster.machine(victim).is_some() {
                // Another follower was the second to pass: what was left is of the wrong node.
                on_step(None);
                continue;
            }
            revive(&mut cluster, victim, &left, step);
            let status = cluster.machine(victim).expect("alive").node.status();
            assert_eq!(status.learners, [4]);
        }
    }
}
