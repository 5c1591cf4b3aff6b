//! What follows from records and findings.

use mezzo_proto::storage::v1::task_record;
use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::ContainerId;

use super::{LINK, TERM, World, config, framework, task};
use crate::{Config, Core, Ending, Limitation, LinkId, Observed, Violation};

fn alive() -> Observed {
    Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None }
}

fn ended(status: i32) -> Observed {
    Observed::Ended { ending: Ending::Status(status), limitation: None }
}

/// Restarts after `before`, with `found` of the container of `t`, and gives what follows.
fn check(before: impl Fn(&mut World) -> ContainerId, found: Option<Observed>, expected: &str) {
    let mut world = World::registered();
    let container = before(&mut world);
    let found: Vec<_> = found.into_iter().map(|found| (&container, found)).collect();
    world.restart(config(), &found);
    assert_eq!(world.transcript(), expected);
}

#[test]
fn running_tasks_go_on_and_ended_ones_end_exactly() {
    let running = |world: &mut World| world.running("t");
    check(running, Some(alive()), "");
    check(
        running,
        Some(ended(7 << 8)),
        "persist t ENDED [STARTING RUNNING FAILED]\ndestroy after 1",
    );
    check(running, None, "persist t ENDED [STARTING RUNNING FAILED]\ndestroy after 1");
}

#[test]
fn a_launch_that_was_cut_short_is_told_apart_from_one_that_worked() {
    let launched = |world: &mut World| world.launched("t");
    check(launched, Some(alive()), "persist container with pid 42, t RUNNING [STARTING RUNNING]");
    check(launched, Some(ended(0)), "persist t ENDED [STARTING FINISHED]\ndestroy after 1");
    for found in [None, Some(Observed::NotStarted)] {
        check(launched, found, "persist t ENDED [STARTING LOST]\ndestroy after 1");
    }
    check(launched, Some(Observed::Launching), "");
    check(
        launched,
        Some(Observed::Failed { message: "no luck".into() }),
        "persist t ENDED [STARTING FAILED]\ndestroy after 1",
    );
    let aware = |world: &mut World| {
        world.run(&task("t"), framework(&[capability::Type::PartitionAware]));
        world.container_of("t")
    };
    check(aware, None, "persist t ENDED [STARTING DROPPED]\ndestroy after 1");
}

/// What a repair could not save is found again by the task that names it.
#[test]
fn a_container_whose_record_is_lost_is_found_by_its_task() {
    let lost = |before: fn(&mut World, &str) -> ContainerId| {
        move |world: &mut World| {
            let container = before(world, "t");
            world.records.containers.clear();
            container
        }
    };
    check(lost(World::running), Some(alive()), "persist container with pid 42");
    let failed = "persist t ENDED [STARTING RUNNING FAILED]\ndestroy after 1";
    check(lost(World::running), Some(ended(7 << 8)), failed);
    check(lost(World::running), None, failed);
    check(
        lost(World::launched),
        Some(alive()),
        "persist container with pid 42, t RUNNING [STARTING RUNNING]",
    );
    let dropped = "persist t ENDED [STARTING LOST]\ndestroy after 1";
    check(lost(World::launched), None, dropped);

    // It is the task's container as ever: its end ends the task, and then nothing is left of either.
    let mut world = World::registered();
    let container = lost(World::running)(&mut world);
    world.restart(config(), &[(&container, alive())]);
    world.register(LINK, TERM);
    world.exited(&container, 7 << 8);
    world.destroyed(&container);
    for told in ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"] {
        assert_eq!(world.acknowledge("t").as_deref(), Some(told));
    }
    assert!(world.records.tasks.is_empty() && world.records.containers.is_empty());
}

/// The other way round: a container that no task names any more is ended.
#[test]
fn a_container_whose_task_is_lost_is_ended() {
    let task_lost = |world: &mut World| {
        let container = world.running("t");
        world.records.tasks.clear();
        container
    };
    check(task_lost, Some(alive()), "destroy after 0");
}

