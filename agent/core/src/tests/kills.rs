//! Kills and everything that ends tasks from outside.

use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::Reason;

use super::{LINK, World, framework, grace, task};
use crate::{Input, LinkId, Observed};

#[test]
fn a_kill_is_sigterm_then_three_seconds_then_the_end() {
    let mut world = World::registered();
    let container = world.running("t");
    world.transcript();
    world.kill("t", None);
    assert_eq!(world.transcript(), "persist t KILLING [STARTING RUNNING]\nsignal 15 after 4");
    world.pass(2.999);
    assert_eq!(world.transcript(), "");
    world.pass(0.001);
    assert_eq!(world.transcript(), "destroy after 4");
    world.exited(&container, 9);
    assert_eq!(world.latest("t").state(), v1::TaskState::TaskKilled);
    assert_eq!(world.latest("t").message(), "Command terminated with signal Killed");
}

#[test]
fn who_can_tell_hears_of_the_kill() {
    let mut world = World::registered();
    world.run(&task("t"), framework(&[capability::Type::TaskKillingState]));
    let container = world.container_of("t");
    world.started(&container);
    world.acknowledge("t");
    world.acknowledge("t");
    world.transcript();
    world.kill("t", None);
    assert_eq!(
        world.transcript(),
        "persist t KILLING [KILLING]\nsignal 15 after 6\nsend t KILLING (KILLING) after 6"
    );
}

