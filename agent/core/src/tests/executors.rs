//! Executors: how their tasks reach them, and how both end.

use mezzo_proto::internal::v1::{
    ExecutorMessage, LaunchPosition, RunTask, RunTaskGroup, ShutdownExecutor, agent_to_master,
    master_to_agent,
};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor::{Call, call, event};
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_types::ContainerId;
use prost::Message;

use super::{TERM, World, config, framework, grace, task};
use crate::{
    Effect, ExecutorEvent, ExecutorStreamId, Input, Limitation, Observed, RequestId, ViewChange,
    validate_call,
};

const STREAM: ExecutorStreamId = ExecutorStreamId(1);

pub(super) fn event_line(event: &ExecutorEvent) -> String {
    match event {
        ExecutorEvent::Launch(task) => format!("LAUNCH {}", task.info.task_id.value),
        ExecutorEvent::LaunchGroup(tasks) => {
            let ids: Vec<&str> =
                tasks.iter().map(|task| task.info.task_id.value.as_str()).collect();
            format!("LAUNCH_GROUP {}", ids.join(" "))
        }
        ExecutorEvent::Other(event) => {
            let name = event.r#type().as_str_name();
            match (&event.kill, &event.acknowledged) {
                (Some(kill), _) => format!("{name} {}", kill.task_id.value),
                (_, Some(known)) => format!("{name} {} {}", known.task_id.value, known.uuid[0]),
                _ => name.to_owned(),
            }
        }
    }
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.into(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    }
}

pub(super) fn executor(id: &str) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Custom as i32),
        executor_id: v1::ExecutorId { value: id.into() },
        command: Some(v1::CommandInfo { value: Some("run".into()), ..Default::default() }),
        resources: vec![scalar("cpus", 0.1)],
        ..v1::ExecutorInfo::default()
    }
}

/// A task of executor `e`.
pub(super) fn member(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        command: None,
        executor: Some(executor("e")),
        resources: vec![scalar("cpus", 1.0)],
        ..task(id)
    }
}

pub(super) fn status(id: &str, state: TaskState, uuid: u8) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: v1::TaskId { value: id.into() },
        state: state as i32,
        source: Some(Source::Executor as i32),
        uuid: Some(vec![uuid; 16].into()),
        ..v1::TaskStatus::default()
    }
}

pub(super) fn call(kind: call::Type) -> Call {
    Call {
        executor_id: v1::ExecutorId { value: "e".into() },
        framework_id: v1::FrameworkId { value: "f".into() },
        r#type: Some(kind as i32),
        ..Call::default()
    }
}

pub(super) fn subscribe_call(tasks: &[&str], updates: Vec<v1::TaskStatus>) -> Call {
    let updates = updates.into_iter().map(|status| call::Update { status });
    Call {
        subscribe: Some(call::Subscribe {
            unacknowledged_tasks: tasks.iter().map(|id| member(id)).collect(),
            unacknowledged_updates: updates.collect(),
        }),
        ..call(call::Type::Subscribe)
    }
}

pub(super) fn update_call(status: v1::TaskStatus) -> Call {
    Call { update: Some(call::Update { status }), ..call(call::Type::Update) }
}

impl World {
    fn run_with(&mut self, info: &v1::TaskInfo, launch_executor: bool, owner: v1::FrameworkInfo) {
        self.sequence += 1;
        self.master(master_to_agent::Message::RunTask(Box::new(RunTask {
            position: Some(LaunchPosition { term: TERM, sequence: self.sequence }),
            framework_info: Some(owner),
            task_info: info.encode_to_vec().into(),
            launch_executor,
        })));
    }

    fn run_first(&mut self, id: &str) -> ContainerId {
        self.run_with(&member(id), true, framework(&[]));
        self.container_of(id)
    }

    fn run_next(&mut self, id: &str) {
        self.run_with(&member(id), false, framework(&[]));
    }