#[test]
fn a_kill_under_way_goes_on() {
    let killing = |world: &mut World| {
        let container = world.running("t");
        world.kill("t", None);
        container
    };
    check(killing, Some(alive()), "signal 15 after 0");
    check(killing, Some(ended(15)), "persist t ENDED [STARTING RUNNING KILLED]\ndestroy after 1");
    let stopped = |world: &mut World| {
        let container = world.launched("t");
        world.kill("t", None);
        container
    };
    check(stopped, None, "persist t ENDED [STARTING KILLED]\ndestroy after 1");
    check(stopped, Some(Observed::Launching), "destroy after 0");
    check(
        stopped,
        Some(alive()),
        "persist container with pid 42, t KILLING [STARTING]\ndestroy after 1",
    );
}

#[test]
fn the_grace_period_goes_on_while_the_agent_is_away() {
    let mut world = World::registered();
    let container = world.running("t");
    world.kill("t", None);
    world.now = world.now.advanced(std::time::Duration::from_secs(2));
    world.restart(config(), &[(&container, alive())]);
    world.transcript();
    world.pass(0.9);
    assert_eq!(world.transcript(), "");
    world.pass(0.1);
    assert_eq!(world.transcript(), "destroy after 0");
}

#[test]
fn a_limit_met_while_the_agent_was_away_is_still_the_reason() {
    let mut world = World::registered();
    let container = world.running("t");
    let limitation = Some(Limitation {
        reason: Reason::ContainerLimitationMemory,
        message: "full".into(),
        resources: Vec::new(),
    });
    let ending = Ending::Status(9);
    world.restart(config(), &[(&container, Observed::Ended { ending, limitation })]);
    assert_eq!(world.latest("t").reason(), Reason::ContainerLimitationMemory);
}

#[test]
fn updates_that_wait_are_sent_again_with_the_same_uuid() {
    let mut world = World::registered();
    let container = world.running("t");
    world.exited(&container, 0);
    world.destroyed(&container);
    let before = world.records.tasks.clone();
    world.restart(config(), &[]);
    assert_eq!(world.transcript(), "");
    world.register(LINK, TERM);
    assert_eq!(
        world.transcript(),
        "send register of term 7 [FINISHED] after 0\nsend t STARTING (FINISHED) after 0"
    );
    assert_eq!(world.records.tasks, before);
    for _ in 0..3 {
        world.acknowledge("t");
    }
    assert!(world.records.tasks.is_empty());
}

#[test]
fn launches_of_before_are_still_known() {
    let mut world = World::registered();
    let container = world.running("t");
    world.exited(&container, 0);
    world.destroyed(&container);
    for _ in 0..3 {
        world.acknowledge("t");
    }
    world.restart(config(), &[]);
    world.register(LINK, TERM);
    world.transcript();
    world.sequence = 0;
    world.run(&task("t"), framework(&[]));
    assert_eq!(world.transcript(), "");
}

#[test]
fn after_a_new_boot_only_endings_that_were_written_down_stand() {
    let mut world = World::registered();
    world.running("alive");
    let container = world.running("over");
    world.exited(&container, 0);
    let rebooted = Config { boot_id: "boot-2".into(), ..config() };
    world.restart(rebooted, &[]);
    let transcript = world.transcript();
    assert!(transcript.starts_with("persist synced identity of term 7\n"), "{transcript}");
    assert!(transcript.contains("persist no alive"), "{transcript}");
    assert!(world.records.containers.is_empty());
    world.register(LinkId(2), TERM);
    assert_eq!(
        world.transcript(),
        "send register of term 7 [FINISHED] after 4\nsend over STARTING (FINISHED) after 0"
    );
}

#[test]
fn containers_of_nobody_are_ended() {
    let mut world = World::registered();
    let stranger = ContainerId::from("stranger");
    world.restart(config(), &[(&stranger, alive())]);
    assert_eq!(world.transcript(), "destroy after 0");
    world.destroyed(&stranger);
    assert_eq!(world.transcript(), "persist no container");
}

fn elsewhere() -> Config {
    let mut other = config();
    other.info.hostname = "elsewhere".into();
    other
}

