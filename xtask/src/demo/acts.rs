//! What is shown, each act with a measurement of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::cluster::{Cluster, PATIENCE, read_all};
use super::processes::{self, Process};

/// CPU time over wall time is looked at for so long: some thirty periods of the CPU bandwidth
/// controller.
const WATCH: Duration = Duration::from_secs(3);
const SHARE: f64 = 0.2;
const BATCH: u64 = 200;

/// A loop that would take a whole CPU gets a fifth of one.
pub fn burner(cluster: &mut Cluster) -> Result<String> {
    let argument = "mezzo-demo-burner";
    let script = "while :; do :; done";
    let share = SHARE.to_string();
    let run = cluster.mezzo([
        "run", "--detach", "--name", "burner", "--cpus", &share, "--mem", "32", "--", "sh", "-c",
        script, argument,
    ]);
    succeed(cluster, run)?;
    let before = wait_for_shell(cluster, argument)?;
    let begin = Instant::now();
    cluster.pass(WATCH)?;
    let after = Process::of(before.pid).filter(|after| after.is_same(&before));
    let wall = begin.elapsed();
    let after = after.context("the burner ended by itself")?;
    let used = after.cpu_time().saturating_sub(before.cpu_time()).as_secs_f64();
    let seen = used / wall.as_secs_f64();
    let kill = cluster.mezzo(["kill", "burner"]);
    succeed(cluster, kill)?;
    cluster.wait("the burner to be gone", |_| {
        Ok(Process::of(before.pid).is_none_or(|now| !now.is_same(&before)).then_some(()))
    })?;
    // Below its share it may be on a busy machine; above is what isolation forbids.
    ensure!(
        (SHARE * 0.25..=SHARE * 1.15).contains(&seen),
        "asked for {SHARE} CPUs, used {seen:.3} over {:.1} s",
        wall.as_secs_f64()
    );
    Ok(format!("asked for {SHARE} CPUs, used {seen:.3} over {:.1} s", wall.as_secs_f64()))
}

/// Reading zeros without end into memory does end, and says why.
pub fn hog(cluster: &mut Cluster) -> Result<String> {
    let run = cluster.mezzo([
        "run",
        "--name",
        "hog",
        "--cpus",
        "1",
        "--mem",
        "64",
        "--",
        "tail",
        "/dev/zero",
    ]);
    let output = cluster.output(run, PATIENCE)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = "REASON_CONTAINER_LIMITATION_MEMORY";
    ensure!(said.contains(reason), "{reason} is not what was said: {}", said.trim());
    ensure!(!output.status.success(), "it was reported, but `mezzo run` ended with 0");
    // The kernel's numbers follow on further lines.
    let line = said.lines().find(|line| line.contains("hog failed"));
    let line = line.with_context(|| format!("not said that the hog failed: {}", said.trim()))?;
    Ok(line.trim().trim_start_matches("error: ").to_owned())
}

/// The agent dies and comes back; the task notices nothing, and its end is not missed.
pub fn survivor(cluster: &mut Cluster) -> Result<String> {
    let argument = "mezzo-demo-survivor";
    let finish = cluster.directory().join("finish");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done", finish.display());
    let mut run = cluster.mezzo([
        "run", "--name", "survivor", "--cpus", "0.1", "--mem", "32", "--", "sh", "-c", &script,
        argument,
    ]);
    run.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = run.spawn().context("cannot start mezzo")?;
    let before = wait_for_shell(cluster, argument)?;

    cluster.murder_agent()?;
    // Else what is seen below might be the agent from before.
    cluster.wait("the master to miss the agent", |cluster| {
        Ok(cluster.list("agents").iter().all(|agent| agent["state"] != "active").then_some(()))
    })?;
    cluster.start_agent()?;
    let begin = Instant::now();
    cluster.wait("the task to be running on the agent that is back", |cluster| {
        let agents = cluster.list("agents");
        let active = agents.iter().any(|agent| agent["state"] == "active");
        let tasks = cluster.list("ps");
        let runs = tasks
            .iter()
            .any(|task| task["task_id"] == "survivor" && task["state"] == "TASK_RUNNING");
        Ok((active && runs).then_some(()))
    })?;
    let back = begin.elapsed().as_secs_f64();
    let now = Process::of(before.pid).filter(|now| now.is_same(&before));
    ensure!(now.is_some(), "process {} did not survive", before.pid);

    std::fs::write(&finish, "").context("cannot tell the task to finish")?;
    let status = cluster.wait_child(&mut run, PATIENCE)?;
    if !status.success() {
        bail!("`mezzo run` ended with {status}: {}", read_all(&mut run.stderr).trim());
    }
    Ok(format!("process {} before and after, agent back in {back:.1} s, then finished", before.pid))
}

/// Each with its control groups, namespaces and sandbox.
pub fn batch(cluster: &mut Cluster) -> Result<String> {
    let instances = BATCH.to_string();
    let run = cluster.mezzo([
        "run",
        "--output",
        "json",
        "--name",
        "batch",
        "--instances",
        &instances,
        "--cpus",
        "0.1",
        "--mem",
        "32",
        "--",
        "true",
    ]);
    let output = cluster.output(run, Duration::from_secs(120))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {}", output.status, said.trim());
    let summary: Value =
        serde_json::from_slice(&output.stdout).context("the summary is no JSON")?;
    let summary = if summary.is_array() { &summary[0] } else { &summary };
    let finished = summary["finished"].as_u64();
    ensure!(finished == Some(BATCH), "{finished:?} of {BATCH} finished");
    let seconds = summary["seconds"].as_f64().context("the summary has no seconds")?;
    let rate = summary["tasks_per_second"].as_f64().context("the summary has no rate")?;
    Ok(format!("{BATCH} finished in {seconds:.2} s, {rate:.0} tasks a second"))
}

fn succeed(cluster: &mut Cluster, command: std::process::Command) -> Result<()> {
    let output = cluster.output(command, PATIENCE)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("mezzo ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}

fn wait_for_shell(cluster: &mut Cluster, argument: &str) -> Result<Process> {
    cluster.wait("the task's process", |_| Ok(processes::shells_with_argument(argument).pop()))
}
