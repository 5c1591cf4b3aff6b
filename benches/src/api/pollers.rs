//! Launches with and without pollers of the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::http::{self, Encoding};
use super::load::{Load, Runs};
use super::stage::Stage;
use crate::conditions::Conditions;
use crate::result::{Baseline, Goal, Measurement, median};

pub struct Size {
    pub agents: u32,
    pub pollers: usize,
    pub rounds: usize,
    /// Launched in each round.
    pub tasks: usize,
}

const CALL: &str = r#"{"type":"GET_STATE"}"#;
/// As a person's browser or a monitoring system asks.
const CALM: Duration = Duration::from_secs(1);
const FRAMEWORKS: usize = 10;

pub async fn measure(size: &Size) -> Result<Vec<Measurement>> {
    let mut stage = Stage::set()?;
    let measured = on(&mut stage, size).await;
    measured.with_context(|| format!("logs: {}", stage.logs()))
}

async fn on(stage: &mut Stage, size: &Size) -> Result<Vec<Measurement>> {
    let mut load = Load::subscribe(stage.address(), FRAMEWORKS, Runs::Nothing).await?;
    stage.join(size.agents, "cpus:16;mem:16384")?;
    // The first batch fills what the master remembers of ended tasks.
    batch(&mut load, size.tasks).await?;
    let mut rows = Vec::new();
    for (name, pause, goal, how) in [
        ("api/pollers", CALM, Some(Goal::AtMost(1.05)), "each once a second"),
        // These and the launches divide the processors among themselves: no answer is so cheap that a client could
        // not ask for more.
        ("api/pollers-eager", Duration::ZERO, None, "each again as soon as it has its answer"),
    ] {
        eprintln!("  {} pollers, {how}", size.pollers);
        let conditions = Conditions::now()?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let mut polls = 0;
        for _ in 0..size.rounds {
            without.push(batch(&mut load, size.tasks).await?.as_secs_f64());
            let pollers = Pollers::start(stage.address(), size.pollers, pause);
            let took = batch(&mut load, size.tasks).await;
            polls += pollers.end()?;
            with.push(took?.as_secs_f64());
        }
        let paired = Baseline::paired(&with, &without);
        rows.push(Measurement {
            name,
            value: paired.ratio,
            unit: "x",
            goal,
            baseline: None,
            conditions,
            note: format!(
                "time for {} tasks of {FRAMEWORKS} frameworks from the first ACCEPT to the last TASK_FINISHED on {} simulated \
                 agents, with {} pollers of GET_STATE, {how}, to that without; median of {} paired rounds, \
                 interleaved; {:.0} tasks/s with, {:.0} without, {:.0} answers/s",
                size.tasks,
                size.agents,
                size.pollers,
                size.rounds,
                size.tasks as f64 / median(&with),
                size.tasks as f64 / median(&without),
                polls as f64 / with.iter().sum::<f64>(),
            ),
        });
    }
    load.end().await?;
    Ok(rows)
}

/// So many tasks from their launch to their end.
async fn batch(load: &mut Load, tasks: usize) -> Result<Duration> {
    let aim = load.counts().ended + tasks as u64;
    let begin = Instant::now();
    load.order(tasks);
    load.until("the batch to end", |counts| counts.ended >= aim).await?;
    Ok(begin.elapsed())
}

struct Pollers {
    stop: Arc<AtomicBool>,
    polls: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Pollers {
    fn start(address: &str, count: usize, pause: Duration) -> Pollers {
        let (stop, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count).map(|number| {
            let (stop, polls, address) =
                (Arc::clone(&stop), Arc::clone(&polls), address.to_owned());
            // Not all in one moment: they do not know of each other.
            let phase =
                pause * u32::try_from(number).unwrap_or(0) / u32::try_from(count).unwrap_or(1);
            std::thread::spawn(move || {
                std::thread::park_timeout(phase);
                while !stop.load(Ordering::Relaxed) {
                    http::read(&address, CALL, Encoding::Protobuf, |_| {})?;
                    polls.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(pause);
                }
                Ok(())
            })
        });
        Pollers { threads: threads.collect(), stop, polls }
    }

    /// How many answers they got.
    fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.thread().unpark();
            thread.join().map_err(|_| anyhow::anyhow!("a poller panicked"))??;
        }
        Ok(self.polls.load(Ordering::Relaxed))
    }
}
