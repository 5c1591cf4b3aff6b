//! What is killed when: a function of the seed.

use crate::random::Random;

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Master,
    Agent,
    Launcher,
    /// The first process of some container.
    Init,
    Framework,
}

const ALL: [Target; 5] =
    [Target::Master, Target::Agent, Target::Launcher, Target::Init, Target::Framework];

/// A process kills itself when it comes by here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    pub target: Target,
    pub point: &'static str,
    /// At which time.
    pub hit: u32,
}

/// One act of violence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strike {
    /// All of these at once, so long after the one before.
    Moment { targets: Vec<Target>, after_ms: u64 },
    /// A daemon is started again with a trap in its way.
    Point { trap: Trap },
}

/// A strike, and whether the cluster is let alone afterwards until tasks end again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub strike: Strike,
    pub recovers: bool,
}

/// The daemons that pass a point.
fn passing(point: &str) -> &'static [Target] {
    match point.split('.').next() {
        Some("master" | "raft") => &[Target::Master],
        Some("launcher") => &[Target::Launcher],
        Some("store") => &[Target::Master, Target::Agent],
        _ => &[Target::Agent],
    }
}

/// An endless schedule.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    points: Vec<&'static str>,
    /// Points not yet used in this round of all.
    left: Vec<&'static str>,
}

impl Schedule {
    pub fn new(seed: u64, points: &[&'static str]) -> Self {
        let random = Random::new(seed, 0);
        Schedule { random, points: points.to_vec(), left: Vec::new() }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let recovers = self.random.percent(70);
        // Half of all strikes are at points, each of which has its turn.
        if !self.points.is_empty() && self.random.percent(50) {
            if self.left.is_empty() {
                self.left.clone_from(&self.points);
                self.random.shuffle(&mut self.left);
            }
            let hit = if self.random.percent(50) { 1 } else { self.random.between(2, 20) as u32 };
            let point = self.left.pop()?;
            let target = *self.random.choose(passing(point))?;
            let trap = Trap { target, point, hit };
            return Some(Step { strike: Strike::Point { trap }, recovers });
        }
        let count = *self.random.choose(&[1, 1, 1, 2, 2, 3, 5])?;
        let mut targets = ALL.to_vec();
        self.random.shuffle(&mut targets);
        targets.truncate(count);
        targets.sort_unstable();
        let after_ms = self.random.between(0, 250);
        Some(Step { strike: Strike::Moment { targets, after_ms }, recovers })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_a_schedule_and_every_point_has_its_turn() {
        let points = ["master.a", "agent.b", "launcher.c"];
        let steps: Vec<Step> = Schedule::new(3, &points).take(100).collect();
        assert_eq!(steps, Schedule::new(3, &points).take(100).collect::<Vec<_>>());
        assert_ne!(steps, Schedule::new(4, &points).take(100).collect::<Vec<_>>());
        let used: BTreeSet<&str> = steps
            .iter()
            .filter_map(|step| match &step.strike {
                Strike::Point { trap } => Some(trap.point),
                Strike::Moment { .. } => None,
            })
            .collect();
        assert_eq!(used, BTreeSet::from(points));
        assert!(
            Schedule::new(3, &[]).take(50).all(|step| matches!(step.strike, Strike::Moment { .. }))
        );
    }
}
