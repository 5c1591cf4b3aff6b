//! The tasks of a run and where each of them stands. Pure: events in, decisions out.

use std::collections::{HashMap, VecDeque};

use mezzo_sdk::v1::{
    self, Offer, TaskInfo, TaskState, TaskStatus,
    task_status::{Reason, Source},
};
use mezzo_sdk::{Room, Task, is_terminal};

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Wants an offer.
    Waiting,
    /// Sent to the master on an offer. `sure` turns false when the connection broke before the
    /// master answered: the launch may or may not have arrived.
    Launched {
        sure: bool,
    },
    /// An update told that the agent has it.
    Alive {
        running: bool,
    },
    Over,
}

#[derive(Debug)]
struct Entry {
    task: Task,
    phase: Phase,
    agent_id: Option<v1::AgentId>,
    /// Whether an agent had a word to say about it, so that there is a sandbox to look into.
    on_agent: bool,
    last: Option<TaskStatus>,
}

/// What an update meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing new, or none of our tasks.
    None,
    /// The task has begun to run.
    Running(usize),
    /// The master or agent never ran it, through no fault of the task: it waits again.
    Waiting,
    /// Its agent is out of reach.
    Unreachable(usize),
    /// The task is over.
    Over(usize),
}

#[derive(Debug)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    by_id: HashMap<String, usize>,
    waiting: VecDeque<usize>,
    unfinished: usize,
}

impl Batch {
    pub(crate) fn new(tasks: Vec<Task>) -> Self {
        let by_id = tasks.iter().enumerate().map(|(at, task)| (task.id().to_owned(), at)).collect();
        let waiting = (0..tasks.len()).collect();
        let unfinished = tasks.len();
        let entries = tasks
            .into_iter()
            .map(|task| Entry {
                task,
                phase: Phase::Waiting,
                agent_id: None,
                on_agent: false,
                last: None,
            })
            .collect();
        Batch { entries, by_id, waiting, unfinished }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn task(&self, at: usize) -> &Task {
        &self.entries[at].task
    }

    pub(crate) fn task_id(&self, at: usize) -> v1::TaskId {
        v1::TaskId { value: self.entries[at].task.id().to_owned() }
    }

    /// The agent that the task was last launched on.
    pub(crate) fn agent_id(&self, at: usize) -> Option<&v1::AgentId> {
        self.entries[at].agent_id.as_ref()
    }

    /// The agent that has the task's sandbox; none as long as only the master spoke of the task.
    pub(crate) fn sandbox(&self, at: usize) -> Option<&v1::AgentId> {
        let entry = &self.entries[at];
        entry.agent_id.as_ref().filter(|_| entry.on_agent)
    }

    /// The last status of each task that is over and had one.
    pub(crate) fn endings(&self) -> impl Iterator<Item = (&Task, &TaskStatus)> {
        self.entries
            .iter()
            .filter(|entry| entry.phase == Phase::Over)
            .filter_map(|entry| Some((&entry.task, entry.last.as_ref()?)))
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many tasks want an offer.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// Whether each task runs or is over: what a detached run waits for.
    pub(crate) fn has_started(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| matches!(entry.phase, Phase::Alive { running: true } | Phase::Over))
    }

    /// Puts as many waiting tasks on the offer as fit.
    pub(crate) fn place(&mut self, offer: &Offer) -> Vec<TaskInfo> {
        let mut room = Room::of(offer);
        let mut placed = Vec::new();
        while let Some(at) = self.waiting.front().copied() {
            let entry = &mut self.entries[at];
            let Some(info) = room.fit(&entry.task) else { break };
            entry.phase = Phase::Launched { sure: true };
            entry.agent_id = Some(offer.agent_id.clone());
            placed.push(info);
            self.waiting.pop_front();
        }
        placed
    }

    /// The connection broke before the master answered the launch of these tasks.
    pub(crate) fn launch_unanswered<'i>(&mut self, ids: impl IntoIterator<Item = &'i str>) {
        for id in ids {
            let Some(at) = self.by_id.get(id) else { continue };
            if let Phase::Launched { sure } = &mut self.entries[*at].phase {
                *sure = false;
            }
        }
    }

