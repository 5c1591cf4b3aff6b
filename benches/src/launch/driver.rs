//! The framework that everything is measured with.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mezzo_sdk::v1::{Offer, TaskState, TaskStatus};
use mezzo_sdk::{Calls, Event, Events, Framework, Room, Scheduler, Task, is_terminal};
use tokio::task::JoinSet;

/// For anything that is awaited: far beyond what it should take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Driver {
    calls: Calls,
    events: Events,
    offers: VecDeque<Offer>,
    /// Answers to launches that nobody waits for at once.
    answers: JoinSet<Result<()>>,
    tasks: u64,
}

impl Driver {
    pub async fn connect(master: &str) -> Result<Driver> {
        let connected = Scheduler::connect(master, Framework::new("bench", "root")).await;
        let (calls, events) = connected.context("cannot subscribe")?;
        let (offers, answers) = (VecDeque::new(), JoinSet::new());
        Ok(Driver { calls, events, offers, answers, tasks: 0 })
    }

    pub async fn teardown(self) -> Result<()> {
        self.calls.teardown().await.context("cannot tear down")
    }

    /// Acknowledges what was heard last, so that nothing is left to do.
    pub async fn settle(&mut self) -> Result<()> {
        self.events.settle().await.context("cannot acknowledge")
    }

    /// A task with an id of its own.
    pub fn task(&mut self, argv: &[&str]) -> Task {
        self.tasks += 1;
        Task::command(format!("task.{}", self.tasks), "bench")
            .cpus(0.1)
            .mem(32.0)
            .argv(argv.iter().copied())
    }

    /// Launches a task and waits until it runs: its last status, and the time from ACCEPT to its
    /// arrival.
    pub async fn start(&mut self, task: &Task) -> Result<(TaskStatus, Duration)> {
        let offer = self.offer().await?;
        let begin = Instant::now();
        self.launch(offer, std::slice::from_ref(task))?;
        let status = self.update(task.id(), |state| state == TaskState::TaskRunning).await?;
        Ok((status, begin.elapsed()))
    }

    /// As many tasks of one kind as `count` says, running: their statuses.
    pub async fn start_many(&mut self, argv: &[&str], count: usize) -> Result<Vec<TaskStatus>> {
        let mut waiting = VecDeque::from_iter((0..count).map(|_| self.task(argv)));
        let mut running = Vec::new();
        while running.len() < count {
            self.place(&mut waiting)?;
            let Some(status) = self.next().await? else { continue };
            ensure!(!is_terminal(status.state()), "a task ended too early: {status:?}");
            if status.state() == TaskState::TaskRunning {
                running.push(status);
            }
        }
        Ok(running)
    }

    /// Runs tasks from their launch, as many at once as offers hold, to their end: the time for all.
    pub async fn run_batch(&mut self, argv: &[&str], count: usize) -> Result<Duration> {
        let mut waiting = VecDeque::from_iter((0..count).map(|_| self.task(argv)));
        let first = self.offer().await?;
        self.offers.push_front(first);
        let begin = Instant::now();
        let mut unfinished = count;
        while unfinished > 0 {
            self.place(&mut waiting)?;
            let Some(status) = self.next().await? else { continue };
            unfinished -= usize::from(finished(&status)?);
        }
        Ok(begin.elapsed())
    }

    /// Puts what waits on the offers at hand.
    pub fn place(&mut self, waiting: &mut VecDeque<Task>) -> Result<()> {
        while !waiting.is_empty()
            && let Some(offer) = self.offers.pop_front()
        {
            let mut room = Room::of(&offer);
            let fitting = waiting.iter().take_while(|task| room.fit(task).is_some()).count();
            let tasks = Vec::from_iter(waiting.drain(..fitting));
            // An offer with room for nothing is declined, and comes again when there is more.
            self.launch(offer, &tasks)?;
        }
        Ok(())
    }

    /// Sends the launch; a refusal is told by one of the next calls of `next`.
    fn launch(&mut self, offer: Offer, tasks: &[Task]) -> Result<()> {
        let mut room = Room::of(&offer);
        let placed: Option<Vec<_>> = tasks.iter().map(|task| room.fit(task)).collect();
        let placed = placed.context("an offer without room")?;
        let calls = self.calls.clone();
        self.answers.spawn(async move {
            calls.launch(&offer, placed).await.context("a launch was refused")
        });
        Ok(())
    }

    /// The oldest offer at hand.
    async fn offer(&mut self) -> Result<Offer> {
        loop {
            if let Some(offer) = self.offers.pop_front() {
                return Ok(offer);
            }
            let other = self.next().await?;
            ensure!(other.is_none(), "an update came that nobody waits for: {other:?}");
        }
    }

    /// Waits for an update of this task that is `wanted`.
    pub async fn update(
        &mut self,
        id: &str,
        wanted: impl Fn(TaskState) -> bool,
    ) -> Result<TaskStatus> {
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

    /// One event; the status if it is an update. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<TaskStatus>> {
        while let Some(answer) = self.answers.try_join_next() {
            answer.context("a launch was not sent")??;
        }
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

/// Whether the task is over; an error if it ended otherwise than well.
pub fn finished(status: &TaskStatus) -> Result<bool> {
    let state = status.state();
    ensure!(
        !is_terminal(state) || state == TaskState::TaskFinished,
        "a task ended otherwise: {status:?}"
    );
    Ok(is_terminal(state))
}
