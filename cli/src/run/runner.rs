//! The loop of `mezzo run`.

use std::time::Duration;

use mezzo_sdk::v1::{Offer, TaskStatus};
use mezzo_sdk::{CallError, Calls, Demand, Ended, Event, Events};
use tokio::time::{Instant, sleep_until, timeout};

use crate::arguments::Global;
use crate::failure::{BROKEN_PIPE, Failure, note, warn};
use crate::interrupt::Interrupts;
use crate::output::{self, Format, print_text};
use crate::run::RunArguments;
use crate::run::batch::{Batch, Change};
use crate::run::ending::{complaint, exit_code};
use crate::run::output::Output;
use crate::run::shortage::Shortage;
use crate::run::summary::{Detached, Summary};

/// Kills are not reliable across failures, so they are repeated.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// The shortage is explained again after this time.
const EXPLAIN_AGAIN: Duration = Duration::from_secs(30);

/// A master that does not answer the farewell is left without it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Failures of a large run that are told one by one.
const COMPLAINTS: usize = 10;

/// Exit code of a run that was ended by `--timeout`, as of timeout(1).
const TIMED_OUT: u8 = 124;

/// Long enough not to be asked again before the run is over; a revival forgets it.
const NO_MORE_OFFERS: Duration = Duration::from_secs(3600);

pub(crate) struct Runner<'r> {
    global: &'r Global,
    arguments: &'r RunArguments,
    calls: Calls,
    events: Events,
    interrupts: Interrupts,
    batch: Batch,
    shortage: Shortage,
    output: Option<Output>,
    /// The exit code to end with, once the tasks are being ended before their time.
    ending_with: Option<u8>,
    first_launch: Option<Instant>,
    explain_at: Instant,
    kill_at: Option<Instant>,
    timeout_at: Option<Instant>,
}

impl<'r> Runner<'r> {
    pub(crate) fn new(
        global: &'r Global,
        arguments: &'r RunArguments,
        calls: Calls,
        events: Events,
        interrupts: Interrupts,
        batch: Batch,
    ) -> Self {
        let now = Instant::now();
        Runner {
            global,
            arguments,
            calls,
            events,
            interrupts,
            batch,
            shortage: Shortage::default(),
            output: None,
            ending_with: None,
            first_launch: None,
            explain_at: now + arguments.patience,
            kill_at: None,
            timeout_at: arguments.timeout.map(|timeout| now + timeout),
        }
    }

    pub(crate) async fn run(mut self) -> Result<u8, Failure> {
        let outcome = self.until_over().await;
        match outcome {
            Ok(Over::Finished) => {
                let code = self.report().await?;
                self.farewell().await;
                Ok(code)
            }
            Ok(Over::Detached) => self.leave().await,
            Ok(Over::GivenUp(code)) => {
                warn(
                    "not waiting for the end of the tasks: the master ends them if they still run",
                );
                self.farewell().await;
                Ok(code)
            }
            Err(failure) => {
                // The tasks end with their framework.
                self.farewell().await;
                Err(failure)
            }
        }
    }

    async fn until_over(&mut self) -> Result<Over, Failure> {
        loop {
            if self.arguments.detach && self.ending_with.is_none() && self.batch.has_started() {
                return Ok(Over::Detached);
            }
            if self.batch.is_finished() {
                return Ok(Over::Finished);
            }
            let far = Instant::now() + EXPLAIN_AGAIN;
            // All arms are cancel-safe: each either yields its item or leaves it where it is.
            tokio::select! {
                event = self.events.next() => self.handle(event).await?,
                signal = self.interrupts.next() => {
                    if self.ending_with.is_some() {
                        return Ok(Over::GivenUp(128 + signal));
                    }
                    note("ending the task; Ctrl-C again leaves without waiting for its end");
                    self.end_tasks(128 + signal).await;
                }
                () = reader_gone(&mut self.output), if self.ending_with.is_none() => {
                    self.end_tasks(BROKEN_PIPE).await;
                }
                () = sleep_until(self.timeout_at.unwrap_or(far)),
                    if self.timeout_at.is_some() && self.ending_with.is_none() =>
                {
                    note("the time is up: ending the task");
                    self.end_tasks(TIMED_OUT).await;
                }
                () = sleep_until(self.explain_at), if self.batch.is_waiting() => {
                    warn(&self.shortage.explain(self.batch.waiting(), self.demand()));
                    self.explain_at = Instant::now() + EXPLAIN_AGAIN;
                }
                () = sleep_until(self.kill_at.unwrap_or(far)), if self.kill_at.is_some() => {
                    self.kill_all().await;
                }
            }
        }
    }

