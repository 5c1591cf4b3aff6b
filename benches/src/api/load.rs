//! Frameworks that launch tasks: so many, or so many a second.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mezzo_sdk::v1::{Offer, TaskState};
use mezzo_sdk::{CallError, Calls, Event, Events, Framework, Room, Scheduler, Task, is_terminal};
use mezzo_types::IdSource;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// For anything that is awaited: far beyond what it should take.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks at how many tasks are due.
const PACE: Duration = Duration::from_millis(5);

/// How long tasks run.
#[derive(Clone, Copy, Debug)]
pub enum Runs {
    Forever,
    /// They end at once.
    Nothing,
    /// Normal with this mean, and a third of it as the deviation.
    About(f64),
}

/// What all frameworks have come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub launched: u64,
    /// TASK_RUNNING arrived.
    pub started: u64,
    pub ended: u64,
}

/// Times of tasks while they are recorded, in microseconds.
#[derive(Debug, Default)]
pub struct Recorded {
    /// From ACCEPT to TASK_RUNNING.
    pub to_running: Vec<u64>,
    /// From ACCEPT to TASK_FINISHED, beyond what the task runs.
    pub beyond_run: Vec<u64>,
}

#[derive(Debug)]
struct Board {
    counts: watch::Sender<Counts>,
    recorded: Mutex<Option<Recorded>>,
}

pub struct Load {
    board: Arc<Board>,
    counts: watch::Receiver<Counts>,
    /// Tasks that are due: whoever holds an offer takes some.
    due: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    working: JoinSet<Result<()>>,
}

struct Scheduled {
    accepted: Instant,
    runs: Option<Duration>,
    running: bool,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

struct Worker {
    name: usize,
    runs: Runs,
    calls: Calls,
    events: Events,
    board: Arc<Board>,
    due: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    launched: u64,
    offers: VecDeque<Offer>,
    tasks: HashMap<String, Scheduled>,
    answers: FuturesUnordered<Answer>,
    chance: IdSource,
}

impl Load {
    /// Subscribes the frameworks; nothing is due yet. They keep what they are offered, so they had better come before the
    /// agents: one that came first of all would be offered all there is.
    pub async fn subscribe(master: &str, frameworks: usize, runs: Runs) -> Result<Load> {
        let (counts, seen) = watch::channel(Counts::default());
        let board = Arc::new(Board { counts, recorded: Mutex::new(None) });
        let due = Arc::new(Semaphore::new(0));
        let (stop, stopped) = watch::channel(false);
        let mut working = JoinSet::new();
        for name in 0..frameworks {
            let framework = Framework::new(format!("load-{name}"), "nobody");
            let connected = Scheduler::new(master, framework).event_queue(65_536).start().await;
            let (calls, events) = connected.context("cannot subscribe")?;
            let worker = Worker {
                name,
                runs,
                calls,
                events,
                board: Arc::clone(&board),
                due: Arc::clone(&due),
                stopped: stopped.clone(),
                launched: 0,
                offers: VecDeque::new(),
                tasks: HashMap::new(),
                answers: FuturesUnordered::new(),
                chance: IdSource::new([name as u64, 1]),
            };
            working.spawn(worker.work());
        }
        Ok(Load { board, counts: seen, due, stop, working })
    }

    /// So many tasks more, as soon as offers hold them.
    pub fn order(&self, tasks: usize) {
        self.due.add_permits(tasks);
    }

    /// Orders tasks at a rate, for a time, whatever becomes of them.
    pub async fn order_for(&mut self, per_second: u32, time: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut ordered = 0;
        let mut ticks = tokio::time::interval(PACE);
        while begin.elapsed() < time {
            ticks.tick().await;
            let due = (begin.elapsed().as_secs_f64() * f64::from(per_second)) as usize;
            self.order(due - ordered);
            ordered = due;
            self.check()?;
        }
        Ok(())
    }

    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts are so.
    pub async fn until(&mut self, what: &str, so: impl Fn(&Counts) -> bool) -> Result<()> {
        let mut counts = self.counts.clone();
        let end = Instant::now() + PATIENCE;
        loop {
            // A worker that failed says so within the second.
            let waited =
                tokio::time::timeout(Duration::from_secs(1), counts.wait_for(|counts| so(counts)));
            if let Ok(seen) = waited.await {
                seen.context("all frameworks have ended")?;
                return Ok(());
            }
            self.check()?;
            if Instant::now() > end {
                bail!("waited {} s for {what}: {:?}", PATIENCE.as_secs(), self.counts());
            }
        }
    }

    /// Whether all frameworks still work.
    fn check(&mut self) -> Result<()> {
        match self.working.try_join_next() {
            None => Ok(()),
            Some(Ok(Ok(()))) => bail!("a framework ended early"),
            Some(Ok(Err(error))) => Err(error.context("a framework ended early")),
            Some(Err(error)) => Err(error).context("a framework ended early"),
        }
    }

