//! The load of the paper on Mesos (NSDI 2011, §6.5): tens of thousands of agents with two tasks at most,
//! tasks of about 30 s, two hundred frameworks that launch as tasks end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mezzo_sdk::v1::TaskState;
use mezzo_sdk::{Event, Framework, Room, Scheduler, Task};
use tokio::task::JoinSet;

use super::load::{Load, Runs};
use super::stage::Stage;
use crate::conditions::Conditions;
use crate::counters;
use crate::result::{Goal, Measurement, Times};

pub struct Size {
    pub agents: u32,
    pub frameworks: usize,
    pub launches_per_second: u32,
    /// A rate that is measured first, at which the machine is not full.
    pub calm_per_second: u32,
    /// Of a task; the deviation is a third of it.
    pub mean_s: f64,
    pub warm_up_s: u32,
    pub seconds: u32,
}

/// New frameworks that come in the midst of it, each with one task.
const NEWCOMERS: u32 = 5;
/// What their task runs, at most: as in the paper, where there is time for it.
const NEWCOMER_RUNS: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: f64 = 1024.0;

pub async fn measure(size: &Size) -> Result<Vec<Measurement>> {
    let mut stage = Stage::set()?;
    let measured = on(&mut stage, size).await;
    measured.with_context(|| format!("logs: {}", stage.logs()))
}

async fn on(stage: &mut Stage, size: &Size) -> Result<Vec<Measurement>> {
    let mut load =
        Load::subscribe(stage.address(), size.frameworks, Runs::About(size.mean_s)).await?;
    eprintln!("  {} agents", size.agents);
    stage.join(size.agents, "cpus:2;mem:2048")?;
    let (master, simulators) = (stage.master()?, stage.simulators()?);
    let idle = [counters::resident_kib(master)?, counters::resident_kib(simulators)?];
    let (calm_rate, calm) = calmly(&mut load, size).await?;
    eprintln!("  {} launches/s", size.launches_per_second);
    load.order_for(size.launches_per_second, Duration::from_secs(size.warm_up_s.into())).await?;
    let conditions = Conditions::now()?;
    let before = load.counts();
    let spent = [counters::cpu_seconds(master, false)?, counters::cpu_seconds(simulators, false)?];
    load.record();
    let mut newcomers = JoinSet::new();
    let time = Duration::from_secs(size.seconds.into());
    for number in 0..NEWCOMERS {
        let (address, wait) = (stage.address().to_owned(), time / NEWCOMERS / 2 * number);
        newcomers.spawn(newcomer(address, wait, NEWCOMER_RUNS.min(time / 4)));
    }
    let begin = Instant::now();
    load.order_for(size.launches_per_second, time).await?;
    let took = begin.elapsed().as_secs_f64();
    let after = load.counts();
    let recorded = load.recorded();
    let spent = [
        counters::cpu_seconds(master, false)? - spent[0],
        counters::cpu_seconds(simulators, false)? - spent[1],
    ];
    let memory = [counters::resident_kib(master)?, counters::resident_kib(simulators)?];
    let own = counters::resident_kib(i32::try_from(std::process::id())?)?;
    let mut waits = Vec::new();
    while let Some(newcomer) = newcomers.join_next().await {
        waits.push(newcomer.context("a newcomer ended early")??);
    }
    let (running, beyond) = (times(recorded.to_running), times(recorded.beyond_run));
    if running.len() == 0 || beyond.len() == 0 {
        bail!("no task started or ended while it was measured: {before:?}, {after:?}");
    }
    let waits = Times::from_iter(waits);
    let rate = (after.started - before.started) as f64 / took;
    let row = |name, value, unit, goal, note: String| Measurement {
        name,
        value,
        unit,
        goal,
        baseline: None,
        conditions: conditions.clone(),
        note,
    };
    let agents = size.agents;
    let total = memory[0] + memory[1] + own;
    Ok(vec![
        row(
            "api/scale-launches",
            rate,
            "tasks/s",
            Some(Goal::AtLeast(0.98 * f64::from(size.launches_per_second))),
            format!(
                "tasks started a second over {took:.0} s: {agents} simulated agents, two tasks at most each, {} frameworks, tasks of \
             {:.0} s on average, {} due a second; processor time: master {:.2}, simulated agents {:.2} of a core",
                size.frameworks,
                size.mean_s,
                size.launches_per_second,
                spent[0] / took,
                spent[1] / took,
            ),
        ),
        row(
            "api/scale-delay",
            running.quantile_ms(0.99),
            "ms",
            Some(Goal::AtMost(50.0)),
            format!(
                "from ACCEPT to TASK_RUNNING at the framework, 99th percentile of {}; median {:.3}, longest {:.3}; the simulated start takes no time",
                running.len(),
                running.quantile_ms(0.5),
                running.quantile_ms(1.0),
            ),
        ),
        row(
            "api/scale-delay-calm",
            calm.quantile_ms(0.99),
            "ms",
            Some(Goal::AtMost(50.0)),
            format!(
                "the same with {} launches/s due, of which {calm_rate:.0} started; median {:.3}, longest {:.3}",
                size.calm_per_second,
                calm.quantile_ms(0.5),
                calm.quantile_ms(1.0),
            ),
        ),
        row(
            "api/scale-life",
            beyond.quantile_ms(0.99),
            "ms",
            None,
            format!(
                "from ACCEPT to TASK_FINISHED beyond what the task runs, 99th percentile of {}; median {:.3}",
                beyond.len(),
                beyond.quantile_ms(0.5),
            ),
        ),
        row(
            "api/scale-newcomer",
            waits.quantile_ms(0.5),
            "ms",
            None,
            format!(
                "a new framework with one task of {} s: from before it subscribes to TASK_FINISHED, beyond those {0}, median of {NEWCOMERS}; longest \
             {:.1}; the paper on Mesos says less than 1 s, on 99 machines",
                NEWCOMER_RUNS.min(time / 4).as_secs_f64(),
                waits.quantile_ms(1.0),
            ),
        ),
        row(
            "api/scale-memory",
            total / MIB / MIB,
            "GiB",
            Some(Goal::AtMost(8.0)),
            format!(
                "resident, under load: master {:.0} MiB, simulated agents {:.0} MiB, this process with the frameworks {:.0} MiB",
                memory[0] / MIB,
                memory[1] / MIB,
                own / MIB,
            ),
        ),
        row(
            "api/scale-memory-agent",
            (idle[0] - stage.empty_kib) / f64::from(agents),
            "KiB/agent",
            Some(Goal::AtMost(20.0)),
            format!(
                "resident memory of the master with {agents} idle agents, all on offer to {} frameworks, beyond an empty one's; a simulated agent takes {:.1}",
                size.frameworks,
                idle[1] / f64::from(agents),
            ),
        ),
        row(
            "api/scale-join",
            f64::from(agents) / stage.joined.as_secs_f64(),
            "agents/s",
            None,
            format!(
                "from the start of the simulators until all {agents} agents were registered: {:.1} s",
                stage.joined.as_secs_f64(),
            ),
        ),
    ])
}

