//! Tasks that start at a fixed rate, whether the ones before have ended or not.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use mezzo_sdk::v1::TaskState;
use mezzo_tests::Cluster;
use tokio::time::{MissedTickBehavior, interval};

use super::driver::finished;
use super::{Driver, Sizes};
use crate::conditions::Conditions;
use crate::result::{Goal, Measurement, Times};
use crate::tracepoints::{SYNCS, Tracefs};

const STARTS_PER_SECOND: u32 = 50;
const SYNCED_STARTS_PER_SECOND: u32 = 100;
/// Tasks of one ACCEPT, in the second measurement of syncs.
const TOGETHER: usize = 10;

pub(super) async fn latency(driver: &mut Driver, sizes: &Sizes) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let count = (STARTS_PER_SECOND * sizes.seconds) as usize;
    let running = driver.open_loop(STARTS_PER_SECOND, 1, count).await?;
    Ok(vec![Measurement {
        name: "launch/accept-to-running",
        value: running.quantile_ms(0.5),
        unit: "ms",
        goal: Some(Goal::AtMost(5.0)),
        baseline: None,
        conditions,
        note: format!(
            "median of {count} `true` at {STARTS_PER_SECOND}/s, open loop, waits for an offer included; \
             p90 {:.3}, p99 {:.3}, longest {:.3}",
            running.quantile_ms(0.9),
            running.quantile_ms(0.99),
            running.quantile_ms(1.0),
        ),
    }])
}

pub(super) async fn syncs(
    driver: &mut Driver,
    cluster: &Cluster,
    sizes: &Sizes,
) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let [master, agent, launcher] = super::crowd::daemons(cluster)?;
    let tracefs = Tracefs::mount()?;
    let count = (SYNCED_STARTS_PER_SECOND * sizes.seconds) as usize;
    let mut counted = Vec::new();
    for together in [1, TOGETHER] {
        let on_agent = tracefs.count(SYNCS, &[agent, launcher], true)?;
        let on_master = tracefs.count(SYNCS, &[master], true)?;
        driver.open_loop(SYNCED_STARTS_PER_SECOND, together, count).await?;
        counted.push([on_agent.events()?, on_master.events()?].map(|n| n as f64 / count as f64));
    }
    let row = |name, value, goal, note: String| Measurement {
        name,
        value,
        unit: "syncs/task",
        goal,
        baseline: None,
        conditions: conditions.clone(),
        note,
    };
    let goal = Some(Goal::AtMost(0.1));
    let rate = SYNCED_STARTS_PER_SECOND;
    Ok(vec![
        row(
            "launch/syncs-agent",
            counted[0][0],
            goal,
            format!(
                "fsync, fdatasync and their like of agent and launcher, {count} `true` at {rate}/s, open loop"
            ),
        ),
        row(
            "launch/syncs-master",
            counted[0][1],
            goal,
            "the same of the master: each ACCEPT, of one task, is durable before its launch leaves"
                .to_owned(),
        ),
        row(
            "launch/syncs-master-batched",
            counted[1][1],
            goal,
            format!("the same of the master, {TOGETHER} tasks in each ACCEPT"),
        ),
    ])
}

impl Driver {
    /// Starts `count` tasks at a rate, `together` in one ACCEPT, and waits for their ends. The times are
    /// from when a task was due and the generator had noticed, until TASK_RUNNING arrived: a wait for
    /// an offer is the system's time, a late timer of the generator is not.
    pub async fn open_loop(
        &mut self,
        per_second: u32,
        together: usize,
        count: usize,
    ) -> Result<Times> {
        let mut ticks = interval(Duration::from_secs(1) * u32::try_from(together)? / per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut due, mut begun) = (VecDeque::new(), HashMap::new());
        let mut running = Times::default();
        let (mut started, mut ended) = (0, 0);
        while ended < count {
            tokio::select! {
                // Cancel-safe: a tick is taken or stays.
                _ = ticks.tick(), if started < count => {
                    for _ in 0..together.min(count - started) {
                        let task = self.task(&["true"]);
                        begun.insert(task.id().to_owned(), Instant::now());
                        due.push_back(task);
                        started += 1;
                    }
                }
                // Cancel-safe.
                status = self.next() => if let Some(status) = status? {
                    if status.state() == TaskState::TaskRunning
                        && let Some(begin) = begun.remove(&status.task_id.value)
                    {
                        running.add(begin.elapsed());
                    }
                    ended += usize::from(finished(&status)?);
                },
            }
            self.place(&mut due)?;
        }
        Ok(running)
    }
}