    /// From here on times are kept.
    pub fn record(&self) {
        *lock(&self.board.recorded) = Some(Recorded::default());
    }

    /// Those kept since `record`.
    pub fn recorded(&self) -> Recorded {
        lock(&self.board.recorded).take().unwrap_or_default()
    }

    /// Tears the frameworks down.
    pub async fn end(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.working.join_next().await {
            ended.context("a framework ended early")??;
        }
        Ok(())
    }
}

impl Worker {
    async fn work(mut self) -> Result<()> {
        let due = Arc::clone(&self.due);
        loop {
            // All arms are cancel-safe.
            tokio::select! {
                event = self.events.next() => {
                    let event = event.context("the subscription ended")?;
                    self.hear(event)?;
                }
                permit = due.acquire(), if !self.offers.is_empty() => {
                    permit.context("nothing is ever due again")?.forget();
                    self.place();
                }
                _ = self.stopped.changed() => break,
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => {
                    answer.context("a launch was refused")?;
                }
            }
        }
        self.calls.teardown().await.context("cannot tear down")
    }

    fn hear(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Offers(offers) => self.offers.extend(offers),
            Event::Rescinded(id) => self.offers.retain(|offer| offer.id != id),
            Event::Update(status) => {
                let state = status.state();
                let Some(task) = self.tasks.get_mut(&status.task_id.value) else { return Ok(()) };
                if state == TaskState::TaskRunning && !task.running {
                    task.running = true;
                    let waited = micros(task.accepted.elapsed());
                    self.board.note(|recorded| recorded.to_running.push(waited));
                    self.board.counts.send_modify(|counts| counts.started += 1);
                }
                if is_terminal(state) {
                    if state != TaskState::TaskFinished {
                        bail!("a task ended otherwise: {status:?}");
                    }
                    let runs = task.runs.unwrap_or_default();
                    let beyond = micros(task.accepted.elapsed().saturating_sub(runs));
                    self.board.note(|recorded| recorded.beyond_run.push(beyond));
                    self.tasks.remove(&status.task_id.value);
                    self.board.counts.send_modify(|counts| counts.ended += 1);
                }
            }
            Event::Disconnected { reason } => bail!("the master disconnected: {reason}"),
            _ => {}
        }
        Ok(())
    }

    /// Puts the task that was taken, and more if they are due, on the first offer at hand.
    fn place(&mut self) {
        let Some(offer) = self.offers.pop_front() else { return self.due.add_permits(1) };
        let mut room = Room::of(&offer);
        let (mut placed, mut ids) = (Vec::new(), Vec::new());
        let mut taken = 1;
        while taken > 0 {
            let (task, runs) = self.task(placed.len());
            let Some(info) = room.fit(&task) else { break };
            ids.push((task.id().to_owned(), runs));
            placed.push(info);
            taken -= 1;
            if let Ok(permit) = self.due.try_acquire() {
                permit.forget();
                taken += 1;
            }
        }
        self.due.add_permits(taken);
        let accepted = Instant::now();
        self.launched += placed.len() as u64;
        self.board.counts.send_modify(|counts| counts.launched += placed.len() as u64);
        let scheduled = |runs| Scheduled { accepted, runs, running: false };
        self.tasks.extend(ids.into_iter().map(|(id, runs)| (id, scheduled(runs))));
        let calls = self.calls.clone();
        // An offer with room for nothing is declined, and comes again when there is more.
        self.answers.push(Box::pin(async move { calls.launch(&offer, placed).await }));
    }

    fn task(&mut self, after: usize) -> (Task, Option<Duration>) {
        let number = self.launched + after as u64;
        let task = Task::command(format!("{}.{number}", self.name), "load").cpus(1.0).mem(1024.0);
        match self.runs {
            Runs::Forever => (task.shell("sleep infinity"), None),
            Runs::Nothing => (task.shell("true"), Some(Duration::ZERO)),
            Runs::About(mean) => {
                let seconds = (mean + mean / 3.0 * self.normal()).max(mean / 30.0);
                let runs = Duration::from_millis((seconds * 1e3) as u64);
                (task.shell(format!("sleep {}", runs.as_secs_f64())), Some(runs))
            }
        }
    }

    /// About normal with mean 0 and deviation 1: twelve uniform numbers, added up.
    fn normal(&mut self) -> f64 {
        let uniform = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
        (0..12).map(|_| uniform(self.chance.next_u64())).sum::<f64>() - 6.0
    }
}

impl Board {
    fn note(&self, note: impl FnOnce(&mut Recorded)) {
        if let Some(recorded) = &mut *lock(&self.recorded) {
            note(recorded);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Nothing is left half done where a panic could happen under it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
