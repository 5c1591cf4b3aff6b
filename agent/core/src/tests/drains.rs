//! The agent is drained: its tasks end for that reason, and it goes on over links and restarts.

use mezzo_proto::internal::v1::{Drain, UpdateFramework, master_to_agent};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::Reason;

use super::{TERM, World, config, framework, grace, task};
use crate::{LinkId, Observed};

fn drain(world: &mut World, longest: Option<f64>, mark_gone: bool) {
    let max_grace_period = longest.and_then(|seconds| grace(seconds).grace_period);
    let config = v1::DrainConfig { max_grace_period, mark_gone: Some(mark_gone) };
    world.master(master_to_agent::Message::Drain(Drain { config: Some(config), ended: false }));
}

#[test]
fn every_task_is_killed_for_that_reason() {
    let mut world = World::registered();
    let (running, launched) = (world.running("t"), world.launched("u"));
    world.transcript();
    drain(&mut world, None, false);
    let lines = world.transcript();
    assert_eq!(
        lines,
        "persist synced drain\npersist t KILLING [STARTING RUNNING]\nsignal 15 after 6\n\
         persist u KILLING [STARTING]\ndestroy after 7"
    );
    world.exited(&running, 15);
    world.destroyed(&launched);
    for id in ["t", "u"] {
        let status = world.latest(id);
        assert_eq!(
            (status.state(), status.reason()),
            (TaskState::TaskKilled, Reason::AgentDraining)
        );
    }
}

/// Drains with `longest`; after how long is the task ended by force?
fn check_grace(own: Option<f64>, longest: Option<f64>, expected: f64) {
    let mut world = World::registered();
    let mut info = task("t");
    info.kill_policy = own.map(grace);
    world.run(&info, framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    drain(&mut world, longest, false);
    world.transcript();
    world.pass(expected - 0.001);
    assert_eq!(world.transcript(), "", "own {own:?}, longest {longest:?}");
    world.pass(0.001);
    assert!(world.transcript().starts_with("destroy"), "own {own:?}, longest {longest:?}");
}

#[test]
fn a_task_has_its_own_grace_period_or_what_the_order_leaves_of_it() {
    check_grace(None, None, 3.0);
    check_grace(Some(8.0), None, 8.0);
    check_grace(Some(8.0), Some(5.0), 5.0);
    check_grace(Some(2.0), Some(5.0), 2.0);
    check_grace(None, Some(1.0), 1.0);
}

#[test]
fn a_kill_under_way_becomes_part_of_the_drain() {
    let mut world = World::registered();
    let container = world.running("t");
    world.kill("t", Some(grace(60.0)));
    drain(&mut world, Some(1.0), false);
    world.transcript();
    world.pass(1.0);
    assert!(world.transcript().starts_with("destroy"));
    world.exited(&container, 9);
    assert_eq!(world.latest("t").reason(), Reason::AgentDraining);
}

#[test]
fn who_can_tell_hears_why_and_that_the_agent_will_be_gone() {
    let mut world = World::registered();
    let tells = [capability::Type::TaskKillingState, capability::Type::PartitionAware];
    world.run(&task("t"), framework(&tells));
    let container = world.container_of("t");
    world.started(&container);
    drain(&mut world, None, true);
    let killing = world.latest("t");
    assert_eq!(
        (killing.state(), killing.reason()),
        (TaskState::TaskKilling, Reason::AgentDraining)
    );
    world.exited(&container, 15);
    let ended = world.latest("t");
    let gone = (TaskState::TaskGoneByOperator, Reason::AgentDraining);
    assert_eq!((ended.state(), ended.reason()), gone);
}

#[test]
fn what_arrives_during_a_drain_is_dropped() {
    let mut world = World::registered();
    drain(&mut world, None, false);
    world.run(&task("t"), framework(&[capability::Type::PartitionAware]));
    let status = world.latest("t");
    assert_eq!((status.state(), status.reason()), (TaskState::TaskDropped, Reason::AgentDraining));
    world.master(master_to_agent::Message::Drain(Drain { config: None, ended: true }));
    assert_eq!(world.records.drain, None);
    world.launched("u");
    assert_eq!(world.latest("u").state(), TaskState::TaskStarting);
}

#[test]
fn a_drain_survives_the_agent_and_ends_with_a_registration_that_does_not_repeat_it() {
    let mut world = World::registered();
    let container = world.running("t");
    drain(&mut world, Some(60.0), true);
    let found = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
    world.restart(config(), &[(&container, found)]);
    assert!(world.records.drain.is_some());
    world.register(LinkId(2), TERM);
    assert_eq!(world.records.drain, None, "the master says next whether it goes on");
    // What it ordered stays ordered.
    world.exited(&container, 15);
    assert_eq!(world.latest("t").reason(), Reason::AgentDraining);
}

#[test]
fn what_a_framework_says_of_itself_is_taken_over_and_written_down() {
    let mut world = World::registered();
    world.running("t");
    world.transcript();
    let renamed = v1::FrameworkInfo { name: "renamed".into(), ..framework(&[]) };
    let update = |info: &v1::FrameworkInfo| {
        let framework_info = Some(info.clone());
        master_to_agent::Message::UpdateFramework(Box::new(UpdateFramework { framework_info }))
    };
    world.master(update(&renamed));
    assert_eq!(world.transcript(), "persist t RUNNING [STARTING RUNNING]");
    let record = &world.records.tasks[&("f".to_owned(), "t".to_owned())];
    assert_eq!(record.framework_info.as_ref(), Some(&renamed));
    world.master(update(&renamed));
    assert_eq!(world.transcript(), "", "nothing is new");
    let stranger = v1::FrameworkInfo { id: None, ..renamed };
    world.master(update(&stranger));
    assert_eq!(world.transcript(), "");
}
