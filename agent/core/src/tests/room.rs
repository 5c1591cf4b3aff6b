//! A disk without room: launches are refused, and what runs goes on.

use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::{Reason, Source};

use super::{World, framework, task};
use crate::Input;

const SHORTAGE: &str = "the file system of /data is full";

fn room(world: &mut World, shortage: Option<&str>) {
    world.handle(Input::Room { shortage: shortage.map(str::to_owned) });
}

#[test]
fn without_room_launches_are_refused_and_what_runs_goes_on() {
    for (capabilities, state) in
        [(&[capability::Type::PartitionAware][..], "DROPPED"), (&[], "LOST")]
    {
        let mut world = World::registered();
        let container = world.running("t");
        world.transcript();
        room(&mut world, Some(SHORTAGE));
        assert_eq!(world.transcript(), "", "nothing that runs is touched");
        world.run(&task("u"), framework(capabilities));
        assert_eq!(
            world.transcript(),
            format!("persist last launch 7.2, u ENDED [{state}]\nsend u {state} ({state}) after 4")
        );
        let status = world.latest("u");
        assert_eq!((status.message(), status.reason()), (SHORTAGE, Reason::ContainerLaunchFailed));
        assert_eq!(status.source(), Source::Agent);
        world.acknowledge("u");
        assert_eq!(world.transcript(), "persist no u");

        for told in ["TASK_STARTING", "TASK_RUNNING"] {
            assert_eq!(world.acknowledge("t").as_deref(), Some(told));
        }
        world.exited(&container, 7 << 8);
        world.destroyed(&container);
        assert_eq!(world.acknowledge("t").as_deref(), Some("TASK_FAILED"));
        assert!(world.records.tasks.is_empty() && world.records.containers.is_empty());
        world.transcript();

        room(&mut world, None);
        world.run(&task("v"), framework(capabilities));
        assert!(world.transcript().contains("launch v as nobody"), "there is room again");
    }
}

/// It was refused once: when it comes again, because the answer was lost, the answer is the same.
#[test]
fn a_refused_launch_is_not_carried_out_when_it_is_repeated() {
    let mut world = World::registered();
    room(&mut world, Some(SHORTAGE));
    world.run(&task("u"), framework(&[]));
    room(&mut world, None);
    world.transcript();
    world.run(&task("u"), framework(&[]));
    assert_eq!(world.transcript(), "persist last launch 7.2");
    assert_eq!(world.latest("u").message(), SHORTAGE);
}

/// The shortage is the shell's to find out: a new start knows of none.
#[test]
fn a_restart_looks_anew() {
    let mut world = World::registered();
    room(&mut world, Some(SHORTAGE));
    world.restart(super::config(), &[]);
    world.register(super::LINK, super::TERM);
    world.transcript();
    world.run(&task("u"), framework(&[]));
    assert!(world.transcript().contains("launch u as nobody"));
}
