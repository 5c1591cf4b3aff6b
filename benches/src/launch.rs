//! `launch`: what a framework sees of a task's life, through a real master and a real agent.
//!
//! - *accept to running*: from sending ACCEPT to receiving TASK_RUNNING, one task at a time. Floor:
//!   fork and exec of the same program by this process.
//! - *exit to update*: from SIGKILL of the task's process to receiving its terminal update. Floor:
//!   from SIGKILL of a child to its status from `waitpid`.
//! - *rate*: from the first ACCEPT to the last TASK_FINISHED of a batch of `true`, each task with
//!   its own control groups, namespaces and sandbox. Floor: as many fork, exec and wait of `true`,
//!   one after the other, isolated from nothing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mezzo_sdk::v1::{Offer, TaskState, TaskStatus};
use mezzo_sdk::{Calls, Event, Events, Framework, Room, Scheduler, Task, is_terminal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::result::{Goal, Measurement, Times};
use mezzo_tests::{Cluster, Options};

const ROUNDS: usize = 100;
const BATCHES: usize = 5;
const BATCH: usize = 200;
/// For anything that is awaited: far beyond what it should take.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run() -> Result<Vec<Measurement>> {
    let cluster = Cluster::start(Options::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let measured = runtime.block_on(async {
        let framework = Framework::new("bench", "root");
        let connected = Scheduler::connect(cluster.address(), framework).await;
        let (calls, events) = connected.context("cannot subscribe")?;
        let mut bench = Bench { calls, events, offers: Vec::new() };
        let mut measured = bench.one_by_one().await?;
        measured.push(bench.batches().await?);
        bench.calls.teardown().await.context("cannot tear down")?;
        anyhow::Ok(measured)
    });
    measured.with_context(|| format!("logs: {}\nbench `launch` failed", cluster.logs()))
}

struct Bench {
    calls: Calls,
    events: Events,
    offers: Vec<Offer>,
}

impl Bench {
    async fn one_by_one(&mut self) -> Result<Vec<Measurement>> {
        let (mut running, mut spawned) = (Times::default(), Times::default());
        let (mut ended, mut waited) = (Times::default(), Times::default());
        for round in 0..ROUNDS {
            let seconds = format!("100000.{round:04}");
            let (mut floor, time) = spawn("sleep", &[&seconds])?;
            spawned.add(time);
            waited.add(end_child(&mut floor)?);

            let id = format!("one.{round}");
            let task = Task::command(&id, "one").cpus(0.1).mem(32.0).argv(["sleep", &seconds]);
            let offer = self.offer().await?;
            let info = Room::of(&offer).fit(&task).context("an offer without room")?;
            let begin = Instant::now();
            self.calls.launch(&offer, vec![info]).await.context("cannot launch")?;
            let status = self.update(&id, |state| state == TaskState::TaskRunning).await;
            running.add(begin.elapsed());
            status?;

            let pid = pid_of(&["sleep", &seconds])?;
            let begin = Instant::now();
            kill(pid, Signal::SIGKILL).context("cannot kill the task")?;
            self.update(&id, is_terminal).await?;
            ended.add(begin.elapsed());
        }
        let note = |times: &Times, floor: &str| {
            let tail = times.quantile_ms(0.99);
            format!("median of {ROUNDS}, one at a time; p99 {tail:.3} ms; baseline: {floor}")
        };
        Ok(vec![
            Measurement {
                name: "launch/accept-to-running",
                value: running.quantile_ms(0.5),
                unit: "ms",
                goal: Goal::AtMost(5.0),
                baseline: spawned.quantile_ms(0.5),
                note: note(&running, "fork and exec of the same program"),
            },
            Measurement {
                name: "launch/exit-to-update",
                value: ended.quantile_ms(0.5),
                unit: "ms",
                goal: Goal::AtMost(1.0),
                baseline: waited.quantile_ms(0.5),
                note: note(&ended, "SIGKILL to waitpid"),
            },
        ])
    }

    async fn batches(&mut self) -> Result<Measurement> {
        let mut rates = Vec::new();
        let mut floors = Vec::new();
        for round in 0..BATCHES {
            let begin = Instant::now();
            for _ in 0..BATCH {
                let (mut child, _) = spawn("true", &[])?;
                child.wait().context("cannot wait for a child")?;
            }
            floors.push(BATCH as f64 / begin.elapsed().as_secs_f64());
            rates.push(self.batch(round).await?);
        }
        rates.sort_by(f64::total_cmp);
        floors.sort_by(f64::total_cmp);
        Ok(Measurement {
            name: "launch/rate",
            value: rates[BATCHES / 2],
            unit: "tasks/s",
            goal: Goal::AtLeast(300.0),
            baseline: floors[BATCHES / 2],
            note: format!(
                "median of {BATCHES} batches of {BATCH} `true`; worst {:.0}, best {:.0}; baseline: fork, \
                 exec and wait in a row, not isolated",
                rates[0],
                rates[BATCHES - 1],
            ),
        })
    }

    /// Tasks a second.
    async fn batch(&mut self, round: usize) -> Result<f64> {
        let task = |number| Task::command(format!("batch.{round}.{number}"), "batch");
        let mut waiting = Vec::from_iter(
            (0..BATCH).map(|number| task(number).cpus(0.1).mem(32.0).argv(["true"])),
        );
        let mut unfinished = BATCH;
        let first = self.offer().await?;
        self.offers.push(first);
        let begin = Instant::now();
        while unfinished > 0 {
            while let Some(offer) = self.offers.pop() {
                let mut room = Room::of(&offer);
                let placed = Vec::from_iter(waiting.iter().map_while(|task| room.fit(task)));
                if placed.is_empty() {
                    // Kept for the next batch, when there is nothing left to place.
                    self.offers.push(offer);
                    break;
                }
                waiting.drain(..placed.len());
                self.calls.launch(&offer, placed).await.context("cannot launch")?;
            }
            let Some(status) = self.next().await? else { continue };
            let state = status.state();
            if is_terminal(state) {
                ensure!(state == TaskState::TaskFinished, "a task ended otherwise: {status:?}");
                unfinished -= 1;
            }
        }
        Ok(BATCH as f64 / begin.elapsed().as_secs_f64())
    }

    /// The oldest offer at hand.
    async fn offer(&mut self) -> Result<Offer> {
        while self.offers.is_empty() {
            self.next().await?;
        }
        Ok(self.offers.remove(0))
    }

    async fn update(&mut self, id: &str, wanted: impl Fn(TaskState) -> bool) -> Result<TaskStatus> {
        loop {
            let Some(status) = self.next().await? else { continue };
            if status.task_id.value != id {
                continue;
            }
            if wanted(status.state()) {
                return Ok(status);
            }
            ensure!(!is_terminal(status.state()), "{id} ended too early: {status:?}");
        }
    }

    /// One event; the status if it is an update.
    async fn next(&mut self) -> Result<Option<TaskStatus>> {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
        match event.context("the master says nothing")?.context("the subscription ended")? {
            Event::Offers(offers) => self.offers.extend(offers),
            Event::Rescinded(id) => self.offers.retain(|offer| offer.id != id),
            Event::Update(status) => return Ok(Some(status)),
            Event::Disconnected { reason } => bail!("the master disconnected: {reason}"),
            _ => {}
        }
        Ok(None)
    }
}

/// A child, and how long it took until it had begun the program.
fn spawn(program: &str, arguments: &[&str]) -> Result<(Child, Duration)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    Ok((child, begin.elapsed()))
}

fn end_child(child: &mut Child) -> Result<Duration> {
    let begin = Instant::now();
    child.kill().context("cannot kill a child")?;
    child.wait().context("cannot wait for a child")?;
    Ok(begin.elapsed())
}

/// The process with exactly these arguments.
fn pid_of(arguments: &[&str]) -> Result<Pid> {
    let mut wanted = arguments.join("\0").into_bytes();
    wanted.push(0);
    let entries = std::fs::read_dir("/proc").context("cannot list processes")?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| command == wanted)
    };
    let pid = pids.find(is_it).with_context(|| format!("{arguments:?} does not run"))?;
    Ok(Pid::from_raw(pid))
}
