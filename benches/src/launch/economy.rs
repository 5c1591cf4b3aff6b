//! What one task's life costs, in figures that do not depend on who else is busy.

use anyhow::Result;
use mezzo_tests::Cluster;

use super::{Driver, Sizes};
use crate::conditions::Conditions;
use crate::counters;
use crate::result::Measurement;
use crate::tracepoints::{CALLS, Tracefs};

pub(super) async fn measure(
    driver: &mut Driver,
    cluster: &Cluster,
    sizes: &Sizes,
) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let [master, agent, launcher] = super::crowd::daemons(cluster)?;
    let tasks = (sizes.batch * sizes.batches / 2).max(1);
    let row = |name, total: f64, unit, note: &str| Measurement {
        name,
        value: total / tasks as f64,
        unit,
        goal: None,
        baseline: None,
        conditions: conditions.clone(),
        note: note.to_owned(),
    };

    // Not traced: tracing costs processor time.
    let times = || -> Result<[f64; 3]> {
        Ok([
            counters::cpu_seconds(master, false)?,
            counters::cpu_seconds(agent, false)?,
            // Everything in containers is waited for by the launcher.
            counters::cpu_seconds(launcher, true)?,
        ])
    };
    let switches = || -> Result<u64> {
        [master, agent, launcher].into_iter().map(counters::context_switches).sum()
    };
    let (times_before, switches_before) = (times()?, switches()?);
    let bytes_before = counters::loopback_bytes()?;
    driver.run_batch(&["true"], tasks).await?;
    let (times_after, switches_after) = (times()?, switches()?);
    let bytes = counters::loopback_bytes()? - bytes_before;
    let spent = [0, 1, 2].map(|at| (times_after[at] - times_before[at]) * 1e3);

    let tracefs = Tracefs::mount()?;
    let (calls_master, calls_agent, calls_launcher) = (
        tracefs.count(CALLS, &[master], false)?,
        tracefs.count(CALLS, &[agent], true)?,
        tracefs.count(CALLS, &[launcher], true)?,
    );
    driver.run_batch(&["true"], tasks).await?;
    let calls = [calls_master.events()?, calls_agent.events()?, calls_launcher.events()?];

    let each = |figures: [f64; 3]| figures.map(|figure| figure / tasks as f64);
    let ([m, a, l], [mc, ac, lc]) = (each(spent), each(calls.map(|calls| calls as f64)));
    Ok(vec![
        row(
            "launch/cost-processor",
            spent.iter().sum(),
            "ms/task",
            &format!("master {m:.3}, agent {a:.3}, launcher with containers and tasks {l:.3}"),
        ),
        row(
            "launch/cost-calls",
            calls.iter().sum::<u64>() as f64,
            "calls/task",
            &format!("master {mc:.0}, agent {ac:.0}, launcher with containers and tasks {lc:.0}"),
        ),
        row(
            "launch/cost-switches",
            switches_after.saturating_sub(switches_before) as f64,
            "switches/task",
            "context switches of master, agent and launcher",
        ),
        row(
            "launch/cost-wire",
            bytes as f64,
            "bytes/task",
            "over loopback, between framework, master and agent, with what else used it",
        ),
    ])
}