    /// All tasks of a run ask for the same.
    fn demand(&self) -> Demand {
        self.batch.task(0).demand()
    }

    async fn handle(&mut self, event: Result<Event, Ended>) -> Result<(), Failure> {
        match event {
            Ok(Event::Offers(offers)) => self.consider(&offers).await,
            Ok(Event::Update(status)) => {
                self.take(&status).await;
                Ok(())
            }
            Ok(Event::Subscribed { .. }) => {
                self.catch_up().await;
                Ok(())
            }
            Ok(Event::Disconnected { reason }) => {
                self.shortage.clear();
                warn(&format!("connection to the master lost ({reason}); trying to get it back"));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(ended) => Err(Failure::new(ended.to_string())),
        }
    }

    /// Asks after what is out there, after the first subscription (nothing) and each later one.
    async fn catch_up(&mut self) {
        let out_there = self.batch.out_there();
        if !out_there.is_empty() {
            note("connected to the master again");
            // If it fails the connection broke, and its return brings us here again.
            let _ = self.calls.reconcile(out_there).await;
        }
        if self.kill_at.is_some() {
            self.kill_all().await;
        }
    }

    async fn consider(&mut self, offers: &[Offer]) -> Result<(), Failure> {
        for offer in offers {
            let placed = self.batch.place(offer);
            if placed.is_empty() {
                let refuse = if self.batch.is_waiting() {
                    self.shortage.note(offer);
                    None
                } else {
                    Some(NO_MORE_OFFERS)
                };
                // A lost connection gives every offer back.
                let _ = self.calls.decline(vec![offer.id.clone()], refuse).await;
                continue;
            }
            self.first_launch.get_or_insert_with(Instant::now);
            let ids: Vec<String> = placed.iter().map(|info| info.task_id.value.clone()).collect();
            match self.calls.launch(offer, placed).await {
                Ok(()) => {}
                Err(CallError::Disconnected { .. }) => {
                    self.batch.launch_unanswered(ids.iter().map(String::as_str));
                }
                Err(error) => return Err(Failure::new(error.to_string())),
            }
            if !self.batch.is_waiting() {
                let _ = self.calls.suppress(Vec::new()).await;
            }
        }
        Ok(())
    }

    async fn take(&mut self, status: &TaskStatus) {
        match self.batch.update(status) {
            Change::None => {}
            Change::Running(at) => self.show_output(at),
            Change::Waiting if self.ending_with.is_some() => self.batch.abandon_waiting(),
            Change::Waiting => {
                self.explain_at = Instant::now() + self.arguments.patience;
                let _ = self.calls.revive(Vec::new()).await;
            }
            Change::Unreachable(at) => warn(&format!(
                "the agent of {} is out of reach; waiting for it",
                self.batch.task(at).id()
            )),
            Change::Over(at) => {
                // Too short to be seen running, or over before it ran: it may have said why.
                self.show_output(at);
            }
        }
    }

    /// Copies the output of the one task of an attended run.
    fn show_output(&mut self, at: usize) {
        if self.batch.len() > 1 || self.arguments.detach || self.output.is_some() {
            return;
        }
        if let Some(agent_id) = self.batch.sandbox(at).cloned() {
            let task_id = self.batch.task_id(at);
            let framework_id = self.calls.framework_id().clone();
            let master = self.global.master.clone();
            self.output = Some(Output::start(master, agent_id, framework_id, task_id));
        }
    }

    async fn end_tasks(&mut self, code: u8) {
        self.ending_with = Some(code);
        self.batch.abandon_waiting();
        self.kill_all().await;
    }

    async fn kill_all(&mut self) {
        for (task_id, agent_id) in self.batch.out_there() {
            // Repeated until the task is over, so a failure needs no answer.
            let _ = self.calls.kill(task_id, agent_id, None).await;
        }
        self.kill_at = Some(Instant::now() + KILL_AGAIN);
    }

    /// Prints what there is to say about tasks that are over; the exit code.
    async fn report(&mut self) -> Result<u8, Failure> {
        let elapsed = self.first_launch.map_or(Duration::ZERO, |first| first.elapsed());
        if let Some(output) = self.output.take() {
            output.finish().await;
        }
        let mut complaints = self
            .batch
            .endings()
            .filter_map(|(task, status)| complaint(task.id(), status))
            .peekable();
        // Who ended the task himself need not be told.
        if self.ending_with.is_none() || self.batch.len() > 1 {
            for sentence in complaints.by_ref().take(COMPLAINTS) {
                note(&sentence);
            }
            let more = complaints.count();
            if more > 0 {
                note(&format!("and {more} more"));
            }
        }
        if self.batch.len() > 1 {
            let endings = self.batch.endings().map(|(_, status)| status);
            let summary = Summary::new(self.batch.len(), endings, elapsed);
            match self.global.output {
                Format::Table => print_text(&summary.line())?,
                Format::Json => print_text(&output::json(&[summary])?)?,
            }
        }
        let first_failure =
            self.batch.endings().map(|(_, status)| exit_code(status)).find(|code| *code != 0);
        Ok(self.ending_with.or(first_failure).unwrap_or(0))
    }

    /// Leaves the tasks running, and the framework registered for them. If all are over already
    /// there is nothing to keep it for.
    async fn leave(&mut self) -> Result<u8, Failure> {
        // An update that nobody acknowledges would hold back the later ones of its task.
        if let Err(error) = self.events.settle().await {
            warn(&format!("the last update is not acknowledged: {error}"));
        }
        let rows: Vec<Detached> = (0..self.batch.len())
            .map(|at| Detached {
                task_id: self.batch.task(at).id().to_owned(),
                framework_id: self.calls.framework_id().value.clone(),
                agent_id: self.batch.agent_id(at).map(|id| id.value.clone()),
            })
            .collect();
        match self.global.output {
            Format::Json => print_text(&output::json(&rows)?)?,
            Format::Table => {
                let ids: String = rows.iter().map(|row| format!("{}\n", row.task_id)).collect();
                print_text(&ids)?;
            }
        }
        let mut code = 0;
        for (task, status) in self.batch.endings() {
            if let Some(sentence) = complaint(task.id(), status) {
                note(&sentence);
            }
            if code == 0 {
                code = exit_code(status);
            }
        }
        if self.batch.is_finished() {
            self.farewell().await;
        }
        Ok(code)
    }

    /// Removes the framework, and with it whatever may be left of its tasks.
    async fn farewell(&mut self) {
        match timeout(FAREWELL, self.calls.teardown()).await {
            Ok(Ok(()) | Err(CallError::Ended { .. })) => {}
            Ok(Err(_)) | Err(_) => warn(
                "the master did not take the farewell; it forgets this run by itself in some \
                 seconds",
            ),
        }
    }
}

enum Over {
    Finished,
    Detached,
    /// By a second interrupt.
    GivenUp(u8),
}

async fn reader_gone(output: &mut Option<Output>) {
    match output {
        Some(output) => output.reader_gone().await,
        None => std::future::pending().await,
    }
}
