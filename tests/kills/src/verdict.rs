//! What must hold of everything that the framework was told, held against what the tasks wrote
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::framework::settles;
use crate::journal::{Entry, Update};
use crate::task::{self, Kind};

/// What happened beside the journal.
#[derive(Debug, Default)]
pub struct Evidence {
    /// How often each task's first act was seen.
    pub begun: BTreeMap<String, u32>,
    /// Tasks whose first process was killed from outside.
    pub struck: BTreeSet<String>,
}

impl Evidence {
    /// Takes the witness file: a task's id a line.
    pub fn read_witness(&mut self, text: &str) {
        self.begun.clear();
        for line in text.lines() {
            *self.begun.entry(line.to_owned()).or_default() += 1;
        }
    }
}

/// One task's history.
#[derive(Debug, Clone, Default)]
struct History {
    accepted: bool,
    refused: bool,
    killing: bool,
    updates: Vec<Update>,
}

/// All histories, read as they grow.
#[derive(Debug)]
pub struct Verdict {
    seed: u64,
    tasks: BTreeMap<String, History>,
    frameworks: BTreeSet<String>,
    settled: bool,
}

/// What the load came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub launched: usize,
    pub ended: usize,
    pub begun: usize,
    /// Endings by state and reason.
    pub endings: BTreeMap<String, usize>,
}

impl Verdict {
    pub fn new(seed: u64) -> Self {
        Verdict { seed, tasks: BTreeMap::new(), frameworks: BTreeSet::new(), settled: false }
    }

    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Subscribed { framework } => drop(self.frameworks.insert(framework)),
            Entry::Launching { task, .. } => drop(self.tasks.entry(task).or_default()),
            Entry::Accepted { task } => self.tasks.entry(task).or_default().accepted = true,
            Entry::Refused { task, .. } => self.tasks.entry(task).or_default().refused = true,
            Entry::Killing { task } => self.tasks.entry(task).or_default().killing = true,
            Entry::Update(update) => {
                self.tasks.entry(update.task.clone()).or_default().updates.push(update);
            }
            Entry::Settled => self.settled = true,
        }
    }

    pub fn settled(&self) -> bool {
        self.settled
    }

    /// Tasks that have ended.
    pub fn ended(&self) -> usize {
        self.tasks.values().filter(|history| history.ending().is_some()).count()
    }

    pub fn tally(&self, evidence: &Evidence) -> Tally {
        let mut tally = Tally { launched: self.tasks.len(), ..Tally::default() };
        tally.begun = evidence.begun.len();
        for ending in self.tasks.values().filter_map(History::ending) {
            tally.ended += 1;
            let reason = ending.reason.as_deref().unwrap_or("-");
            *tally.endings.entry(format!("{} {reason}", ending.state)).or_default() += 1;
        }
        tally
    }

    /// Every breach, each with the task's history. With `over`, also what only holds at the end.
    pub fn breaches(&self, evidence: &Evidence, over: bool) -> Vec<String> {
        let mut breaches = Vec::new();
        if self.frameworks.len() > 1 {
            breaches.push(format!("the framework changed its id: {:?}", self.frameworks));
        }
        for (id, history) in &self.tasks {
            let kind = task::number(id).map(|number| Kind::of(self.seed, number));
            let begun = evidence.begun.get(id).copied().unwrap_or(0);
            let struck = evidence.struck.contains(id);
            let said = history.order_breach().or_else(|| match (history.ending(), kind) {
                (Some(ending), Some(kind)) => history.ending_breach(kind, ending, begun, struck),
                (None, _) if over && !history.refused => {
                    Some("its end was never reported: the task is lost".to_owned())
                }
                _ => None,
            });
            let twice = (begun > 1).then(|| format!("it ran {begun} times"));
            breaches.extend(said.into_iter().chain(twice).map(|breach| {
                let told: String =
                    history.updates.iter().map(|update| format!("\n      {update:?}")).collect();
                let accepted = if history.accepted { ", accepted" } else { "" };
                format!("{id} {kind:?} (began {begun} times{accepted}): {breach}{told}")
            }));
        }
        for id in evidence.begun.keys().filter(|id| !self.tasks.contains_key(*id)) {
            breaches.push(format!("{id} ran and was never launched"));
        }
        breaches
    }
}

