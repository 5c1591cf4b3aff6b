//! Health checks and checks: when they run, what is told of them, what follows.

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState::{self, TaskKilled, TaskKilling, TaskRunning};
use mezzo_proto::v1::framework_info::capability;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::ContainerId;
use proptest::prelude::*;

use super::{World, config, framework, grace, task};
use crate::checks::WAITING_MAX;
use crate::{CheckKind, CheckOutcome, Effect, Input, Observed, Probe};

const PASS: CheckOutcome = CheckOutcome::Connected(true);
const FAIL: CheckOutcome = CheckOutcome::Connected(false);

/// Mesos' defaults, looking at a port.
fn health() -> v1::HealthCheck {
    v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Tcp as i32),
        tcp: Some(v1::health_check::TcpCheckInfo { port: 80, ..Default::default() }),
        ..v1::HealthCheck::default()
    }
}

/// Without delays, every second.
fn quick() -> v1::HealthCheck {
    v1::HealthCheck {
        delay_seconds: Some(0.0),
        interval_seconds: Some(1.0),
        grace_period_seconds: Some(0.0),
        ..health()
    }
}

fn readiness() -> v1::CheckInfo {
    let command = v1::CommandInfo { value: Some("ready".into()), ..Default::default() };
    v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Command as i32),
        command: Some(v1::check_info::Command { command }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(1.0),
        ..v1::CheckInfo::default()
    }
}

fn checked_task(health: Option<v1::HealthCheck>, check: Option<v1::CheckInfo>) -> v1::TaskInfo {
    v1::TaskInfo { health_check: health, check, ..task("t") }
}