    fn run_group(&mut self, ids: &[&str], launch_executor: bool) {
        self.sequence += 1;
        self.master(master_to_agent::Message::RunTaskGroup(Box::new(RunTaskGroup {
            position: Some(LaunchPosition { term: TERM, sequence: self.sequence }),
            framework_info: Some(framework(&[])),
            executor_info: Some(executor("e")),
            task_infos: ids.iter().map(|id| member(id).encode_to_vec().into()).collect(),
            launch_executor,
        })));
    }

    fn executor_call(&mut self, stream: Option<ExecutorStreamId>, call: Call) {
        validate_call(&call).unwrap();
        self.handle(Input::ExecutorCall { request: RequestId(9), stream, call: Box::new(call) });
    }

    fn subscribe(&mut self, stream: ExecutorStreamId) {
        self.executor_call(Some(stream), subscribe_call(&[], Vec::new()));
    }

    /// An executor `e` that has subscribed and was handed task `t`.
    fn with_executor() -> (World, ContainerId) {
        let mut world = World::registered();
        let container = world.run_first("t");
        world.started(&container);
        world.subscribe(STREAM);
        world.effects.clear();
        (world, container)
    }

    fn update(&mut self, id: &str, state: TaskState, uuid: u8) {
        self.executor_call(None, update_call(status(id, state, uuid)));
    }

    fn confirm(&mut self, container: &ContainerId, grant: u64) {
        let container = container.clone();
        self.handle(Input::Updated { container, grant, result: Ok(()) });
    }

    fn shutdown_executor(&mut self) {
        self.master(master_to_agent::Message::ShutdownExecutor(ShutdownExecutor {
            framework_id: "f".into(),
            executor_id: "e".into(),
        }));
    }

    fn exits(&mut self) -> Vec<i32> {
        let exit = |effect: &Effect| match effect {
            Effect::Send { message, .. } => match &message.message {
                Some(agent_to_master::Message::ExecutorExited(exited)) => Some(exited.wait_status),
                _ => None,
            },
            _ => None,
        };
        self.effects.iter().filter_map(exit).collect()
    }
}

/// The lines of a transcript that are events or answers.
fn told(world: &mut World) -> Vec<String> {
    let transcript = world.transcript();
    let told = |line: &&str| {
        line.starts_with("event") || line.starts_with("answer") || line.starts_with("close")
    };
    let line = |line: &str| line.split(" after").next().unwrap_or_default().to_owned();
    transcript.lines().filter(told).map(line).collect()
}

#[test]
fn a_task_waits_for_its_executor() {
    let mut world = World::registered();
    let container = world.run_first("t");
    assert_eq!(
        world.transcript(),
        "persist last launch 7.1, t LAUNCHING [], container with pid 0, executor e REGISTERING\n\
         launch e as nobody after 2"
    );
    assert_eq!(world.container_of("t"), container);
    world.started(&container);
    assert_eq!(world.transcript(), "persist container with pid 42");
    world.subscribe(STREAM);
    assert_eq!(
        world.transcript(),
        "answer 9 Subscribed after 3\n\
         persist executor e SUBSCRIBED\n\
         event 1 SUBSCRIBED after 4\n\
         persist t LAUNCHING []\n\
         event 1 LAUNCH t after 5"
    );
    world.update("t", TaskState::TaskRunning, 1);
    assert_eq!(
        world.transcript(),
        "persist t RUNNING [RUNNING]\n\
         event 1 ACKNOWLEDGED t 1 after 6\n\
         answer 9 Accepted after 6\n\
         send t RUNNING (RUNNING) after 6"
    );
    world.update("t", TaskState::TaskFinished, 2);
    assert_eq!(
        world.transcript(),
        "persist t ENDED [RUNNING FINISHED]\n\
         persist container with pid 42\n\
         update 1 to cpus:0.1 after 8\n\
         event 1 ACKNOWLEDGED t 2 after 8\n\
         answer 9 Accepted after 8"
    );
    assert_eq!(world.acknowledge("t").unwrap(), "TASK_RUNNING");
    assert_eq!(world.acknowledge("t").unwrap(), "TASK_FINISHED");
    assert!(world.records.tasks.is_empty() && world.records.executors.len() == 1);
}