impl History {
    fn ending(&self) -> Option<&Update> {
        self.updates.iter().find(|update| settles(update))
    }

    /// Updates lost, reordered or contradicted.
    fn order_breach(&self) -> Option<String> {
        let mut last: Option<&Update> = None;
        let mut seen = BTreeSet::new();
        let mut told: Option<&Update> = None;
        for update in &self.updates {
            let rank = rank(&update.state);
            // A late answer about a task that has ended and was forgotten: nobody knows it any more.
            let unknown = matches!(update.state.as_str(), "TASK_GONE" | "TASK_UNKNOWN");
            if unknown
                && update.uuid.is_none()
                && (last.is_some_and(is_end) || told.is_some_and(settles))
            {
                continue;
            }
            // An answer of the master may run ahead of updates that are still on their way, but its own
            // verdict, a second answer and another ending may not differ.
            if let Some(told) = told
                && told.state != update.state
                && (settles(told) || is_end(update) || update.uuid.is_none())
            {
                return Some(format!("{} contradicts {} before it", update.state, told.state));
            }
            match &update.uuid {
                None if is_end(update) => told = Some(update),
                None => {}
                Some(uuid) if seen.insert(uuid) => {
                    if last.is_some_and(is_end) {
                        return Some(format!("{} came after the end", update.state));
                    }
                    if last.is_some_and(|last| self::rank(&last.state) >= rank) {
                        return Some(format!("{} came out of order", update.state));
                    }
                    last = Some(update);
                }
                Some(uuid) => {
                    if last.and_then(|last| last.uuid.as_ref()) != Some(uuid) {
                        return Some(format!("{} came again after a later update", update.state));
                    }
                    if last.is_some_and(|last| last != update) {
                        return Some(format!("{} came again and differs", update.state));
                    }
                }
            }
            if update.uuid.is_none()
                && let Some(last) = last
                && (rank < self::rank(&last.state) || is_end(last) && last.state != update.state)
            {
                return Some(format!("{} contradicts {} before it", update.state, last.state));
            }
        }
        None
    }

    /// Whether the ending fits what the task was made to do.
    fn ending_breach(
        &self,
        kind: Kind,
        ending: &Update,
        begun: u32,
        struck: bool,
    ) -> Option<String> {
        let reason = ending.reason.as_deref();
        let never_ran = match ending.state.as_str() {
            // The agent never got it: the word of a new master, who heard nobody else, or told a
            // framework that was not there.
            "TASK_GONE" if self.updates.iter().all(|update| update.uuid.is_none()) => true,
            "TASK_UNKNOWN" if !self.accepted => true,
            "TASK_UNKNOWN" | "TASK_GONE" | "TASK_LOST" | "TASK_UNREACHABLE" => {
                return Some(format!("{} for a task that was taken: it is lost", ending.state));
            }
            "TASK_DROPPED" => true,
            _ => false,
        };
        if never_ran {
            let ran = begun > 0;
            return ran.then(|| format!("{} although it ran", ending.state));
        }
        let failed = ending.state == "TASK_FAILED";
        let by_signal = |signal| failed && ending.signal == Some(signal);
        // The launcher or the container's first process died before the command was known to run.
        let interrupted = failed && reason == Some("REASON_CONTAINER_LAUNCH_FAILED");
        let cut_short =
            struck && (by_signal(9) || interrupted || reason == Some("REASON_EXECUTOR_TERMINATED"));
        let fits = match kind {
            Kind::Exits { code: 0, .. } => ending.state == "TASK_FINISHED",
            Kind::Exits { code, .. } => failed && ending.exit_code == Some(code),
            Kind::Signals { signal } => by_signal(signal),
            Kind::Hogs => failed && reason == Some("REASON_CONTAINER_LIMITATION_MEMORY"),
            // As shells say it, when nobody was there to hear why.
            Kind::Missing => interrupted || (failed && ending.exit_code == Some(127)),
            Kind::IsKilled | Kind::Stays => ending.state == "TASK_KILLED" && self.killing,
        };
        let must_have_run = fits && kind != Kind::Missing && ending.state != "TASK_KILLED";
        if must_have_run && begun == 0 {
            return Some(format!("{} although it never ran", ending.state));
        }
        (!fits && !cut_short && !interrupted)
            .then(|| format!("{} is not how it ends", ending.state))
    }
}