/// A world in which the task runs, and all that was told of it is acknowledged.
fn running(info: &v1::TaskInfo) -> (World, ContainerId) {
    let mut world = World::registered();
    world.run(info, framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    settle(&mut world);
    (world, container)
}

fn settle(world: &mut World) {
    while world.acknowledge("t").is_some() {}
    world.effects.clear();
}

/// The looks that were ordered since the last question.
fn looks(world: &mut World) -> Vec<CheckKind> {
    let effects = std::mem::take(&mut world.effects);
    let kind = |effect: &Effect| match effect {
        Effect::Check { kind, .. } => Some(*kind),
        _ => None,
    };
    effects.iter().filter_map(kind).collect()
}

fn found(world: &mut World, container: &ContainerId, kind: CheckKind, outcome: CheckOutcome) {
    world.handle(Input::Checked { container: container.clone(), kind, outcome });
}

/// One second passes, the health check is due and comes out like this.
fn next(world: &mut World, container: &ContainerId, outcome: CheckOutcome) {
    world.effects.clear();
    world.pass(1.0);
    assert_eq!(looks(world), [CheckKind::Health]);
    found(world, container, CheckKind::Health, outcome);
}

/// What was told since the last question, all of it acknowledged.
fn told(world: &mut World) -> Vec<(TaskState, Option<bool>, Option<Reason>)> {
    let mut told = Vec::new();
    loop {
        let record = &world.records.tasks[&("f".to_owned(), "t".to_owned())];
        let Some(status) = record.updates.first() else { return told };
        told.push((status.state(), status.healthy, status.reason.map(|_| status.reason())));
        if status.state() == TaskKilled {
            return told;
        }
        world.acknowledge("t");
    }
}

const HEALTH: Option<Reason> = Some(Reason::TaskHealthCheckStatusUpdated);
const CHECK: Option<Reason> = Some(Reason::TaskCheckStatusUpdated);

#[test]
fn looks_come_after_the_delay_and_an_interval_after_each_result() {
    let (mut world, container) = running(&checked_task(Some(health()), None));
    world.pass(14.9);
    assert_eq!(looks(&mut world), []);
    world.pass(0.1);
    let look = world.effects.iter().find_map(|effect| match effect {
        Effect::Check { container, kind, probe, timeout } => {
            Some((container.clone(), *kind, (**probe).clone(), *timeout))
        }
        _ => None,
    });
    let probe = Probe::Tcp { ipv6: false, port: 80 };
    let limit = Some(std::time::Duration::from_secs(20));
    assert_eq!(look, Some((container.clone(), CheckKind::Health, probe, limit)));
    world.effects.clear();
    // However long it takes, the next one waits for its result.
    world.pass(100.0);
    assert_eq!(looks(&mut world), []);
    found(&mut world, &container, CheckKind::Health, PASS);
    world.pass(9.9);
    assert_eq!(looks(&mut world), []);
    world.pass(0.1);
    assert_eq!(looks(&mut world), [CheckKind::Health]);
}

#[test]
fn no_interval_is_a_short_one_and_no_time_limit_none() {
    let check =
        v1::HealthCheck { interval_seconds: Some(0.0), timeout_seconds: Some(0.0), ..quick() };
    let (mut world, container) = running(&checked_task(Some(check), None));
    world.pass(0.0);
    assert!(world.transcript().contains("look Health for None"));
    found(&mut world, &container, CheckKind::Health, PASS);
    world.pass(0.09);
    assert_eq!(looks(&mut world), []);
    world.pass(0.01);
    assert_eq!(looks(&mut world), [CheckKind::Health]);
}

#[test]
fn health_is_told_as_mesos_tells_it() {
    let (mut world, container) = running(&checked_task(Some(quick()), None));
    next(&mut world, &container, PASS);
    assert_eq!(told(&mut world), [(TaskRunning, Some(true), HEALTH)]);
    next(&mut world, &container, PASS);
    assert_eq!(told(&mut world), []);
    // Every failure.
    for count in 1..=2 {
        next(&mut world, &container, FAIL);
        assert_eq!(told(&mut world), [(TaskRunning, Some(false), HEALTH)], "failure {count}");
    }
    assert_eq!(
        world.latest("t").message(),
        "The health check failed 2 times in a row: no connection came about"
    );
    next(&mut world, &container, CheckOutcome::Unavailable("no launcher".into()));
    assert_eq!(told(&mut world), []);
    next(&mut world, &container, PASS);
    assert_eq!(told(&mut world), [(TaskRunning, Some(true), HEALTH)]);
    assert_eq!(world.latest("t").message, None);
    assert!(world.latest("t").container_status.is_some(), "what was told stays told");
    let statistics = world.core.statistics();
    assert_eq!((statistics.health_checks, statistics.health_checks_failed), (5, 2));
    assert_eq!((statistics.checks, statistics.checks_unavailable), (0, 1));
}

#[test]
fn failures_in_a_row_end_the_task() {
    let (mut world, container) = running(&checked_task(Some(quick()), None));
    for _ in 0..2 {
        next(&mut world, &container, FAIL);
        next(&mut world, &container, PASS);
        next(&mut world, &container, FAIL);
    }
    next(&mut world, &container, CheckOutcome::Failed("it took too long".into()));
    settle(&mut world);
    next(&mut world, &container, FAIL);
    let transcript = world.transcript();
    assert!(transcript.contains("signal 15"), "{transcript}");
    assert_eq!(told(&mut world), [(TaskRunning, Some(false), HEALTH)]);
    world.pass(2.9);
    assert_eq!(looks(&mut world), [], "it is looked at no more");
    world.exited(&container, 15);
    assert_eq!(told(&mut world), [(TaskKilled, Some(false), None)]);
    assert_eq!(world.latest("t").message(), "Command terminated with signal Terminated");
}

/// The grace period of the task holds for this kill as for any other, and TASK_KILLING says nothing of health.
#[test]
fn an_unhealthy_task_is_ended_like_any_other() {
    let mut world = World::registered();
    let check = v1::HealthCheck { consecutive_failures: Some(0), ..quick() };
    let mut info = checked_task(Some(check), Some(readiness()));
    info.kill_policy = Some(grace(7.0));
    world.run(&info, framework(&[capability::Type::TaskKillingState]));
    let container = world.container_of("t");
    world.started(&container);
    settle(&mut world);
    world.pass(0.0);
    found(&mut world, &container, CheckKind::Check, CheckOutcome::Exited(1));
    assert_eq!(told(&mut world), [(TaskRunning, None, CHECK)]);
    found(&mut world, &container, CheckKind::Health, FAIL);
    assert_eq!(told(&mut world), [(TaskRunning, Some(false), HEALTH), (TaskKilling, None, None)]);
    let empty = v1::check_status_info::Command { exit_code: None };
    assert_eq!(world.latest("t").check_status.and_then(|status| status.command), Some(empty));
    world.effects.clear();
    world.pass(6.9);
    assert_eq!(world.transcript(), "");
    world.pass(0.1);
    assert!(world.transcript().starts_with("destroy"));
}

#[test]
fn failures_do_not_count_in_the_grace_period_before_the_first_success() {
    let check = v1::HealthCheck { grace_period_seconds: Some(3.5), ..quick() };
    let (mut world, container) = running(&checked_task(Some(check.clone()), None));
    for _ in 0..3 {
        next(&mut world, &container, FAIL);
        assert_eq!(told(&mut world), []);
    }
    next(&mut world, &container, FAIL);
    assert_eq!(told(&mut world), [(TaskRunning, Some(false), HEALTH)]);

    let (mut world, container) = running(&checked_task(Some(check), None));
    next(&mut world, &container, FAIL);
    next(&mut world, &container, PASS);
    next(&mut world, &container, FAIL);
    let expected = [(TaskRunning, Some(true), HEALTH), (TaskRunning, Some(false), HEALTH)];
    assert_eq!(told(&mut world), expected);
}

#[test]
fn results_of_a_check_are_told_when_they_change() {
    let (mut world, container) = running(&checked_task(None, Some(readiness())));
    let code = |world: &World| {
        let status = world.latest("t").check_status.expect("a task with a check has one");
        assert_eq!(status.r#type(), v1::check_info::Type::Command);
        status.command.expect("of its type").exit_code
    };
    assert_eq!(code(&world), None, "nothing is known");
    let mut expect = |outcome: CheckOutcome, changed: bool, exit_code: Option<i32>| {
        world.pass(1.0);
        assert_eq!(looks(&mut world), [CheckKind::Check]);
        found(&mut world, &container, CheckKind::Check, outcome);
        let expected = if changed { vec![(TaskRunning, None, CHECK)] } else { Vec::new() };
        assert_eq!(told(&mut world), expected);
        assert_eq!(code(&world), exit_code);
        world.effects.clear();
    };
    expect(CheckOutcome::Failed("too late".into()), false, None);
    expect(CheckOutcome::Exited(1), true, Some(1));
    expect(CheckOutcome::Exited(1), false, Some(1));
    expect(CheckOutcome::Exited(0), true, Some(0));
    expect(CheckOutcome::Unavailable("no launcher".into()), false, Some(0));
    expect(CheckOutcome::Failed("too late".into()), true, None);
    assert_eq!(world.core.statistics().checks_failed, 2);
}

#[test]
fn what_one_check_told_the_other_repeats() {
    let (mut world, container) = running(&checked_task(Some(quick()), Some(readiness())));
    world.pass(0.0);
    assert_eq!(looks(&mut world), [CheckKind::Health, CheckKind::Check]);
    found(&mut world, &container, CheckKind::Check, CheckOutcome::Exited(4));
    found(&mut world, &container, CheckKind::Health, PASS);
    let latest = world.latest("t");
    assert_eq!(latest.healthy, Some(true));
    let command = latest.check_status.and_then(|status| status.command);
    assert_eq!(command.and_then(|command| command.exit_code), Some(4));
    // The ending is made anew.
    world.exited(&container, 0);
    let latest = world.latest("t");
    assert_eq!(latest.healthy, None);
    let command = latest.check_status.and_then(|status| status.command);
    assert_eq!(command, Some(v1::check_status_info::Command { exit_code: None }));
}

#[test]
fn a_kill_ends_all_looking() {
    let (mut world, container) = running(&checked_task(Some(quick()), Some(readiness())));
    world.pass(0.0);
    found(&mut world, &container, CheckKind::Health, PASS);
    settle(&mut world);
    world.kill("t", Some(grace(1000.0)));
    settle(&mut world);
    // One was under way, one was to come.
    found(&mut world, &container, CheckKind::Check, CheckOutcome::Exited(0));
    world.pass(80.0);
    assert_eq!(world.transcript(), "");
}

#[test]
fn a_restart_of_the_agent_goes_on_where_it_was() {
    let check = v1::HealthCheck { consecutive_failures: Some(4), ..quick() };
    let (mut world, container) = running(&checked_task(Some(check), Some(readiness())));
    world.pass(0.0);
    found(&mut world, &container, CheckKind::Check, CheckOutcome::Exited(7));
    found(&mut world, &container, CheckKind::Health, PASS);
    for _ in 0..2 {
        world.pass(1.0);
        found(&mut world, &container, CheckKind::Health, FAIL);
        found(&mut world, &container, CheckKind::Check, CheckOutcome::Exited(7));
    }
    settle(&mut world);
    let alive = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
    world.restart(config(), &[(&container, alive)]);
    world.register(super::LINK, super::TERM);
    world.effects.clear();
    world.pass(0.0);
    assert_eq!(looks(&mut world), [CheckKind::Health, CheckKind::Check]);
    found(&mut world, &container, CheckKind::Check, CheckOutcome::Exited(7));
    assert_eq!(told(&mut world), [], "it is known");
    found(&mut world, &container, CheckKind::Health, FAIL);
    assert_eq!(told(&mut world), [(TaskRunning, Some(false), HEALTH)]);
    world.effects.clear();
    world.pass(1.0);
    found(&mut world, &container, CheckKind::Health, FAIL);
    let transcript = world.transcript();
    assert!(transcript.contains("signal 15"), "the fourth in a row: {transcript}");
    // Nor does the end of the agent make it forget why.
    let alive = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
    world.restart(config(), &[(&container, alive)]);
    world.exited(&container, 15);
    assert_eq!(world.latest("t").healthy, Some(false));
}

#[test]
fn a_restart_does_not_begin_the_delay_anew() {
    let (mut world, container) = running(&checked_task(Some(health()), None));
    world.pass(10.0);
    let alive = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
    world.restart(config(), &[(&container, alive)]);
    world.pass(4.9);
    assert_eq!(looks(&mut world), []);
    world.pass(0.1);
    assert_eq!(looks(&mut world), [CheckKind::Health]);
}

#[test]
fn a_framework_that_does_not_acknowledge_gets_the_newest_in_the_end() {
    let check = v1::HealthCheck { consecutive_failures: Some(u32::MAX), ..quick() };
    let (mut world, container) = running(&checked_task(Some(check), None));
    for _ in 0..15 {
        next(&mut world, &container, FAIL);
        next(&mut world, &container, PASS);
    }
    next(&mut world, &container, FAIL);
    let waiting = world.records.tasks[&("f".to_owned(), "t".to_owned())].updates.len();
    assert_eq!(waiting, WAITING_MAX);
    assert_eq!(world.latest("t").healthy, Some(true));
    assert_eq!(told(&mut world).last(), Some(&(TaskRunning, Some(false), HEALTH)));
    assert_eq!(world.latest("t").healthy, Some(false));
}

/// What was told of health must not move the start of the task.
#[test]
fn completion_time_counts_from_the_start_also_after_a_restart() {
    let mut info = checked_task(Some(quick()), None);
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 10_000_000_000 });
    let (mut world, container) = running(&info);
    for _ in 0..4 {
        next(&mut world, &container, FAIL);
        next(&mut world, &container, PASS);
    }
    let alive = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
    world.restart(config(), &[(&container, alive)]);
    world.transcript();
    world.pass(1.9);
    assert!(!world.transcript().contains("signal"));
    world.pass(0.1);
    let transcript = world.transcript();
    // It has had its time: no grace.
    assert!(transcript.contains("signal 15") && transcript.contains("destroy"), "{transcript}");
}

