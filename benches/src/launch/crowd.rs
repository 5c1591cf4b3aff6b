//! A thousand tasks on the host: how their endings are told, what they weigh, and how an agent that
//! comes back finds them.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mezzo_sdk::is_terminal;
use mezzo_sdk::v1::TaskStatus;
use mezzo_tests::{Cluster, http_get};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Driver, Sizes};
use crate::conditions::Conditions;
use crate::counters;
use crate::result::{Baseline, Goal, Measurement, Times, median};

/// Longer than any bench.
const FOREVER: [&str; 2] = ["sleep", "100000"];

/// Pids of master, agent and launcher.
pub(super) fn daemons(cluster: &Cluster) -> Result<[i32; 3]> {
    let directory = cluster.directory().to_string_lossy().into_owned();
    let master = cluster.master_pid().context("there is no master")?;
    let agent = cluster.agent_pid().context("there is no agent")?;
    Ok([master, agent, counters::process("mezzo-launcher", &directory)?])
}

pub(super) async fn measure(
    driver: &mut Driver,
    cluster: &mut Cluster,
    sizes: &Sizes,
) -> Result<Vec<Measurement>> {
    let [_, _, launcher] = daemons(cluster)?;
    let launcher_before = counters::memory_kib(launcher)?;
    let crowd = driver.start_many(&FOREVER, sizes.crowd).await?;
    let mut measured = vec![memory(&crowd, launcher, launcher_before)?];
    measured.extend(endings(driver, cluster, sizes).await?);
    driver.settle().await?;
    measured.push(idle(cluster, sizes).await?);
    measured.push(recovery(cluster, sizes)?);
    Ok(measured)
}

/// User-space memory that a running task takes beside its own.
fn memory(crowd: &[TaskStatus], launcher: i32, launcher_before: f64) -> Result<Measurement> {
    let conditions = Conditions::now()?;
    let slope = (counters::memory_kib(launcher)? - launcher_before) / crowd.len() as f64;
    let mut inits = 0.0;
    for status in crowd {
        inits += counters::memory_kib(init_of(status)?)?;
    }
    let init = inits / crowd.len() as f64;
    Ok(Measurement {
        name: "launch/memory-per-task",
        value: slope + init,
        unit: "KiB",
        goal: Some(Goal::AtMost(64.0)),
        baseline: None,
        conditions,
        note: format!(
            "PSS, mean of {} idle tasks: launcher's growth {slope:.2}, init {init:.2}",
            crowd.len()
        ),
    })
}

/// From SIGKILL of a task's command to its terminal update, and the same of a bare child.
async fn endings(
    driver: &mut Driver,
    cluster: &Cluster,
    sizes: &Sizes,
) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let (mut times, mut ours, mut floors) = (Times::default(), Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        floors.push(bare_ending()?.as_secs_f64() * 1e3);
        let task = driver.task(&FOREVER);
        let (status, _) = driver.start(&task).await?;
        let command = command_of(cluster, &status)?;
        let begin = Instant::now();
        kill(Pid::from_raw(command), Signal::SIGKILL).context("cannot kill a command")?;
        driver.update(task.id(), is_terminal).await?;
        let time = begin.elapsed();
        times.add(time);
        ours.push(time.as_secs_f64() * 1e3);
    }
    let row = |name, part, goal, note: String| Measurement {
        name,
        value: times.quantile_ms(part),
        unit: "ms",
        goal: Some(Goal::AtMost(goal)),
        baseline: Some(Baseline::paired(&ours, &floors)),
        conditions: conditions.clone(),
        note,
    };
    let crowd = sizes.crowd;
    Ok(vec![
        row(
            "launch/exit-to-update",
            0.5,
            1.0,
            format!(
                "median of {}, one at a time, {crowd} tasks on the host: from SIGKILL of the command to \
                 the update at the framework; baseline: SIGKILL of a bare child to waitpid",
                times.len()
            ),
        ),
        row("launch/exit-to-update-p99", 0.99, 10.0, "the same, 99th percentile".to_owned()),
    ])
}