/// Kills at 0 s and again 1 s later; when does SIGKILL follow?
fn check_grace(own: Option<f64>, first: Option<f64>, second: Option<f64>, expected: f64) {
    let mut world = World::registered();
    let mut info = task("t");
    info.kill_policy = own.map(grace);
    world.run(&info, framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    world.kill("t", first.map(grace));
    world.pass(1.0);
    world.kill("t", second.map(grace));
    // A timer in the past means at once.
    let mut passed: f64 = 1.0;
    world.transcript();
    while world.transcript() != "destroy after 4" && world.transcript() != "destroy after 5" {
        passed += 0.5;
        assert!(passed < 100.0, "SIGKILL never followed");
        world.now = world.now.advanced(std::time::Duration::from_millis(500));
        world.core.handle_timeout(world.now);
        let ended = std::iter::from_fn(|| world.core.poll_effect())
            .any(|effect| matches!(effect, crate::Effect::Destroy { .. }));
        if ended {
            break;
        }
    }
    assert_eq!(passed, expected, "own {own:?}, first {first:?}, second {second:?}");
}

#[test]
fn the_grace_period_is_the_orders_or_the_tasks_and_can_only_shrink() {
    check_grace(None, None, None, 3.0);
    check_grace(Some(8.0), None, None, 8.0);
    check_grace(Some(8.0), Some(5.0), None, 5.0);
    check_grace(None, Some(10.0), Some(4.0), 4.0);
    check_grace(None, Some(10.0), Some(0.0), 1.5);
    check_grace(None, Some(4.0), Some(60.0), 4.0);
}

#[test]
fn a_kill_during_the_launch_stops_it() {
    let mut world = World::registered();
    let container = world.launched("t");
    world.transcript();
    world.kill("t", None);
    assert_eq!(world.transcript(), "persist t KILLING [STARTING]\ndestroy after 3");
    world.kill("t", None);
    assert_eq!(world.transcript(), "");
    world.destroyed(&container);
    assert_eq!(world.transcript(), "persist t ENDED [STARTING KILLED]\npersist no container");
    assert_eq!(world.latest("t").reason(), Reason::TaskKilledDuringLaunch);
}

#[test]
fn a_kill_that_the_start_overtook_ends_the_task_as_killed() {
    let mut world = World::registered();
    let container = world.launched("t");
    world.kill("t", None);
    world.started(&container);
    world.exited(&container, 9);
    let states = &world.records.tasks[&("f".to_owned(), "t".to_owned())].updates;
    let states: Vec<_> = states.iter().map(|status| status.state().as_str_name()).collect();
    assert_eq!(states, ["TASK_STARTING", "TASK_KILLED"]);
}

#[test]
fn killing_what_ended_or_is_unknown_changes_nothing_here() {
    let mut world = World::registered();
    let container = world.running("t");
    world.exited(&container, 0);
    world.transcript();
    world.kill("t", None);
    assert_eq!(world.transcript(), "");
    world.kill("other", None);
    assert_eq!(world.transcript(), "send other LOST (LOST) after 0");
    // A framework that tells losses apart hears the precise word.
    world.run(&task("u"), framework(&[capability::Type::PartitionAware]));
    world.transcript();
    world.kill("other", None);
    assert_eq!(world.transcript(), "send other DROPPED (DROPPED) after 0");
}

#[test]
fn a_framework_that_is_shut_down_leaves_nothing() {
    let mut world = World::registered();
    let running = world.running("t");
    let launching = world.launched("u");
    let ended = world.running("v");
    world.exited(&ended, 0);
    world.destroyed(&ended);
    world.transcript();
    world.shutdown_framework();
    assert_eq!(
        world.transcript(),
        "persist t RUNNING []\npersist t KILLING []\nsignal 15 after 10\n\
         persist u LAUNCHING []\npersist u KILLING []\ndestroy after 12\n\
         persist no v"
    );
    world.exited(&running, 15);
    assert_eq!(world.transcript(), "persist no t\ndestroy after 14");
    world.destroyed(&running);
    world.destroyed(&launching);
    assert!(world.records.tasks.is_empty() && world.records.containers.is_empty());
    assert_eq!(world.sent(), [] as [&str; 0]);
}

#[test]
fn an_agent_that_leaves_says_so_and_ends_its_tasks() {
    let mut world = World::registered();
    let container = world.running("t");
    world.acknowledge("t");
    world.acknowledge("t");
    world.transcript();
    world.handle(Input::Leave);
    world.handle(Input::Leave);
    assert_eq!(
        world.transcript(),
        "persist synced no identity, last launch 0.0\nsend unregister after 6\n\
         persist t KILLING []\nsignal 15 after 7"
    );
    assert_eq!(world.records.identity, None);
    // The master closes the link; it is not wanted again.
    world.handle(Input::LinkDown { link: LINK });
    world.handle(Input::LinkUp { link: LinkId(2) });
    assert_eq!(world.transcript(), "close link 2: the agent left the cluster");
    world.exited(&container, 15);
    world.destroyed(&container);
    assert_eq!(
        world.transcript(),
        "persist t ENDED [KILLED]\ndestroy after 8\npersist no container\npersist no t\n\
         left None after 10"
    );
    assert!(world.records.tasks.is_empty());
}

#[test]
fn a_launch_on_its_way_to_an_agent_that_leaves_is_not_run() {
    let mut world = World::registered();
    world.running("t");
    world.handle(Input::Leave);
    world.run(&task("late"), framework(&[]));
    assert_eq!(world.latest("late").state(), v1::TaskState::TaskLost);
}

#[test]
fn an_agent_that_left_can_join_again() {
    let mut world = World::registered();
    let container = world.running("t");
    world.handle(Input::Leave);
    world.exited(&container, 15);
    world.destroyed(&container);
    world.restart(super::config(), &[]);
    world.register(LINK, super::TERM);
    world.sequence = 0;
    world.launched("t");
    assert_eq!(world.core.statistics().launches, 1);
}

#[test]
fn an_agent_killed_while_it_leaves_ends_the_rest_and_joins_anew() {
    let mut world = World::registered();
    let container = world.running("t");
    world.handle(Input::Leave);
    let alive = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
    world.restart(super::config(), &[(&container, alive)]);
    assert!(world.records.tasks.is_empty());
    assert!(world.transcript().contains("destroy"), "the container is nobody's");
    // It joins when nothing of before is left on the host.
    world.handle(Input::LinkUp { link: LINK });
    assert_eq!(world.transcript(), "");
    world.destroyed(&container);
    let transcript = world.transcript();
    assert!(transcript.ends_with("send register of term 0 [] after 2"), "{transcript}");
    assert!(world.core.info().is_some_and(|info| info.id.is_none()));
}

/// The master may come back while the last tasks end.
#[test]
fn an_agent_without_a_master_leaves_all_the_same() {
    let mut world = World::registered();
    let container = world.running("t");
    world.handle(Input::LinkDown { link: LINK });
    world.handle(Input::Leave);
    assert!(!world.transcript().contains("unregister"));
    world.register(LinkId(2), super::TERM + 1);
    let transcript = world.transcript();
    assert!(transcript.ends_with("send unregister after 5"), "{transcript}");
    assert_eq!(world.records.identity, None);
    world.exited(&container, 15);
    world.destroyed(&container);
    assert!(world.transcript().contains("left None"));
}