    /// Takes an update in.
    pub(crate) fn update(&mut self, status: &TaskStatus) -> Change {
        let Some(&at) = self.by_id.get(&status.task_id.value) else { return Change::None };
        let entry = &mut self.entries[at];
        if matches!(entry.phase, Phase::Over | Phase::Waiting) {
            return Change::None;
        }
        let state = status.state();
        if never_ran(&entry.phase, status) {
            entry.phase = Phase::Waiting;
            entry.agent_id = None;
            self.waiting.push_back(at);
            return Change::Waiting;
        }
        entry.on_agent |= status.source.is_some_and(|source| source != Source::Master as i32);
        entry.last = Some(status.clone());
        // An agent that nobody knows any more will not come back with the task.
        if is_terminal(state) || state == TaskState::TaskUnknown {
            entry.phase = Phase::Over;
            self.unfinished -= 1;
            return Change::Over(at);
        }
        let was_running = entry.phase == Phase::Alive { running: true };
        match state {
            TaskState::TaskRunning => {
                entry.phase = Phase::Alive { running: true };
                if was_running { Change::None } else { Change::Running(at) }
            }
            TaskState::TaskUnreachable => Change::Unreachable(at),
            // A launch that a master knows of has arrived.
            _ => {
                if !was_running {
                    entry.phase = Phase::Alive { running: false };
                }
                Change::None
            }
        }
    }

    /// Drops the tasks that were not launched: they are over without having begun.
    pub(crate) fn abandon_waiting(&mut self) {
        while let Some(at) = self.waiting.pop_front() {
            self.entries[at].phase = Phase::Over;
            self.unfinished -= 1;
        }
    }

    /// Launched tasks that are not over: what is to be killed, or asked for after a reconnection.
    pub(crate) fn out_there(&self) -> Vec<(v1::TaskId, Option<v1::AgentId>)> {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.phase, Phase::Launched { .. } | Phase::Alive { .. }))
            .map(|entry| (v1::TaskId { value: entry.task.id().to_owned() }, entry.agent_id.clone()))
            .collect()
    }
}

