//! The framework: a process of its own that launches tasks without end, dies at any moment, and goes
//! on from its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mezzo_sdk::v1::{self, TaskStatus};
use mezzo_sdk::{
    Acknowledgement, CallError, Calls, Event, Events, Framework, Room, Scheduler, is_terminal,
};

use crate::journal::{Entry, Journal, Update};
use crate::task::{self, Kind, STAYING};

/// Tasks under way at a time: enough that every step of a launch is taken at every moment.
const UNDER_WAY: usize = 16;
/// Between two questions for tasks of which nothing is heard.
const REMIND: Duration = Duration::from_millis(500);

/// Arguments of the framework process.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// HOST:PORT of the master
    #[arg(long)]
    master: String,
    /// Where journal and witness are
    #[arg(long)]
    directory: PathBuf,
    /// Of the load
    #[arg(long)]
    seed: u64,
}

/// What is known of a task that has not ended.
#[derive(Debug, Clone, Default)]
struct Open {
    agent: String,
    runs: bool,
}

struct Life {
    arguments: Arguments,
    journal: Journal,
    calls: Calls,
    offers: Vec<v1::Offer>,
    open: BTreeMap<String, Open>,
    /// Numbers from here on were never used.
    next: u64,
    connected: bool,
}

/// Launches until the file `stop` appears beside the journal, then ends all that stays and settles.
pub async fn run(arguments: Arguments) -> Result<()> {
    let (mut journal, entries) = Journal::open(&arguments.directory.join("journal"))?;
    let mut framework = Framework::new("kills", "root").failover_timeout(Duration::from_secs(3600));
    let (open, next) = recall(&entries);
    let known = entries.iter().rev().find_map(|entry| match entry {
        Entry::Subscribed { framework } => Some(framework.clone()),
        _ => None,
    });
    if let Some(id) = known {
        framework = framework.id(id);
    }
    let scheduler = Scheduler::new(&arguments.master, framework)
        .acknowledgement(Acknowledgement::Manual)
        .patience(Duration::from_secs(120))
        .backoff(Duration::from_millis(20), Duration::from_millis(200));
    let (calls, events) = scheduler.start().await.context("cannot subscribe")?;
    let framework = calls.framework_id().value.clone();
    journal.write(&Entry::Subscribed { framework })?;
    let life = Life { arguments, journal, calls, offers: Vec::new(), open, next, connected: false };
    life.go_on(events).await
}

/// Tasks that have not ended as far as the journal tells, and the next free number.
fn recall(entries: &[Entry]) -> (BTreeMap<String, Open>, u64) {
    let mut open = BTreeMap::<String, Open>::new();
    let mut next = 0;
    for entry in entries {
        match entry {
            Entry::Launching { task, agent } => {
                open.insert(task.clone(), Open { agent: agent.clone(), runs: false });
                next = next.max(task::number(task).map_or(0, |number| number + 1));
            }
            Entry::Refused { task, .. } => drop(open.remove(task)),
            Entry::Update(update) if settles(update) => drop(open.remove(&update.task)),
            Entry::Update(update) if update.state == "TASK_RUNNING" => {
                if let Some(task) = open.get_mut(&update.task) {
                    task.runs = true;
                }
            }
            _ => {}
        }
    }
    (open, next)
}

/// Whether nothing more is to come: an ending that was reported, or the master's word that there is
/// no such task. An ending told by reconciliation only is still to be reported.
pub fn settles(update: &Update) -> bool {
    let state = v1::TaskState::from_str_name(&update.state);
    let terminal = state.is_some_and(is_terminal) || update.state == "TASK_UNKNOWN";
    let retold = update.message == "Reconciliation: Latest task state";
    terminal && (update.uuid.is_some() || !retold)
}