#[test]
fn readers_see_which_tasks_wait_for_their_executor() {
    let mut world = World::registered();
    let container = world.run_first("t");
    let waits = |world: &mut World| {
        let effects = std::mem::take(&mut world.effects);
        let waits = effects.iter().filter_map(|effect| match effect {
            Effect::View(ViewChange::Task(task)) => Some(task.waiting),
            _ => None,
        });
        waits.collect::<Vec<bool>>()
    };
    assert_eq!(waits(&mut world), [true]);
    world.started(&container);
    world.subscribe(STREAM);
    assert_eq!(waits(&mut world).last(), Some(&false));
}

#[test]
fn a_status_is_completed_by_the_agent() {
    let (mut world, container) = World::with_executor();
    world.update("t", TaskState::TaskRunning, 1);
    let latest = world.latest("t");
    assert_eq!(latest.executor_id.unwrap().value, "e");
    assert_eq!(latest.agent_id.unwrap().value, "S0");
    assert_eq!(latest.source, Some(Source::Executor as i32));
    let told = latest.container_status.unwrap();
    assert_eq!(told.container_id, Some(container.to_proto()));
    assert_eq!(told.executor_pid, Some(42));
    assert!(latest.timestamp.is_some() && told.network_infos.len() == 1);
}

#[test]
fn a_further_task_waits_until_its_container_has_room() {
    let (mut world, container) = World::with_executor();
    world.run_next("u");
    assert_eq!(
        world.transcript(),
        "persist last launch 7.2, u LAUNCHING []\n\
         persist container with pid 42\n\
         update 1 to cpus:2.1 after 7"
    );
    world.confirm(&container, 1);
    assert_eq!(told(&mut world), ["event 1 LAUNCH u"]);
    // Its end gives back what it had.
    world.update("u", TaskState::TaskFinished, 2);
    assert!(world.transcript().contains("update 2 to cpus:1.1"), "it shrinks");
}