/// Whether the status tells that the launch came to nothing and may be repeated.
fn never_ran(phase: &Phase, status: &TaskStatus) -> bool {
    let state = status.state();
    let offer_was_gone = status.reason == Some(Reason::InvalidOffers as i32)
        && matches!(state, TaskState::TaskDropped | TaskState::TaskLost);
    let reconciled = status.reason == Some(Reason::Reconciliation as i32);
    let nobody_knows_it = matches!(
        state,
        TaskState::TaskUnknown
            | TaskState::TaskGone
            | TaskState::TaskDropped
            | TaskState::TaskLost
            | TaskState::TaskGoneByOperator
    );
    match phase {
        Phase::Launched { sure: true } => offer_was_gone,
        Phase::Launched { sure: false } => offer_was_gone || (reconciled && nobody_knows_it),
        Phase::Waiting | Phase::Alive { .. } | Phase::Over => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: usize) -> Batch {
        Batch::new(
            (0..count).map(|n| Task::command(format!("t.{n}"), "t").cpus(0.5).shell("x")).collect(),
        )
    }

    fn offer(cpus: f64) -> Offer {
        Offer {
            agent_id: v1::AgentId { value: "a".to_owned() },
            resources: vec![v1::Resource {
                name: "cpus".to_owned(),
                scalar: Some(v1::value::Scalar { value: cpus }),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn status(id: &str, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: v1::TaskId { value: id.to_owned() },
            state: state as i32,
            ..Default::default()
        }
    }

    fn because(reason: Reason, status: TaskStatus) -> TaskStatus {
        TaskStatus { reason: Some(reason as i32), ..status }
    }

    #[test]
    fn tasks_fill_offers_in_order() {
        let mut batch = batch(3);
        let placed = batch.place(&offer(1.2));
        let ids: Vec<_> = placed.iter().map(|info| info.task_id.value.as_str()).collect();
        assert_eq!(ids, ["t.0", "t.1"]);
        assert!(batch.is_waiting());
        assert!(batch.place(&offer(0.4)).is_empty());
        assert_eq!(batch.place(&offer(0.5)).len(), 1);
        assert!(!batch.is_waiting());
        assert_eq!(batch.out_there().len(), 3);
    }

    #[test]
    fn a_life_from_staging_to_the_end() {
        let mut batch = batch(1);
        batch.place(&offer(1.0));
        assert_eq!(batch.update(&status("t.0", TaskState::TaskStarting)), Change::None);
        assert!(!batch.has_started());
        assert_eq!(batch.sandbox(0), None);
        let running = TaskStatus {
            source: Some(Source::Executor as i32),
            ..status("t.0", TaskState::TaskRunning)
        };
        assert_eq!(batch.update(&running), Change::Running(0));
        assert_eq!(batch.sandbox(0).map(|agent| agent.value.as_str()), Some("a"));
        assert_eq!(batch.update(&running), Change::None);
        assert!(batch.has_started() && !batch.is_finished());
        assert_eq!(batch.update(&status("t.0", TaskState::TaskFinished)), Change::Over(0));
        assert!(batch.is_finished());
        // Sent again because its acknowledgement was lost.
        assert_eq!(batch.update(&status("t.0", TaskState::TaskFinished)), Change::None);
        assert_eq!(batch.endings().count(), 1);
    }

    #[test]
    fn a_stale_offer_is_no_failure_of_the_task() {
        let mut batch = batch(1);
        batch.place(&offer(1.0));
        let dropped = because(Reason::InvalidOffers, status("t.0", TaskState::TaskDropped));
        assert_eq!(batch.update(&dropped), Change::Waiting);
        assert_eq!(batch.place(&offer(1.0)).len(), 1);
        // Any other reason is told to the user.
        let dropped = because(Reason::AgentRestarted, status("t.0", TaskState::TaskDropped));
        assert_eq!(batch.update(&dropped), Change::Over(0));
    }

    #[test]
    fn an_unanswered_launch_is_repeated_only_when_nobody_knows_the_task() {
        let unknown = because(Reason::Reconciliation, status("t.0", TaskState::TaskGone));
        let mut batch = batch(1);
        batch.place(&offer(1.0));
        batch.launch_unanswered(["t.0", "stranger"]);
        assert_eq!(batch.update(&unknown), Change::Waiting);

        batch.place(&offer(1.0));
        batch.launch_unanswered(["t.0"]);
        assert_eq!(batch.update(&status("t.0", TaskState::TaskStaging)), Change::None);
        assert_eq!(batch.update(&unknown), Change::Over(0), "it was there, and is lost");
    }

    #[test]
    fn abandoned_tasks_are_over_and_those_out_there_are_not() {
        let mut batch = batch(2);
        batch.place(&offer(0.5));
        batch.abandon_waiting();
        assert!(!batch.is_finished() && !batch.is_waiting());
        assert_eq!(batch.out_there().len(), 1);
        batch.update(&status("t.0", TaskState::TaskKilled));
        assert!(batch.is_finished());
        assert_eq!(batch.endings().count(), 1, "t.1 never had a status");
    }

    #[test]
    fn an_unreachable_agent_may_come_back() {
        let mut batch = batch(1);
        batch.place(&offer(0.5));
        batch.update(&status("t.0", TaskState::TaskRunning));
        let lost = status("t.0", TaskState::TaskUnreachable);
        assert_eq!(batch.update(&lost), Change::Unreachable(0));
        assert!(!batch.is_finished());
        assert_eq!(batch.update(&status("t.0", TaskState::TaskFinished)), Change::Over(0));
    }
}
