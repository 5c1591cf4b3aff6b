//! One agent: its core, and its commands as times.
//!
//! Nothing is written down: a simulated machine never crashes, so that every record is durable at once
//! and no effect waits for one.

use std::collections::BTreeMap;

use mezzo_agent_core::{
    CheckOutcome, Checkpoint, Config, Core, Effect, Ending, Input, Launch, LinkId, Probe,
    RecoverError, ViewChange, Workload,
};
use mezzo_proto::internal::v1::{AgentToMaster, MasterToAgent};
use mezzo_types::{ContainerId, Now};

use crate::plan::Plan;

/// Of an ending by SIGKILL, as `wait(2)` gives it.
const KILLED: i32 = 9;

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    core: Core,
    /// Of commands that run.
    running: BTreeMap<ContainerId, Plan>,
    /// Numbers processes.
    next_pid: i32,
}

/// What the machine wants of whoever carries its messages.
#[derive(Debug)]
pub(crate) enum Want {
    Send(LinkId, Box<AgentToMaster>),
    Close(LinkId),
    /// Call `ends` with the container at this time.
    EndAt(u64, ContainerId),
    /// Whether a master has taken it in.
    Registered(bool),
    /// It left the cluster for good: no more links.
    Left(Option<String>),
}

impl Machine {
    pub(crate) fn new(now: Now, config: Config, seed: [u64; 2]) -> Result<Machine, RecoverError> {
        let core = Core::recover(now, config, Checkpoint::default(), &BTreeMap::new(), seed)?;
        Ok(Machine { core, running: BTreeMap::new(), next_pid: 1 })
    }

    pub(crate) fn link_up(&mut self, now: Now, link: LinkId, wants: &mut Vec<Want>) {
        self.input(now, Input::LinkUp { link }, wants);
    }

    pub(crate) fn link_down(&mut self, now: Now, link: LinkId, wants: &mut Vec<Want>) {
        self.input(now, Input::LinkDown { link }, wants);
    }

    pub(crate) fn hear(
        &mut self,
        now: Now,
        link: LinkId,
        message: MasterToAgent,
        wants: &mut Vec<Want>,
    ) {
        self.input(now, Input::Master { link, message: Box::new(message) }, wants);
    }

    /// A command has run for its time.
    pub(crate) fn ends(&mut self, now: Now, container: &ContainerId, wants: &mut Vec<Want>) {
        // It may have been killed before.
        let Some(plan) = self.running.get(container) else { return };
        self.end(now, container, plan.wait_status());
        self.settle(now, wants);
    }