impl Life {
    async fn go_on(mut self, mut events: Events) -> Result<()> {
        let mut remind = tokio::time::interval(REMIND);
        loop {
            let stopping = self.arguments.directory.join("stop").exists();
            if stopping && self.open.is_empty() {
                return self.journal.write(&Entry::Settled);
            }
            if !stopping {
                self.place().await?;
            }
            // Both arms are cancel-safe.
            tokio::select! {
                event = events.next() => self.take(event.context("the subscription ended")?).await?,
                _ = remind.tick() => self.remind(stopping).await?,
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Subscribed { .. } => {
                self.connected = true;
                self.offers.clear();
                self.remind(false).await?;
            }
            Event::Disconnected { .. } => {
                self.connected = false;
                self.offers.clear();
            }
            Event::Offers(offers) => self.offers.extend(offers),
            Event::Rescinded(id) => self.offers.retain(|offer| offer.id != id),
            Event::Update(status) => self.updated(&status).await?,
            _ => {}
        }
        Ok(())
    }

    async fn updated(&mut self, status: &TaskStatus) -> Result<()> {
        let update = Update::of(status);
        self.journal.write(&Entry::Update(update.clone()))?;
        if status.uuid.is_some() {
            tolerate(self.calls.acknowledge(status).await)?;
        }
        if settles(&update) {
            self.open.remove(&update.task);
        } else if update.state == "TASK_RUNNING"
            && let Some(task) = self.open.get_mut(&update.task)
            && !std::mem::replace(&mut task.runs, true)
            && self.kind(&update.task) == Some(Kind::IsKilled)
        {
            self.kill(&update.task).await?;
        }
        Ok(())
    }

    fn kind(&self, id: &str) -> Option<Kind> {
        task::number(id).map(|number| Kind::of(self.arguments.seed, number))
    }

    /// Fills up what is under way.
    async fn place(&mut self) -> Result<()> {
        while self.connected && self.open.len() < UNDER_WAY {
            let Some(offer) = self.offers.pop() else { return Ok(()) };
            let mut room = Room::of(&offer);
            let mut infos = Vec::new();
            let begin = self.next;
            while self.open.len() + infos.len() < UNDER_WAY {
                let id = task::id(self.next);
                let kind = Kind::of(self.arguments.seed, self.next);
                let task = kind.task(&id, &self.arguments.directory.join("witness"));
                let Some(info) = room.fit(&task) else { break };
                infos.push(info);
                self.next += 1;
            }
            for number in begin..self.next {
                let (task, agent) = (task::id(number), offer.agent_id.value.clone());
                let open = Open { agent: agent.clone(), runs: false };
                self.journal.write(&Entry::Launching { task: task.clone(), agent })?;
                self.open.insert(task, open);
            }
            let answer = self.calls.launch(&offer, infos).await;
            let tasks: BTreeSet<String> = (begin..self.next).map(task::id).collect();
            match answer {
                Ok(()) => {
                    for task in tasks {
                        self.journal.write(&Entry::Accepted { task })?;
                    }
                }
                Err(CallError::Refused { message, .. }) => {
                    for task in tasks {
                        self.open.remove(&task);
                        let message = message.clone();
                        self.journal.write(&Entry::Refused { task, message })?;
                    }
                }
                // Whether they were launched is found out by asking.
                Err(error) => tolerate(Err(error))?,
            }
        }
        Ok(())
    }

    /// Asks what became of every task that has not ended, and kills again what is to be killed.
    async fn remind(&mut self, stopping: bool) -> Result<()> {
        if !self.connected {
            return Ok(());
        }
        let asked: Vec<_> = self
            .open
            .iter()
            .map(|(id, open)| {
                let agent = v1::AgentId { value: open.agent.clone() };
                (v1::TaskId { value: id.clone() }, Some(agent))
            })
            .collect();
        if !asked.is_empty() {
            tolerate(self.calls.reconcile(asked).await)?;
        }
        let running: Vec<String> =
            self.open.iter().filter(|(_, open)| open.runs).map(|(id, _)| id.clone()).collect();
        for id in running {
            let staying = task::number(&id).is_some_and(|number| number < STAYING);
            if self.kind(&id) == Some(Kind::IsKilled) || (stopping && staying) {
                self.kill(&id).await?;
            }
        }
        Ok(())
    }

    async fn kill(&mut self, id: &str) -> Result<()> {
        let Some(open) = self.open.get(id) else { return Ok(()) };
        let agent = v1::AgentId { value: open.agent.clone() };
        self.journal.write(&Entry::Killing { task: id.to_owned() })?;
        tolerate(self.calls.kill(v1::TaskId { value: id.to_owned() }, Some(agent), None).await)
    }
}

/// A connection that is gone comes back. A call that is refused is a mistake of this program or of
/// the master, unless it is about something that ended meanwhile.
fn tolerate(answer: Result<(), CallError>) -> Result<()> {
    match answer {
        Ok(()) | Err(CallError::Disconnected { .. }) => Ok(()),
        Err(CallError::Refused { call: "KILL" | "ACKNOWLEDGE", .. }) => Ok(()),
        Err(error) => bail!("a call failed: {error}"),
    }
}