#[test]
fn an_agent_that_changed_is_not_the_same() {
    let world = World::registered();
    let checkpoint = world.records.checkpoint();
    let error =
        Core::recover(world.now, elsewhere(), checkpoint, &Default::default(), [0, 0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent's hostname changed from 'host' to 'elsewhere' since it joined the cluster; restore \
         the old value, or remove the work directory to join as a new agent (its tasks are lost then)"
    );
}

#[test]
fn any_port_is_a_free_one() {
    let world = World::registered();
    let mut other = config();
    other.info.port = Some(40_000);
    let checkpoint = || world.records.checkpoint();
    let recover =
        |config| Core::recover(world.now, config, checkpoint(), &Default::default(), [0, 0]);
    assert!(recover(other.clone()).is_err());
    let core = recover(Config { any_port: true, ..other }).expect("the same agent");
    let info = core.info().expect("known");
    assert_eq!((info.port(), info.id.is_some()), (40_000, true));
}

/// The tasks of before are dead in any case.
#[test]
fn an_agent_that_changed_over_a_reboot_joins_as_a_new_one() {
    let mut world = World::registered();
    world.running("t");
    let rebooted = Config { boot_id: "boot-2".into(), ..elsewhere() };
    world.restart(rebooted, &[]);
    assert_eq!(world.records.identity, None);
    assert!(world.records.tasks.is_empty());
    world.transcript();
    world.handle(crate::Input::LinkUp { link: LINK });
    assert!(world.transcript().starts_with("send register of term 7 []"));
    assert!(world.core.info().is_some_and(|info| info.id.is_none()));
}

/// Power loss takes what was not forced to the disk, newest first: whatever is left, the agent tells of
/// no task of before as if it lived, and never of an ending that is not written down.
#[test]
fn after_a_power_loss_only_what_reached_the_disk_is_told() {
    let mut world = World::registered();
    let mut left = vec![world.records.clone()];
    let container = world.launched("t");
    left.push(world.records.clone());
    world.started(&container);
    left.push(world.records.clone());
    world.exited(&container, 7 << 8);
    left.push(world.records.clone());
    for records in left {
        let ended = records.tasks.values().any(|task| task.phase() == task_record::Phase::Ended);
        let mut world = World::registered();
        world.records = records;
        world.restart(Config { boot_id: "boot-2".into(), ..config() }, &[]);
        world.transcript();
        world.handle(crate::Input::LinkUp { link: LINK });
        let told = world.transcript();
        let expected =
            if ended { "send register of term 7 [FAILED]" } else { "send register of term 7 []" };
        assert!(told.starts_with(expected), "{told}");
        assert!(world.records.containers.is_empty());
    }
}

#[test]
fn broken_invariants_are_noticed() {
    let broken = |ruin: fn(&mut Core)| {
        let mut world = World::registered();
        world.running("t");
        ruin(&mut world.core);
        world.core.check_invariants()
    };
    assert_eq!(broken(|_| {}), Ok(()));
    let lost = broken(|core| core.containers.clear());
    assert!(matches!(lost, Err(Violation::NoContainer(_))));
    let silent = broken(|core| {
        core.tasks.values_mut().for_each(|task| task.stage = crate::TaskStage::Ended);
    });
    assert!(matches!(silent, Err(Violation::SilentEnding(_))));
    let newest = broken(|core| {
        core.tasks.values_mut().for_each(|task| {
            task.latest = Some(Box::new(v1::TaskStatus::default()));
        });
    });
    assert!(matches!(newest, Err(Violation::NewestUpdate(_))));
    let count = broken(|core| core.frameworks.values_mut().for_each(|owner| owner.tasks = 5));
    assert!(matches!(count, Err(Violation::FrameworkCount { .. })));
    let promise = broken(|core| {
        let after = mezzo_types::Position(core.position.0 + 1);
        core.effects.push_back(crate::Effect::Left { reason: None, after });
    });
    assert!(matches!(promise, Err(Violation::Position(_))));
}