    /// When `handle_timeout` has something to do, in monotonic nanoseconds.
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.core.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, wants: &mut Vec<Want>) {
        self.core.handle_timeout(now);
        self.settle(now, wants);
    }

    fn input(&mut self, now: Now, input: Input, wants: &mut Vec<Want>) {
        self.core.handle(now, input);
        self.settle(now, wants);
    }

    /// Carries out what the core ordered. What happens to containers happens at once, so that it may lead
    /// to more.
    fn settle(&mut self, now: Now, wants: &mut Vec<Want>) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Persist(_) => {}
                Effect::Send { link, message, .. } => wants.push(Want::Send(link, message)),
                Effect::CloseLink { link, reason } => {
                    tracing::debug!(reason, "closing a link");
                    wants.push(Want::Close(link));
                }
                Effect::Launch { launch, .. } => self.launch(now, &launch, wants),
                Effect::Signal { container, signal, .. } => self.end(now, &container, signal),
                Effect::Destroy { container, .. } => {
                    self.end(now, &container, KILLED);
                    self.core.handle(now, Input::Destroyed { container });
                }
                // Its tasks are always well.
                Effect::Check { container, kind, probe, .. } => {
                    let outcome = match *probe {
                        Probe::Command(_) => CheckOutcome::Exited(0),
                        Probe::Http { .. } => CheckOutcome::Answered(200),
                        Probe::Tcp { .. } => CheckOutcome::Connected(true),
                    };
                    self.core.handle(now, Input::Checked { container, kind, outcome });
                }
                // There are no directories to make.
                Effect::MakeVolumes { operation, .. } => {
                    self.core.handle(now, Input::VolumesMade { operation, outcome: Ok(()) });
                }
                Effect::RemoveVolumes { .. } => {}
                Effect::View(ViewChange::Registered(term)) => {
                    wants.push(Want::Registered(term.is_some()));
                }
                Effect::View(_) => {}
                // No executor is ever started here.
                Effect::Update { .. }
                | Effect::ExecutorAnswer { .. }
                | Effect::ExecutorEvent { .. }
                | Effect::CloseExecutor { .. } => {}
                Effect::Left { reason, .. } => wants.push(Want::Left(reason)),
            }
        }
    }

    fn launch(&mut self, now: Now, launch: &Launch, wants: &mut Vec<Want>) {
        let container = launch.container.clone();
        let command = match &launch.workload {
            Workload::Task(task) => task.command.as_ref(),
            Workload::Executor(_) => None,
        };
        let Some(command) = command else {
            let message = "a simulated agent runs tasks with a command only".to_owned();
            return self.core.handle(now, Input::LaunchFailed { container, message });
        };
        let plan = Plan::of(command);
        let pid = self.next_pid;
        self.next_pid = self.next_pid.checked_add(1).unwrap_or(1);
        self.running.insert(container.clone(), plan);
        let started =
            Input::Started { container: container.clone(), pid, start_time_ticks: now.mono_ns };
        self.core.handle(now, started);
        if let Some(runs) = plan.runs {
            wants.push(Want::EndAt(now.plus(runs), container));
        }
    }

    /// Ends the container's command, if it runs.
    fn end(&mut self, now: Now, container: &ContainerId, status: i32) {
        if self.running.remove(container).is_some() {
            let ending = Ending::Status(status);
            self.core.handle(now, Input::Exited { container: container.clone(), ending });
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mezzo_proto::internal::v1::{
        Acknowledge, KillTask, LaunchPosition, Registered, RunTask, agent_to_master,
        master_to_agent,
    };
    use mezzo_proto::v1;
    use mezzo_proto::v1::TaskState;
    use prost::Message;

    use super::*;

    const LINK: LinkId = LinkId(1);

    struct World {
        machine: Machine,
        now: Now,
        sequence: u64,
    }

    impl World {
        /// Admitted by a master of term 7.
        fn new() -> World {
            let now = Now { mono_ns: 1, unix_ns: 1_700_000_000_000_000_000 };
            let info = v1::AgentInfo { hostname: "simulated-0".into(), ..Default::default() };
            let config = Config::new(info, "0", "simulated", "127.0.0.1");
            let machine = Machine::new(now, config, [1, 2]).unwrap();
            let mut world = World { machine, now, sequence: 0 };
            let mut wants = Vec::new();
            world.machine.link_up(now, LINK, &mut wants);
            assert!(matches!(&wants[..], [Want::Send(LINK, _)]), "{wants:?}");
            let registered = Registered { agent_id: "S0".into(), term: 7, ping_timeout_ms: 1000 };
            let wants = world.hear(master_to_agent::Message::Registered(registered));
            assert!(matches!(&wants[..], [Want::Registered(true)]), "{wants:?}");
            world
        }

        fn hear(&mut self, message: master_to_agent::Message) -> Vec<Want> {
            let mut wants = Vec::new();
            let message = MasterToAgent { message: Some(message) };
            self.machine.hear(self.now, LINK, message, &mut wants);
            wants
        }

        fn run(&mut self, command: &str) -> Vec<Want> {
            self.sequence += 1;
            let command = v1::CommandInfo { value: Some(command.into()), ..Default::default() };
            let task = v1::TaskInfo {
                name: "t".into(),
                task_id: v1::TaskId { value: format!("t{}", self.sequence) },
                agent_id: v1::AgentId { value: "S0".into() },
                command: Some(command),
                ..Default::default()
            };
            let framework = v1::FrameworkInfo {
                user: "nobody".into(),
                name: "f".into(),
                id: Some(v1::FrameworkId { value: "f".into() }),
                ..Default::default()
            };
            self.hear(master_to_agent::Message::RunTask(Box::new(RunTask {
                position: Some(LaunchPosition { term: 7, sequence: self.sequence }),
                framework_info: Some(framework),
                task_info: task.encode_to_vec().into(),
                ..Default::default()
            })))
        }

        /// Acknowledges the update in `wants`; what follows.
        fn acknowledge(&mut self, wants: &[Want]) -> Vec<Want> {
            let (status, _) = update(wants).expect("an update");
            self.hear(master_to_agent::Message::Acknowledge(Acknowledge {
                framework_id: "f".into(),
                task_id: status.task_id.value,
                uuid: status.uuid.unwrap_or(Bytes::new()),
            }))
        }
    }

    fn update(wants: &[Want]) -> Option<(v1::TaskStatus, TaskState)> {
        wants.iter().find_map(|want| match want {
            Want::Send(_, message) => match message.message.clone()? {
                agent_to_master::Message::StatusUpdate(update) => {
                    let latest = update.latest_state();
                    Some((update.status?, latest))
                }
                _ => None,
            },
            _ => None,
        })
    }

    fn end_at(wants: &[Want]) -> Option<(u64, ContainerId)> {
        wants.iter().find_map(|want| match want {
            Want::EndAt(due, container) => Some((*due, container.clone())),
            _ => None,
        })
    }

    #[test]
    fn a_command_runs_for_its_time_and_is_reported_in_order() {
        let mut world = World::new();
        let wants = world.run("sleep 2; exit 3");
        let (due, container) = end_at(&wants).expect("an end");
        assert_eq!(due, world.now.mono_ns + 2_000_000_000);
        let (starting, latest) = update(&wants).expect("an update");
        // It leaves before the command is started, which the newest state tells of next.
        assert_eq!((starting.state(), latest), (TaskState::TaskStarting, TaskState::TaskStarting));
        let running = world.acknowledge(&wants);
        assert_eq!(update(&running).expect("an update").0.state(), TaskState::TaskRunning);
        world.acknowledge(&running);
        let mut wants = Vec::new();
        world.machine.ends(world.now, &container, &mut wants);
        let (failed, _) = update(&wants).expect("an update");
        assert_eq!(failed.state(), TaskState::TaskFailed);
        assert!(failed.message().contains('3'), "{failed:?}");
        world.acknowledge(&wants);
        assert!(world.machine.running.is_empty());
        // Late, and nobody's: the timer is not taken back when a command is killed.
        world.machine.ends(world.now, &container, &mut Vec::new());
    }

    #[test]
    fn a_kill_ends_a_command_at_once() {
        let mut world = World::new();
        let mut wants = world.run("cat");
        assert!(end_at(&wants).is_none(), "it runs for ever");
        for _ in 0..2 {
            wants = world.acknowledge(&wants);
        }
        let kill = KillTask { framework_id: "f".into(), task_id: "t1".into(), kill_policy: None };
        let mut wants = world.hear(master_to_agent::Message::KillTask(kill));
        while let Some((status, _)) = update(&wants) {
            if status.state() == TaskState::TaskKilled {
                return;
            }
            wants = world.acknowledge(&wants);
        }
        panic!("no TASK_KILLED");
    }

    #[test]
    fn a_task_without_a_command_fails_with_a_sentence() {
        let mut world = World::new();
        let launch = Launch {
            container: ContainerId::from("c"),
            agent_id: "S0".into(),
            framework_id: "f".into(),
            framework: Default::default(),
            executor_id: "e".into(),
            workload: Workload::Task(Default::default()),
            user: String::new(),
            resources: Default::default(),
        };
        let mut wants = Vec::new();
        world.machine.launch(world.now, &launch, &mut wants);
        assert!(wants.is_empty() && world.machine.running.is_empty());
    }
}