/// Tasks started a second at the calm rate, and the times from ACCEPT to TASK_RUNNING.
async fn calmly(load: &mut Load, size: &Size) -> Result<(f64, Times)> {
    let rate = size.calm_per_second;
    eprintln!("  {rate} launches/s");
    load.order_for(rate, Duration::from_secs(size.warm_up_s.into())).await?;
    load.record();
    let (begin, before) = (Instant::now(), load.counts().started);
    load.order_for(rate, Duration::from_secs(size.seconds.into()) / 2).await?;
    let started = (load.counts().started - before) as f64 / begin.elapsed().as_secs_f64();
    let running = times(load.recorded().to_running);
    if running.len() == 0 {
        bail!("no task started at {rate} launches/s: {:?}", load.counts());
    }
    Ok((started, running))
}

fn times(micros: Vec<u64>) -> Times {
    Times::from_iter(micros.into_iter().map(Duration::from_micros))
}

/// A framework with one task: what it takes beyond the task's own time.
async fn newcomer(master: String, wait: Duration, runs: Duration) -> Result<Duration> {
    tokio::time::sleep(wait).await;
    let begin = Instant::now();
    let connected = Scheduler::connect(&master, Framework::new("newcomer", "nobody")).await;
    let (calls, mut events) = connected.context("a newcomer cannot subscribe")?;
    let task = Task::command("one", "newcomer").cpus(1.0).mem(1024.0);
    let task = task.shell(format!("sleep {}", runs.as_secs_f64()));
    let mut launched = false;
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        match event.context("the master tells a newcomer nothing")?.context("it ended")? {
            Event::Offers(offers) => {
                for offer in offers {
                    let placed = Room::of(&offer).fit(&task).filter(|_| !launched);
                    if placed.is_some() {
                        launched = true;
                        // Having the least, it would go on being offered all that becomes free.
                        calls.suppress(Vec::new()).await?;
                    }
                    calls.launch(&offer, placed.into_iter().collect()).await?;
                }
            }
            Event::Update(status) if status.state() == TaskState::TaskFinished => break,
            _ => {}
        }
    }
    let took = begin.elapsed().saturating_sub(runs);
    calls.teardown().await.context("a newcomer cannot leave")?;
    Ok(took)
}
