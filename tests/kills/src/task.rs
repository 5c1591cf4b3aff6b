//! The load: tasks whose ending follows from their id.

use std::path::Path;
use std::time::Duration;

use mezzo_sdk::Task;

use crate::random::Random;

/// How a task is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// After so long, with this code.
    Exits { after_ms: u32, code: i32 },
    /// By a signal of its own.
    Signals { signal: i32 },
    /// Takes more memory than it was given.
    Hogs,
    /// Never by itself: the framework kills it once it runs.
    IsKilled,
    /// There is no such program.
    Missing,
    /// Runs from the beginning to the end of the load, and is killed then.
    Stays,
}

/// Tasks that stay, the first ones.
pub const STAYING: u64 = 3;

impl Kind {
    /// Of the task with this number, for a load of this seed.
    pub fn of(seed: u64, number: u64) -> Kind {
        if number < STAYING {
            return Kind::Stays;
        }
        let mut random = Random::new(seed, number);
        let code = if random.percent(50) { 0 } else { random.between(1, 256) as i32 };
        let mut exits = |from, to| Kind::Exits { after_ms: random.between(from, to) as u32, code };
        let kind = Random::new(seed, !number).between(0, 100);
        match kind {
            0..45 => Kind::Exits { after_ms: 0, code },
            45..70 => exits(50, 500),
            70..80 => exits(1000, 4000),
            80..82 => Kind::Signals { signal: 9 },
            82..84 => Kind::Signals { signal: 15 },
            84..86 => Kind::Signals { signal: 11 },
            86..94 => Kind::IsKilled,
            94..97 => Kind::Missing,
            _ => Kind::Hogs,
        }
    }

    /// The task to launch. Its first act is a line in `witness` with its id.
    pub fn task(self, id: &str, witness: &Path) -> Task {
        let task = Task::command(id, id).cpus(0.05).mem(32.0);
        let begin = format!("echo \"$MESOS_TASK_ID\" >> {}", witness.display());
        match self {
            Kind::Exits { after_ms: 0, code } => task.shell(format!("{begin}; exit {code}")),
            Kind::Exits { after_ms, code } => {
                let seconds = f64::from(after_ms) / 1000.0;
                task.shell(format!("{begin}; sleep {seconds}; exit {code}"))
            }
            Kind::Signals { signal } => {
                // Something to fetch on the way: a file that is surely there.
                let file = witness.with_file_name("framework.log");
                task.uri(file.display().to_string()).shell(format!("{begin}; kill -{signal} $$"))
            }
            // tail keeps all that it may have to print.
            Kind::Hogs => task.shell(format!(
                "{begin}; head -c 1000000000 /dev/zero | tail -c 900000000 > /dev/null"
            )),
            Kind::IsKilled | Kind::Stays => {
                let grace = Duration::from_secs(60);
                task.kill_grace(grace).shell(format!("{begin}; exec sleep 100000"))
            }
            Kind::Missing => task.argv(["/no/such/program"]),
        }
    }
}

/// The id of a task by its number.
pub fn id(number: u64) -> String {
    format!("t{number:07}")
}

/// The number of a task by its id.
pub fn number(id: &str) -> Option<u64> {
    id.strip_prefix('t')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_the_same_again_and_has_all_kinds() {
        let kinds: Vec<Kind> = (0..500).map(|number| Kind::of(7, number)).collect();
        assert_eq!(kinds, (0..500).map(|number| Kind::of(7, number)).collect::<Vec<_>>());
        assert_ne!(kinds, (0..500).map(|number| Kind::of(8, number)).collect::<Vec<_>>());
        for kind in [Kind::Hogs, Kind::IsKilled, Kind::Missing, Kind::Stays] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
        assert!(kinds.iter().any(|kind| matches!(kind, Kind::Signals { signal: 11 })));
        assert_eq!(number(&id(42)), Some(42));
    }
}