#[test]
fn a_burst_of_tasks_is_one_change_more() {
    let (mut world, container) = World::with_executor();
    for n in 0..100 {
        world.run_next(&format!("n{n}"));
    }
    let changes = |world: &mut World| {
        let transcript = world.transcript();
        let of = |line: &&str| line.starts_with("update");
        transcript.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(changes(&mut world).len(), 1, "the first one is under way");
    world.confirm(&container, 1);
    let told = changes(&mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("update 100 to cpus:101.1"), "{told:?}");
    world.confirm(&container, 100);
    assert_eq!(told_launches(&mut world), 99);
}

fn told_launches(world: &mut World) -> usize {
    told(world).iter().filter(|line| line.contains("LAUNCH")).count()
}

#[test]
fn a_container_that_cannot_grow_ends_its_executor() {
    let (mut world, container) = World::with_executor();
    world.run_next("u");
    let result = Err("no memory".to_owned());
    world.handle(Input::Updated { container: container.clone(), grant: 1, result });
    assert!(world.transcript().contains("destroy"));
    world.exited(&container, 9);
    for id in ["t", "u"] {
        let latest = world.latest(id);
        assert_eq!(
            (latest.state(), latest.reason()),
            (TaskState::TaskLost, Reason::ContainerUpdateFailed)
        );
    }
}

#[test]
fn a_group_is_handed_over_as_one_and_killed_as_one() {
    let mut world = World::registered();
    world.run_group(&["a", "b"], true);
    let container = world.container_of("a");
    assert_eq!(world.container_of("b"), container);
    world.run_group(&["c", "d"], false);
    world.started(&container);
    world.kill("c", None);
    assert_eq!(world.latest("d").reason(), Reason::TaskKilledDuringLaunch);
    world.effects.clear();
    world.subscribe(STREAM);
    assert_eq!(
        told(&mut world),
        ["answer 9 Subscribed", "event 1 SUBSCRIBED", "event 1 LAUNCH_GROUP a b"]
    );
}

#[test]
fn an_executor_whose_tasks_were_all_killed_is_not_waited_for() {
    let mut world = World::registered();
    let container = world.run_first("t");
    world.kill("t", None);
    assert_eq!(world.latest("t").state(), TaskState::TaskKilled);
    assert!(world.transcript().contains("destroy"));
    world.destroyed(&container);
    assert!(world.records.executors.is_empty() && world.records.containers.is_empty());
    assert_eq!(world.exits(), [-1]);
}

#[test]
fn a_kill_is_the_executors_to_carry_out() {
    let (mut world, _) = World::with_executor();
    world.kill("t", Some(grace(2.0)));
    assert_eq!(told(&mut world), ["event 1 KILL t"]);
    // Nothing that the agent does follows it.
    world.pass(60.0);
    assert_eq!(world.transcript(), "");
    world.update("t", TaskState::TaskKilled, 1);
    assert_eq!(world.latest("t").state(), TaskState::TaskKilled);
}

#[test]
fn a_kill_is_repeated_to_an_executor_that_comes_back() {
    let (mut world, _) = World::with_executor();
    world.update("t", TaskState::TaskRunning, 1);
    world.handle(Input::ExecutorGone { stream: STREAM });
    world.effects.clear();
    world.kill("t", Some(grace(2.0)));
    assert_eq!(told(&mut world), Vec::<String>::new());
    world.subscribe(ExecutorStreamId(2));
    assert_eq!(told(&mut world), ["answer 9 Subscribed", "event 2 SUBSCRIBED", "event 2 KILL t"]);
}

#[test]
fn an_update_is_taken_once() {
    let (mut world, _) = World::with_executor();
    world.update("t", TaskState::TaskRunning, 1);
    world.update("t", TaskState::TaskRunning, 1);
    assert_eq!(world.records.tasks.values().next().unwrap().updates.len(), 1);
    world.update("t", TaskState::TaskFinished, 2);
    world.update("t", TaskState::TaskFailed, 3);
    assert_eq!(world.records.tasks.values().next().unwrap().updates.len(), 2);
    world.effects.clear();
    // Neither of a task that is not known: it need not be sent again.
    world.update("stranger", TaskState::TaskRunning, 4);
    assert_eq!(told(&mut world), ["event 1 ACKNOWLEDGED stranger 4", "answer 9 Accepted"]);
    assert_eq!(world.core.statistics().updates_invalid, 1);
}

#[test]
fn calls_are_refused_as_mesos_refuses_them() {
    let mut world = World::registered();
    let refused = |world: &mut World, call: Call| {
        world.executor_call(None, call);
        told(world).join(" ")
    };
    let update = || update_call(status("t", TaskState::TaskRunning, 1));
    assert_eq!(refused(&mut world, update()), "answer 9 400: Framework cannot be found");
    world.run_first("t");
    assert_eq!(refused(&mut world, update()), "answer 9 403: Executor is not subscribed");
    let other = Call { executor_id: v1::ExecutorId { value: "x".into() }, ..update() };
    assert_eq!(refused(&mut world, other), "answer 9 400: Executor cannot be found");
    // May name anybody.
    let heartbeat =
        Call { framework_id: v1::FrameworkId::default(), ..call(call::Type::Heartbeat) };
    assert_eq!(refused(&mut world, heartbeat), "answer 9 Accepted");
    let unknown = Call { r#type: Some(77), ..call(call::Type::Unknown) };
    world.subscribe(STREAM);
    world.effects.clear();
    assert_eq!(refused(&mut world, unknown), "answer 9 501: call type 77 is unknown");
}

#[test]
fn what_a_call_lacks_is_named() {
    let bad = |change: fn(&mut v1::TaskStatus)| {
        let mut sent = status("t", TaskState::TaskRunning, 1);
        change(&mut sent);
        validate_call(&update_call(sent)).unwrap_err()
    };
    assert_eq!(bad(|s| s.uuid = None), "Expecting 'uuid' to be present");
    assert!(bad(|s| s.uuid = Some(vec![1; 15].into())).contains("15 bytes"));
    assert!(bad(|s| s.source = None).contains("SOURCE_EXECUTOR"));
    assert!(bad(|s| s.set_state(TaskState::TaskStaging)).contains("TASK_STAGING"));
    let named = |s: &mut v1::TaskStatus| s.executor_id = Some(v1::ExecutorId { value: "x".into() });
    assert!(bad(named).contains("does not match"));
    assert!(validate_call(&Call::default()).unwrap_err().contains("'type'"));
    for (kind, part) in [
        (call::Type::Subscribe, "subscribe"),
        (call::Type::Update, "update"),
        (call::Type::Message, "message"),
    ] {
        let error = validate_call(&call(kind)).unwrap_err();
        assert_eq!(error, format!("Expecting '{part}' to be present"));
    }
}

#[test]
fn messages_go_both_ways_while_both_listen() {
    let (mut world, _) = World::with_executor();
    let message = || {
        master_to_agent::Message::ExecutorMessage(ExecutorMessage {
            framework_id: "f".into(),
            executor_id: "e".into(),
            data: b"hi".to_vec().into(),
        })
    };
    world.master(message());
    assert_eq!(told(&mut world), ["event 1 MESSAGE"]);
    let data = b"ho".to_vec().into();
    let sent = Call { message: Some(call::Message { data }), ..call(call::Type::Message) };
    world.executor_call(None, sent);
    assert!(world.transcript().contains("send message of executor e"));
    world.handle(Input::ExecutorGone { stream: STREAM });
    world.master(message());
    assert_eq!(told(&mut world), Vec::<String>::new());
    assert_eq!(world.core.statistics().messages_invalid, 1);
}

#[test]
fn an_executor_that_does_not_subscribe_is_ended() {
    let mut world = World::registered();
    let container = world.run_first("t");
    world.started(&container);
    world.pass(59.0);
    world.effects.clear();
    world.pass(2.0);
    assert!(world.transcript().contains("destroy"));
    world.exited(&container, 9);
    let latest = world.latest("t");
    assert_eq!(latest.state(), TaskState::TaskFailed);
    assert_eq!(latest.reason(), Reason::ExecutorRegistrationTimeout);
    assert_eq!(latest.message(), "Executor did not register within 1mins");
    assert_eq!(world.exits(), [9]);
    world.destroyed(&container);
    assert!(world.records.containers.is_empty());
}

#[test]
fn an_executors_end_ends_its_tasks() {
    let (mut world, container) = World::with_executor();
    world.update("t", TaskState::TaskRunning, 1);
    world.run_next("u");
    world.exited(&container, 256);
    for id in ["t", "u"] {
        let latest = world.latest(id);
        assert_eq!(latest.state(), TaskState::TaskFailed);
        assert_eq!(latest.reason(), Reason::ExecutorTerminated);
        assert_eq!(latest.message(), "Executor terminated: Command exited with status 1");
    }
    assert_eq!(world.exits(), [256]);
    assert!(world.records.executors.is_empty());
    // A task for it arrives too late.
    world.run_next("v");
    assert_eq!(world.latest("v").state(), TaskState::TaskLost);
    assert_eq!(world.latest("v").reason(), Reason::ExecutorTerminated);
}

#[test]
fn a_limit_that_was_met_is_the_reason() {
    let (mut world, container) = World::with_executor();
    let limitation = Limitation {
        reason: Reason::ContainerLimitationMemory,
        message: "too much".into(),
        resources: vec![scalar("mem", 64.0)],
    };
    world.handle(Input::Limited { container: container.clone(), limitation });
    world.exited(&container, 9);
    let latest = world.latest("t");
    assert_eq!(latest.reason(), Reason::ContainerLimitationMemory);
    assert_eq!(latest.limitation.unwrap().resources.len(), 1);
}

#[test]
fn a_launch_that_fails_ends_the_tasks() {
    let mut world = World::registered();
    let container = world.run_first("t");
    world.run_next("u");
    let message = "no such user".to_owned();
    world.handle(Input::LaunchFailed { container: container.clone(), message });
    for id in ["t", "u"] {
        let latest = world.latest(id);
        assert_eq!(latest.reason(), Reason::ContainerLaunchFailed);
        assert_eq!(latest.message(), "Failed to launch container: no such user");
    }
    assert_eq!(world.exits(), [-1]);
}

#[test]
fn shutdown_gives_the_executor_its_grace_period() {
    let (mut world, container) = World::with_executor();
    world.shutdown_executor();
    assert_eq!(told(&mut world), ["event 1 SHUTDOWN"]);
    world.run_next("u");
    assert_eq!(world.latest("u").reason(), Reason::ExecutorTerminated);
    world.pass(4.0);
    world.update("t", TaskState::TaskKilled, 1);
    assert_eq!(world.latest("t").state(), TaskState::TaskKilled);
    world.effects.clear();
    world.pass(1.5);
    assert!(world.transcript().starts_with("destroy after"));
    world.exited(&container, 9);
    assert!(world.records.executors.is_empty());
}

#[test]
fn an_executor_may_have_a_grace_period_of_its_own() {
    let mut world = World::registered();
    let mut info = member("t");
    let period = Some(v1::DurationInfo { nanoseconds: 60_000_000_000 });
    info.executor.as_mut().unwrap().shutdown_grace_period = period;
    world.run_with(&info, true, framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    world.subscribe(STREAM);
    world.shutdown_executor();
    world.pass(59.0);
    assert!(!world.transcript().contains("destroy"));
    world.pass(2.0);
    assert!(world.transcript().contains("destroy"));
}

#[test]
fn the_framework_and_the_agent_take_executors_with_them() {
    let (mut world, container) = World::with_executor();
    world.shutdown_framework();
    assert_eq!(told(&mut world), ["event 1 SHUTDOWN"]);
    world.exited(&container, 0);
    world.destroyed(&container);
    assert!(world.records.tasks.is_empty() && world.records.executors.is_empty());

    let (mut world, container) = World::with_executor();
    world.handle(Input::Leave);
    assert_eq!(told(&mut world), ["event 1 SHUTDOWN"]);
    world.exited(&container, 0);
    world.destroyed(&container);
    assert!(world.transcript().contains("left None"));
}

#[test]
fn what_the_master_and_the_agent_disagree_about() {
    let mut world = World::registered();
    // The master counts on an executor that is not there.
    world.run_next("t");
    assert_eq!(world.latest("t").reason(), Reason::ExecutorTerminated);
    assert_eq!(world.exits(), [] as [i32; 0]);
    // It believes that there is none, but there is: that one is ended.
    let container = world.run_first("u");
    world.started(&container);
    world.subscribe(STREAM);
    world.run_with(&member("v"), true, framework(&[]));
    assert_eq!(world.latest("v").reason(), Reason::ExecutorTerminated);
    assert!(told(&mut world).contains(&"event 1 SHUTDOWN".to_owned()));
}

#[test]
fn the_default_executor_is_refused_with_what_to_use_instead() {
    let mut world = World::registered();
    let mut info = member("t");
    let of = info.executor.as_mut().unwrap();
    of.r#type = Some(v1::executor_info::Type::Default as i32);
    of.command = None;
    world.run_with(&info, true, framework(&[]));
    let latest = world.latest("t");
    assert_eq!((latest.state(), latest.reason()), (TaskState::TaskError, Reason::TaskInvalid));
    assert!(latest.message().contains("CUSTOM"), "{}", latest.message());
    assert_eq!(world.exits(), [-1], "the master must not count it");
}

fn running() -> Observed {
    Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None }
}

#[test]
fn an_executor_outlives_the_agent() {
    let (mut world, container) = World::with_executor();
    world.update("t", TaskState::TaskRunning, 1);
    // Handed over, and got; the executor has not said so yet.
    world.run_next("u");
    world.confirm(&container, 1);
    // Handed over, and lost.
    world.run_next("v");
    world.confirm(&container, 2);
    // Waits.
    world.run_next("w");
    world.restart(config(), &[(&container, running())]);
    world.register(super::LINK, TERM);
    world.effects.clear();
    let update = update_call(status("t", TaskState::TaskFinished, 3));
    world.executor_call(None, update);
    assert_eq!(told(&mut world), ["answer 9 403: Executor is not subscribed"]);
    let again =
        vec![status("t", TaskState::TaskRunning, 1), status("t", TaskState::TaskFinished, 3)];
    world.executor_call(Some(STREAM), subscribe_call(&["u"], again));
    assert_eq!(
        told(&mut world),
        [
            "answer 9 Subscribed",
            "event 1 ACKNOWLEDGED t 1",
            "event 1 ACKNOWLEDGED t 3",
            "event 1 SUBSCRIBED",
        ]
    );
    let record = &world.records.tasks[&("f".to_owned(), "t".to_owned())];
    assert_eq!(record.updates.len(), 2, "the first one was known");
    assert_eq!(world.latest("v").reason(), Reason::AgentRestarted);
    assert_eq!(world.latest("v").state(), TaskState::TaskLost);
    assert!(world.records.tasks[&("f".to_owned(), "u".to_owned())].latest.is_none());
    world.confirm(&container, 9);
    assert_eq!(told(&mut world), ["event 1 LAUNCH w"]);
}

#[test]
fn updates_that_the_framework_acknowledged_are_not_taken_for_new() {
    let (mut world, container) = World::with_executor();
    world.update("t", TaskState::TaskStarting, 1);
    world.update("t", TaskState::TaskRunning, 2);
    world.acknowledge("t");
    world.acknowledge("t");
    world.restart(config(), &[(&container, running())]);
    let again =
        vec![status("t", TaskState::TaskStarting, 1), status("t", TaskState::TaskRunning, 2)];
    world.executor_call(Some(STREAM), subscribe_call(&[], again));
    assert!(world.records.tasks.values().next().unwrap().updates.is_empty());
}

#[test]
fn an_executor_that_does_not_come_back_is_ended() {
    let (mut world, container) = World::with_executor();
    world.restart(config(), &[(&container, running())]);
    world.pass(1.9);
    assert!(!world.transcript().contains("destroy"));
    world.pass(0.2);
    assert!(world.transcript().contains("destroy"));
    world.exited(&container, 9);
    let latest = world.latest("t");
    assert_eq!(latest.state(), TaskState::TaskLost);
    assert_eq!(latest.reason(), Reason::ExecutorReregistrationTimeout);
    assert_eq!(latest.message(), "Executor did not reregister within 2secs");
}

#[test]
fn partition_aware_frameworks_are_told_precisely() {
    let mut world = World::registered();
    let aware = || framework(&[capability::Type::PartitionAware]);
    world.run_with(&member("t"), true, aware());
    let container = world.container_of("t");
    world.started(&container);
    world.subscribe(STREAM);
    world.restart(config(), &[(&container, running())]);
    world.pass(3.0);
    world.exited(&container, 9);
    assert_eq!(world.latest("t").state(), TaskState::TaskGone);
}

#[test]
fn what_the_restart_finds_of_an_executor_decides() {
    // Never started.
    let mut world = World::registered();
    let container = world.run_first("t");
    world.restart(config(), &[(&container, Observed::NotStarted)]);
    assert_eq!(world.latest("t").reason(), Reason::AgentRestarted);
    assert!(world.records.executors.is_empty());

    // On its way: tasks wait as before.
    let mut world = World::registered();
    world.run_group(&["a", "b"], true);
    let container = world.container_of("a");
    world.restart(config(), &[(&container, Observed::Launching)]);
    world.started(&container);
    world.confirm(&container, 1);
    world.subscribe(STREAM);
    assert!(told(&mut world).contains(&"event 1 LAUNCH_GROUP a b".to_owned()));

    // Ended meanwhile.
    let (mut world, container) = World::with_executor();
    let ending = crate::Ending::Status(0);
    world.restart(config(), &[(&container, Observed::Ended { ending, limitation: None })]);
    assert_eq!(world.latest("t").reason(), Reason::ExecutorTerminated);

    // Asked to end before.
    let (mut world, container) = World::with_executor();
    world.shutdown_executor();
    world.restart(config(), &[(&container, running())]);
    world.subscribe(STREAM);
    assert_eq!(told(&mut world), ["answer 9 Subscribed", "event 1 SHUTDOWN"]);
    world.pass(6.0);
    assert!(world.transcript().contains("destroy"));

    // The host was started anew.
    let (mut world, _) = World::with_executor();
    let mut later = config();
    later.boot_id = "boot-2".into();
    world.restart(later, &[]);
    assert!(world.records.executors.is_empty() && world.records.tasks.is_empty());
}

#[test]
fn a_newer_subscription_replaces_the_older_one() {
    let (mut world, _) = World::with_executor();
    world.update("t", TaskState::TaskRunning, 1);
    world.effects.clear();
    world.subscribe(ExecutorStreamId(2));
    assert_eq!(
        told(&mut world),
        [
            "answer 9 Subscribed",
            "close executor 1: the executor subscribed anew",
            "event 2 SUBSCRIBED",
        ]
    );
    // The end of the old one is no news.
    world.handle(Input::ExecutorGone { stream: STREAM });
    world.kill("t", None);
    assert_eq!(told(&mut world), ["event 2 KILL t"]);
}

#[test]
fn fields_that_nobody_here_knows_reach_the_executor() {
    let mut world = World::registered();
    let mut raw = member("t").encode_to_vec();
    // Field 900, a varint.
    raw.extend([0xa0, 0x38, 0x07]);
    world.sequence += 1;
    world.master(master_to_agent::Message::RunTask(Box::new(RunTask {
        position: Some(LaunchPosition { term: TERM, sequence: world.sequence }),
        framework_info: Some(framework(&[])),
        task_info: raw.clone().into(),
        launch_executor: true,
    })));
    world.subscribe(STREAM);
    let launched = world.effects.iter().find_map(|effect| match effect {
        Effect::ExecutorEvent { event, .. } => match &**event {
            ExecutorEvent::Launch(task) => Some(task.raw.clone()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(launched.unwrap(), raw);
}

#[test]
fn a_subscription_carries_what_executors_look_for() {
    let mut world = World::registered();
    world.run_first("t");
    world.subscribe(STREAM);
    let subscribed = world.effects.iter().find_map(|effect| match effect {
        Effect::ExecutorEvent { event, .. } => match &**event {
            ExecutorEvent::Other(event) if event.r#type() == event::Type::Subscribed => {
                event.subscribed.clone()
            }
            _ => None,
        },
        _ => None,
    });
    let subscribed = subscribed.unwrap();
    assert_eq!(subscribed.executor_info.framework_id.unwrap().value, "f");
    assert_eq!(subscribed.framework_info.id.unwrap().value, "f");
    assert_eq!(subscribed.agent_info.id.unwrap().value, "S0");
    assert!(subscribed.container_id.is_some());
}
