//! `bounded`: queues, maps, histories and log files have stated limits.
//!
//! A simulation sees what grows with faults: messages that wait for the log, work that begets work
//! without time going by, and in the end, maps that are not empty although nothing is left to do.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// Happenings in one virtual second: hundreds of times what a busy world of four agents needs.
const PER_SECOND: u64 = 50_000;
/// Messages that may wait for a log that stalls for seconds: heartbeats, pings, and what four
/// frameworks do in that time.
const WAITING: usize = 5_000;

#[derive(Default)]
pub(super) struct Bounded {
    second: u64,
    happenings: u64,
}

impl Invariant for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Step { now_ns, waiting } => {
                let second = now_ns / 1_000_000_000;
                if second != self.second {
                    (self.second, self.happenings) = (second, 0);
                }
                self.happenings += 1;
                if self.happenings > PER_SECOND || *waiting > PER_SECOND as usize {
                    return Err(format!("{} happenings within a second", self.happenings));
                }
            }
            Fact::Waiting { count } if *count > WAITING => {
                return Err(format!("{count} messages wait for the log"));
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&self, world: &World) -> Result<(), String> {
        let master = world.leader.and_then(|leader| world.masters.get(&leader));
        let statistics = master.ok_or("nobody leads")?.core.statistics();
        let tasks = statistics.tasks_now.iter().sum::<i64>();
        let placed = world.log.registry.placements.len() as i64;
        if tasks != placed {
            return Err(format!("the master counts {tasks} tasks, the log places {placed}"));
        }
        let connected = world.frameworks.iter().filter(|framework| framework.subscribed).count();
        if statistics.frameworks_connected != connected as i64 {
            let counted = statistics.frameworks_connected;
            return Err(format!("the master has {counted} streams, not {connected}"));
        }
        Ok(())
    }
}