fn is_end(update: &Update) -> bool {
    rank(&update.state) == ENDED
}

const ENDED: u8 = 4;

/// States only ever grow in this.
fn rank(state: &str) -> u8 {
    match state {
        "TASK_STAGING" => 0,
        "TASK_STARTING" => 1,
        "TASK_RUNNING" => 2,
        "TASK_KILLING" => 3,
        _ => ENDED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 1;

    fn update(state: &str, uuid: &str) -> Update {
        Update {
            task: String::new(),
            state: state.to_owned(),
            uuid: (!uuid.is_empty()).then(|| uuid.to_owned()),
            reason: None,
            exit_code: None,
            signal: None,
            message: String::new(),
        }
    }

    /// A task that exits with 0 at once.
    fn finishing() -> String {
        let zero = |number: &u64| Kind::of(SEED, *number) == Kind::Exits { after_ms: 0, code: 0 };
        task::id((0..).find(zero).unwrap())
    }

    #[track_caller]
    fn check(updates: &[Update], begun: u32, expected: &str) {
        let id = finishing();
        let mut verdict = Verdict::new(SEED);
        verdict.take(Entry::Launching { task: id.clone(), agent: "a".into() });
        verdict.take(Entry::Accepted { task: id.clone() });
        for update in updates {
            verdict.take(Entry::Update(Update { task: id.clone(), ..update.clone() }));
        }
        let mut evidence = Evidence::default();
        evidence.read_witness(&format!("{id}\n").repeat(begun as usize));
        let breaches = verdict.breaches(&evidence, true);
        match expected {
            "" => assert_eq!(breaches, Vec::<String>::new()),
            _ => assert!(breaches.concat().contains(expected), "{breaches:?}"),
        }
    }

    #[test]
    fn what_is_right_passes() {
        let dropped = update("TASK_DROPPED", "");
        check(&[dropped, update("TASK_GONE", "")], 0, "");
        let [starting, running, finished] =
            [("TASK_STARTING", "1"), ("TASK_RUNNING", "2"), ("TASK_FINISHED", "3")]
                .map(|(state, uuid)| update(state, uuid));
        check(&[starting.clone(), running.clone(), finished.clone()], 1, "");
        // Repeated, skipped, and told by the master meanwhile.
        check(&[starting.clone(), starting.clone(), finished.clone(), finished.clone()], 1, "");
        check(&[starting.clone(), update("TASK_RUNNING", ""), running, finished], 1, "");
        check(&[starting.clone(), update("TASK_DROPPED", "2")], 0, "");
        let mut ahead = update("TASK_FINISHED", "");
        ahead.message = "Reconciliation: Latest task state".to_owned();
        check(&[ahead, starting, update("TASK_FINISHED", "2")], 1, "");
    }

    #[test]
    fn each_breach_is_found() {
        let starting = update("TASK_STARTING", "1");
        let running = update("TASK_RUNNING", "2");
        let finished = update("TASK_FINISHED", "3");
        check(std::slice::from_ref(&running), 1, "lost");
        check(&[starting.clone(), finished.clone()], 2, "2 times");
        check(&[running.clone(), starting.clone(), finished.clone()], 1, "out of order");
        check(&[starting.clone(), finished.clone(), running.clone()], 1, "after the end");
        check(&[starting.clone(), finished.clone(), starting.clone()], 1, "came again");
        check(
            &[starting.clone(), running.clone(), update("TASK_FAILED", "3")],
            1,
            "not how it ends",
        );
        check(&[starting.clone(), finished.clone()], 0, "never ran");
        check(&[starting.clone(), update("TASK_DROPPED", "3")], 1, "although it ran");
        check(&[starting.clone(), update("TASK_GONE", "")], 0, "lost");
        check(&[update("TASK_GONE", "")], 1, "although it ran");
        check(&[update("TASK_UNKNOWN", "")], 0, "lost");
        check(&[running.clone(), update("TASK_STAGING", ""), finished], 1, "contradicts");
        let mut other = running.clone();
        other.message = "other".to_owned();
        check(&[running, other], 1, "differs");
    }
}
