//! A framework that launches tasks and collects what comes back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_sdk::v1::{self, TaskState, TaskStatus};
use mezzo_sdk::{CallError, Calls, Event, Events, Framework, Room, Scheduler, Task, is_terminal};
use mezzo_tests::{Cluster, patience};

const PATIENCE_S: u64 = 120;
/// How often a condition is looked at that no event tells.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Probe {
    pub(crate) calls: Calls,
    pub(crate) events: Events,
    waiting: Vec<Task>,
    /// `max_completion_time` by task.
    limits: BTreeMap<String, Duration>,
    /// Every update that came, by task, in order.
    pub(crate) updates: BTreeMap<String, Vec<TaskStatus>>,
}

impl Probe {
    pub(crate) async fn connect(cluster: &Cluster) -> Self {
        let aware = v1::framework_info::capability::Type::PartitionAware;
        Self::connect_as(cluster, Self::framework().capability(aware)).await
    }

    /// Takes offers of agents with GPUs.
    pub(crate) async fn connect_for_gpus(cluster: &Cluster) -> Self {
        let gpus = v1::framework_info::capability::Type::GpuResources;
        Self::connect_as(cluster, Self::framework().capability(gpus)).await
    }

    /// Without PARTITION_AWARE, as frameworks of old.
    pub(crate) async fn connect_plain(cluster: &Cluster) -> Self {
        let aware = v1::framework_info::capability::Type::PartitionAware;
        Self::connect_as(cluster, Self::framework().without_capability(aware)).await
    }

    fn framework() -> Framework {
        Framework::new("probe", "root").failover_timeout(Duration::from_secs(600))
    }

    async fn connect_as(cluster: &Cluster, framework: Framework) -> Self {
        let (calls, events) =
            Scheduler::connect(cluster.address(), framework).await.expect("subscribes");
        Self {
            calls,
            events,
            waiting: Vec::new(),
            limits: BTreeMap::new(),
            updates: BTreeMap::new(),
        }
    }

    pub(crate) fn launch(&mut self, task: Task) {
        self.waiting.push(task);
    }

    /// The task, when it is launched, may run this long.
    pub(crate) fn limit(&mut self, task: &str, time: Duration) {
        self.limits.insert(task.to_owned(), time);
    }

    /// Handles events until `done` holds.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let run = async {
            while !done(self) {
                let event = self.events.next().await.expect("the subscription lives");
                self.take(event).await;
            }
        };
        if tokio::time::timeout(patience(PATIENCE_S), run).await.is_err() {
            panic!(
                "waited {} s for {what}; updates: {:#?}",
                patience(PATIENCE_S).as_secs(),
                self.updates
            );
        }
    }

    /// Handles events until `done` holds of something that no event tells.
    pub(crate) async fn until_seen(&mut self, what: &str, done: impl Fn() -> bool) {
        let run = async {
            while !done() {
                // Cancel-safe: an event that was not taken comes with the next call.
                let event = tokio::time::timeout(LOOK_EVERY, self.events.next()).await;
                if let Ok(event) = event {
                    self.take(event.expect("the subscription lives")).await;
                }
            }
        };
        let ended = tokio::time::timeout(patience(PATIENCE_S), run).await;
        assert!(ended.is_ok(), "waited {} s for {what}", patience(PATIENCE_S).as_secs());
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Offers(offers) => self.place(&offers).await,
            Event::Update(status) => {
                let id = status.task_id.value.clone();
                self.updates.entry(id).or_default().push(status);
            }
            _ => {}
        }
    }

    async fn place(&mut self, offers: &[v1::Offer]) {
        for offer in offers {
            let mut room = Room::of(offer);
            let mut placed: Vec<_> = self.waiting.iter().map_while(|task| room.fit(task)).collect();
            let tasks = Vec::from_iter(self.waiting.drain(..placed.len()));
            for task in &mut placed {
                task.max_completion_time = self.limits.get(&task.task_id.value).map(duration);
            }
            match self.calls.launch(offer, placed).await {
                Ok(()) => {}
                // An offer of a master that ended before it was looked at. Nothing here ends one
                // while a call is on its way.
                Err(CallError::Disconnected { .. }) => drop(self.waiting.splice(0..0, tasks)),
                Err(error) => panic!("not accepted: {error}"),
            }
        }
    }

    pub(crate) async fn until_running(&mut self, task: &str) {
        self.until("the task to run", |probe| probe.has(task, TaskState::TaskRunning)).await;
    }

    /// Handles events until the newest update of the task has this state, and returns it.
    pub(crate) async fn until_state(&mut self, task: &str, state: TaskState) -> TaskStatus {
        let newest = |probe: &Self| probe.updates.get(task).and_then(|all| all.last()).cloned();
        let what = format!("{task} to be {}", state.as_str_name());
        self.until(&what, |probe| newest(probe).is_some_and(|s| s.state() == state)).await;
        newest(self).expect("it was there")
    }

    pub(crate) fn has(&self, task: &str, state: TaskState) -> bool {
        self.updates.get(task).is_some_and(|all| all.iter().any(|s| s.state() == state))
    }

    /// Runs one task to its end and returns its last status.
    pub(crate) async fn run(&mut self, task: Task) -> TaskStatus {
        let id = task.id().to_owned();
        self.launch(task);
        self.ending(&id).await
    }

    /// Runs a task after a daemon was started again. The first offers that are read may be from before: what is launched
    /// on them is dropped, and a framework tries again.
    pub(crate) async fn run_on_new_offers(&mut self, name: &str, command: &str) -> TaskStatus {
        for attempt in 0..10 {
            let status = self.run(task(&format!("{name}-{attempt}")).shell(command)).await;
            if status.state() != TaskState::TaskDropped {
                return status;
            }
        }
        panic!("{name} is dropped each time: {:#?}", self.updates);
    }

    pub(crate) async fn ending(&mut self, id: &str) -> TaskStatus {
        self.until("the task to end", |probe| probe.end_of(id).is_some()).await;
        self.end_of(id).cloned().expect("it has ended")
    }

    pub(crate) fn end_of(&self, id: &str) -> Option<&TaskStatus> {
        self.updates.get(id)?.iter().find(|status| is_terminal(status.state()))
    }
}

/// Handles the events of both until each has its task running: neither may keep an offer that the other
/// waits for.
pub(crate) async fn until_both_run(first: (&mut Probe, &str), second: (&mut Probe, &str)) {
    async fn until(probe: &mut Probe, task: &str, mine: &Cell<bool>, others: &Cell<bool>) {
        let seen = |probe: &Probe| {
            mine.set(probe.has(task, TaskState::TaskRunning));
            mine.get() && others.get()
        };
        probe.until("both tasks to run", seen).await;
    }
    let (one, other) = (Cell::new(false), Cell::new(false));
    tokio::select! {
        () = until(first.0, first.1, &one, &other) => {}
        () = until(second.0, second.1, &other, &one) => {}
    }
}

pub(crate) fn task(id: &str) -> Task {
    Task::command(id, id).cpus(0.1).mem(32.0)
}

fn duration(time: &Duration) -> v1::DurationInfo {
    v1::DurationInfo { nanoseconds: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX) }
}
