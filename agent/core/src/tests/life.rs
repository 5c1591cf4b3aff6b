//! A task from its launch to its acknowledged ending.

use mezzo_proto::internal::v1::{LaunchPosition, RunTask, master_to_agent};
use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability;
use prost::Message;

use super::{TERM, World, framework, task};
use crate::Input;

#[test]
fn a_task_lives() {
    let mut world = World::registered();
    let container = world.launched("t");
    assert_eq!(
        world.transcript(),
        "persist last launch 7.1, container with pid 0, t LAUNCHING [STARTING]\n\
         launch t as nobody after 2\n\
         send t STARTING (STARTING) after 2"
    );
    world.started(&container);
    assert_eq!(world.transcript(), "persist container with pid 42, t RUNNING [STARTING RUNNING]");
    assert_eq!(world.acknowledge("t").as_deref(), Some("TASK_STARTING"));
    assert_eq!(world.transcript(), "persist t RUNNING [RUNNING]\nsend t RUNNING (RUNNING) after 3");
    world.exited(&container, 0);
    assert_eq!(world.transcript(), "persist t ENDED [RUNNING FINISHED]\ndestroy after 5");
    world.acknowledge("t");
    assert_eq!(
        world.transcript(),
        "persist t ENDED [FINISHED]\nsend t FINISHED (FINISHED) after 5"
    );
    world.destroyed(&container);
    assert_eq!(world.transcript(), "persist no container");
    world.acknowledge("t");
    assert_eq!(world.transcript(), "persist no t");
    assert!(world.records.tasks.is_empty() && world.records.containers.is_empty());
    assert_eq!(world.core.poll_timeout(), Some(world.now.plus(std::time::Duration::from_secs(90))));
}

#[test]
fn a_status_tells_who_what_where_and_when() {
    let mut world = World::registered();
    let container = world.running("t");
    let status = world.latest("t");
    assert_eq!(status.source(), v1::task_status::Source::Executor);
    assert_eq!(status.executor_id.unwrap().value, "t");
    assert_eq!(status.agent_id.unwrap().value, "S0");
    assert_eq!(status.timestamp, Some(1_700_000_000.0));
    assert_eq!(status.uuid.unwrap().len(), 16);
    let place = status.container_status.unwrap();
    assert_eq!(place.container_id.unwrap().value, container.as_str());
    assert_eq!(place.executor_pid, Some(42));
    assert_eq!(place.network_infos[0].ip_addresses[0].ip_address(), "10.0.0.1");
}

#[test]
fn a_launch_is_taken_once() {
    let mut world = World::registered();
    world.launched("t");
    world.transcript();
    let again = |sequence| {
        master_to_agent::Message::RunTask(Box::new(RunTask {
            position: Some(LaunchPosition { term: TERM, sequence }),
            framework_info: Some(framework(&[])),
            task_info: task("t").encode_to_vec().into(),
            launch_executor: false,
        }))
    };
    world.master(again(1));
    assert_eq!(world.transcript(), "");
    world.master(again(2));
    assert_eq!(world.transcript(), "persist last launch 7.2");
    assert_eq!(world.core.statistics().launches_repeated, 2);
    assert_eq!(world.records.containers.len(), 1);
}

#[test]
fn a_launch_that_fails_ends_the_task() {
    let mut world = World::registered();
    let container = world.launched("t");
    world.transcript();
    let message = "no user 'x' on this host".to_owned();
    world.handle(Input::LaunchFailed { container: container.clone(), message });
    assert_eq!(world.transcript(), "persist t ENDED [STARTING FAILED]\ndestroy after 3");
    let status = world.latest("t");
    assert_eq!(status.reason(), v1::task_status::Reason::ContainerLaunchFailed);
    assert_eq!(status.source(), v1::task_status::Source::Agent);
    assert_eq!(status.message(), "Failed to launch container: no user 'x' on this host");
    world.destroyed(&container);
}

/// One task that cannot be run, and what is said of it.
fn check_rejected(change: impl Fn(&mut v1::TaskInfo), state: &str, message: &str) {
    let mut world = World::registered();
    let mut info = task("t");
    change(&mut info);
    world.run(&info, framework(&[capability::Type::PartitionAware]));
    assert_eq!(world.sent(), [state]);
    assert_eq!(world.latest("t").message(), message);
    world.acknowledge("t");
    assert!(world.records.tasks.is_empty());
}

#[test]
fn tasks_that_cannot_be_run_say_why() {
    check_rejected(
        |info| info.executor = Some(Default::default()),
        "TASK_ERROR",
        "task 't': both command and executor are set; set one of them",
    );
    check_rejected(|info| info.command = None, "TASK_ERROR", "task 't': command must be set");
    check_rejected(
        |info| info.command.as_mut().unwrap().user = Some(String::new()),
        "TASK_ERROR",
        "task 't': no user to run as; set command.user or the framework's user",
    );
}

#[test]
fn wrong_acknowledgements_are_counted_and_dropped() {
    let mut world = World::registered();
    world.launched("t");
    world.transcript();
    world.acknowledge_uuid("t", vec![9; 16].into());
    world.acknowledge_uuid("t", vec![9; 3].into());
    world.acknowledge_uuid("other", vec![9; 16].into());
    assert_eq!(world.transcript(), "");
    assert_eq!(world.core.statistics().acknowledgements_invalid, 3);
    assert_eq!(world.core.statistics().acknowledgements_valid, 0);
}
