//! How endings are told.

use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::{Reason, Source};

use super::{World, task};
use crate::{Ending, Input, Limitation};

#[derive(Default)]
struct Story {
    killed: bool,
    limited: Option<Reason>,
    unknown: bool,
    wait_status: i32,
}

/// State, source, reason, message and (exit code, signal, oom) of a task's ending.
fn check(story: Story, expected: (&str, Source, Option<Reason>, &str, [i32; 3])) {
    let mut world = World::registered();
    let container = world.running("t");
    if story.killed {
        world.kill("t", None);
    }
    if let Some(reason) = story.limited {
        let message = "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB".to_owned();
        let resources = vec![v1::Resource { name: "mem".into(), ..Default::default() }];
        let limitation = Limitation { reason, message, resources };
        world.handle(Input::Limited { container: container.clone(), limitation });
    }
    let ending = if story.unknown { Ending::Unknown } else { Ending::Status(story.wait_status) };
    world.handle(Input::Exited { container, ending });
    let status = world.latest("t");
    let termination = status.termination.unwrap_or_default();
    let numbers = [
        termination.exit_code.unwrap_or(-1),
        termination.signal.unwrap_or(-1),
        termination.oom.map_or(-1, i32::from),
    ];
    let reason = status.reason.is_some().then(|| status.reason());
    let told = (status.state().as_str_name(), status.source(), reason, status.message(), numbers);
    assert_eq!(told, expected);
    assert_eq!(status.limitation.is_some(), story.limited.is_some());
}

#[test]
fn endings_are_told_as_mesos_tells_them() {
    use Source::{Agent, Executor};
    let story = Story::default;
    check(story(), ("TASK_FINISHED", Executor, None, "Command exited with status 0", [0, -1, -1]));
    check(
        Story { wait_status: 3 << 8, ..story() },
        ("TASK_FAILED", Executor, None, "Command exited with status 3", [3, -1, -1]),
    );
    check(
        Story { wait_status: 9, ..story() },
        ("TASK_FAILED", Executor, None, "Command terminated with signal Killed", [-1, 9, -1]),
    );
    check(
        Story { wait_status: 11 | 0x80, ..story() },
        (
            "TASK_FAILED",
            Executor,
            None,
            "Command terminated with signal Segmentation fault (core dumped)",
            [-1, 11, -1],
        ),
    );
    check(
        Story { killed: true, wait_status: 15, ..story() },
        ("TASK_KILLED", Executor, None, "Command terminated with signal Terminated", [-1, 15, -1]),
    );
    check(
        Story { killed: true, wait_status: 0, ..story() },
        ("TASK_KILLED", Executor, None, "Command exited with status 0", [0, -1, -1]),
    );
    check(
        Story { limited: Some(Reason::ContainerLimitationMemory), wait_status: 9, ..story() },
        (
            "TASK_FAILED",
            Agent,
            Some(Reason::ContainerLimitationMemory),
            "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB",
            [-1, 9, 1],
        ),
    );
    check(
        Story { unknown: true, ..story() },
        (
            "TASK_FAILED",
            Agent,
            Some(Reason::ExecutorTerminated),
            "The command ended but its exit status is unknown: its init process was killed",
            [-1, -1, -1],
        ),
    );
}

#[test]
fn signals_have_the_names_of_the_c_library() {
    let names: Vec<_> = [1, 15, 31, 34, 36, 65].map(crate::signal_name).into();
    assert_eq!(
        names,
        [
            "Hangup",
            "Terminated",
            "Bad system call",
            "Real-time signal 0",
            "Real-time signal 2",
            "Unknown signal 65"
        ]
    );
}

#[test]
fn a_limit_ends_the_container_at_once() {
    let mut world = World::registered();
    let container = world.running("t");
    world.transcript();
    let limitation = Limitation {
        reason: Reason::ContainerLimitationMemory,
        message: "full".into(),
        resources: Vec::new(),
    };
    world.handle(Input::Limited { container, limitation });
    assert_eq!(world.transcript(), "destroy after 3");
}

#[test]
fn a_task_that_outlives_its_completion_time_fails() {
    let mut world = World::registered();
    let mut info = task("t");
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 5_000_000_000 });
    world.run(&info, super::framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    world.pass(4.9);
    world.transcript();
    world.pass(0.1);
    // Without a grace period: it has had its time.
    assert_eq!(
        world.transcript(),
        "persist t KILLING [STARTING RUNNING]\nsignal 15 after 4\ndestroy after 4"
    );
    world.exited(&container, 15);
    let status = world.latest("t");
    assert_eq!(status.state(), v1::TaskState::TaskFailed);
    assert_eq!(status.reason(), Reason::MaxCompletionTimeReached);
}

/// As Mesos' command executor has it.
#[test]
fn completion_times_are_not_told_of_and_none_is_none() {
    let mut world = World::registered();
    let mut info = task("t");
    info.kill_policy = Some(super::grace(100.0));
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 0 });
    let killing = capability::Type::TaskKillingState;
    world.run(&info, super::framework(&[killing]));
    let container = world.container_of("t");
    world.started(&container);
    world.pass(80.0);
    assert_eq!(world.latest("t").state(), v1::TaskState::TaskRunning);
    info.task_id.value = "u".into();
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 1 });
    world.run(&info, super::framework(&[killing]));
    let container = world.container_of("u");
    world.started(&container);
    world.transcript();
    world.pass(0.1);
    assert!(world.transcript().contains("destroy"));
    assert_eq!(world.latest("u").state(), v1::TaskState::TaskRunning, "nothing of TASK_KILLING");
}

/// Its time is over while it is being killed for another reason: that stands.
#[test]
fn a_kill_that_was_ordered_before_has_its_grace_period() {
    let mut world = World::registered();
    let mut info = task("t");
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 5_000_000_000 });
    world.run(&info, super::framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    world.pass(4.0);
    world.kill("t", Some(super::grace(20.0)));
    world.transcript();
    world.pass(19.0);
    assert!(!world.transcript().contains("destroy"));
    world.exited(&container, 15);
    assert_eq!(world.latest("t").state(), v1::TaskState::TaskKilled);
}

#[test]
fn a_container_that_vanishes_ends_its_task() {
    let mut world = World::registered();
    let container = world.running("t");
    world.destroyed(&container);
    assert_eq!(world.latest("t").reason(), Reason::ExecutorTerminated);
    let container = world.launched("u");
    world.destroyed(&container);
    assert_eq!(world.latest("u").reason(), Reason::ContainerLaunchFailed);
}