/// What Mesos' health checker does, word by word (`src/checks/health_checker.cpp`).
struct Reference {
    initializing: bool,
    consecutive_failures: u32,
    limit: u32,
    grace_s: f64,
}

impl Reference {
    /// What is told, and whether the task is killed.
    fn result(&mut self, seconds_since_start: f64, well: bool) -> (Option<bool>, bool) {
        if !well {
            if self.initializing && self.grace_s > 0.0 && seconds_since_start <= self.grace_s {
                return (None, false);
            }
            self.consecutive_failures += 1;
            return (Some(false), self.consecutive_failures >= self.limit);
        }
        let tell = self.initializing || self.consecutive_failures > 0;
        self.initializing = false;
        self.consecutive_failures = 0;
        (tell.then_some(true), false)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However results come, and however often the agent restarts in between.
    #[test]
    fn health_goes_as_the_plain_reference_goes(
        limit in 0u32..5,
        grace_s in prop_oneof![Just(0.0), 0.0..20.0f64],
        steps in proptest::collection::vec((0u8..8, 0.0..3.0f64), 1..60),
    ) {
        let check = v1::HealthCheck {
            consecutive_failures: Some(limit),
            grace_period_seconds: Some(grace_s),
            ..quick()
        };
        let (mut world, container) = running(&checked_task(Some(check), None));
        let began = world.now;
        let mut reference =
            Reference { initializing: true, consecutive_failures: 0, limit, grace_s };
        for (what, takes_s) in steps {
            world.effects.clear();
            world.pass(1.0);
            prop_assert_eq!(looks(&mut world), [CheckKind::Health]);
            world.pass(takes_s);
            if what == 0 {
                // The result of this look is lost with the agent.
                let alive = Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None };
                world.restart(config(), &[(&container, alive)]);
                world.register(super::LINK, super::TERM);
                continue;
            }
            let well = what > 4;
            found(&mut world, &container, CheckKind::Health, if well { PASS } else { FAIL });
            let since = world.now.since(began.mono_ns).as_secs_f64();
            let (expected, killed) = reference.result(since, well);
            let got: Vec<Option<bool>> = told(&mut world).iter().map(|status| status.1).collect();
            prop_assert_eq!(got, expected.map(Some).into_iter().collect::<Vec<_>>());
            prop_assert_eq!(world.transcript().contains("signal 15"), killed);
            if killed {
                world.exited(&container, 15);
                prop_assert_eq!(told(&mut world), [(TaskKilled, Some(false), None)]);
                return Ok(());
            }
        }
    }
}