fn bare_ending() -> Result<Duration> {
    let mut child = std::process::Command::new(FOREVER[0])
        .arg(FOREVER[1])
        .spawn()
        .context("cannot start a bare child")?;
    let begin = Instant::now();
    child.kill().context("cannot kill a bare child")?;
    child.wait().context("cannot wait for a bare child")?;
    Ok(begin.elapsed())
}

/// What an agent does with nothing to do.
async fn idle(cluster: &Cluster, sizes: &Sizes) -> Result<Measurement> {
    let conditions = Conditions::now()?;
    let [master, agent, launcher] = daemons(cluster)?;
    let all = || -> Result<[u64; 3]> {
        Ok([
            counters::cpu_nanoseconds(master)?,
            counters::cpu_nanoseconds(agent)?,
            counters::cpu_nanoseconds(launcher)?,
        ])
    };
    // What the last ending left to do is over by then, and idle threads have gone.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (begin, before) = (Instant::now(), all()?);
    tokio::time::sleep(Duration::from_secs(sizes.seconds.into())).await;
    let (after, took) = (all()?, begin.elapsed().as_nanos() as f64);
    let percent = [0, 1, 2].map(|at| after[at].saturating_sub(before[at]) as f64 / took * 100.0);
    Ok(Measurement {
        name: "launch/idle-agent",
        value: percent[1],
        unit: "% of a core",
        goal: Some(Goal::AtMost(0.5)),
        baseline: None,
        conditions,
        note: format!(
            "{} tasks, {} s; master {:.3}, launcher {:.3}",
            sizes.crowd, sizes.seconds, percent[0], percent[2]
        ),
    })
}

/// `kill -9` of the agent, and a new one that finds every task.
fn recovery(cluster: &mut Cluster, sizes: &Sizes) -> Result<Measurement> {
    let conditions = Conditions::now()?;
    let (mut whole, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..sizes.recoveries {
        cluster.kill_agent()?;
        cluster.start_agent()?;
        whole.push(cluster.agent_start().as_secs_f64() * 1e3);
        let text = http_get(cluster.agent_address(), "/metrics/snapshot")?;
        let snapshot: serde_json::Value = serde_json::from_str(&text).context("no metrics")?;
        let running = snapshot["slave/tasks_running"].as_f64();
        ensure!(running == Some(sizes.crowd as f64), "{running:?} of {} run", sizes.crowd);
        let seconds = snapshot["slave/recovery_time_secs"].as_f64().context("no recovery time")?;
        inside.push(seconds * 1e3);
    }
    Ok(Measurement {
        name: "launch/recovery",
        value: median(&whole),
        unit: "ms",
        goal: Some(Goal::AtMost(100.0)),
        baseline: None,
        conditions,
        note: format!(
            "{} live tasks, median of {} `kill -9`: from the start of the new agent's process until it \
             serves and knows them all; {:.1} by its own clock",
            sizes.crowd,
            sizes.recoveries,
            median(&inside)
        ),
    })
}

fn init_of(status: &TaskStatus) -> Result<i32> {
    let container = status.container_status.as_ref();
    let pid = container.and_then(|container| container.executor_pid);
    Ok(i32::try_from(pid.context("a running task without a pid")?)?)
}

/// The command beside its init, in the container's control group.
fn command_of(cluster: &Cluster, status: &TaskStatus) -> Result<i32> {
    let init = init_of(status)?;
    let id = status.container_status.as_ref().and_then(|status| status.container_id.as_ref());
    let id = id.context("a running task without a container")?;
    let hierarchies = ["memory", "unified", ""].map(|name| format!("/sys/fs/cgroup/{name}"));
    let files =
        hierarchies.map(|dir| format!("{dir}/{}/{}/cgroup.procs", cluster.cgroup(), id.value));
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    let text = text.context("a running task without a control group")?;
    let mut pids = text.lines().filter_map(|line| line.parse().ok());
    pids.find(|pid| *pid != init).context("a running task without a command")
}
