//! What a user can get wrong in ACCEPT: Mesos' state and reason, and a sentence.

use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::task_status::{Reason, Source};

use super::cluster::{Cluster, framework_info, task};

const AGENT: &str = "cpus:4;mem:1024;ports:[31000-31010]";

/// One framework, one agent, one offer of all of it.
fn start(aware: bool) -> (Cluster, crate::StreamId, v1::FrameworkId, crate::LinkId, v1::Offer) {
    let mut cluster = Cluster::new();
    let (link, _) = cluster.agent(AGENT);
    let (stream, id) = cluster.framework(framework_info(aware));
    cluster.advance(std::time::Duration::from_secs(1));
    let offers = cluster.take_offers(stream);
    assert_eq!(offers.len(), 1, "the whole agent is one offer");
    let offer = offers.into_iter().next().expect("one offer");
    (cluster, stream, id, link, offer)
}

#[test]
fn a_good_task_is_placed_before_it_is_sent() {
    let (mut cluster, stream, id, link, offer) = start(true);
    let agent = offer.agent_id.value.clone();
    let persisted = cluster.log.len();
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1;mem:64")]);
    let placed = cluster.log.get(persisted).and_then(|c| c.command.clone());
    let Some(CommandKind::PlaceTasks(placed)) = placed else { panic!("no placement: {placed:?}") };
    assert_eq!(placed.placements[0].task_id, "t");
    let sent = cluster.to_agents.remove(&link).expect("a message for the agent");
    let (ToAgent::RunTask(run), after) = &sent[0] else { panic!("not RunTask: {sent:?}") };
    assert_eq!(after.0, persisted as u64 + 1, "waits for its placement");
    assert_eq!(run.framework_info.as_ref().and_then(|f| f.id.clone()), Some(id));
    // The rest is offered again once the filter of the ACCEPT has passed.
    assert!(cluster.take_statuses(stream).is_empty());
    cluster.advance(std::time::Duration::from_secs(6));
    let rest = cluster.take_offers(stream);
    let rest = mezzo_types::Resources::from_proto(&rest[0].resources).expect("valid");
    assert_eq!(rest.cpus().to_f64(), 3.0);
    assert_eq!(rest.mem_mb().to_f64(), 960.0);
}

#[test]
fn a_health_check_of_old_frameworks_gets_the_type_that_follows_from_it() {
    use mezzo_proto::v1::health_check::Type;
    use prost::Message;
    let (mut cluster, stream, id, link, offer) = start(true);
    let check = v1::HealthCheck {
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..v1::HealthCheck::default()
    };
    let task = v1::TaskInfo {
        health_check: Some(check),
        ..task("t", &offer.agent_id.value, "cpus:1;mem:64")
    };
    cluster.take_messages(link);
    cluster.launch(stream, &id, &[&offer], vec![task]);
    let messages = cluster.take_messages(link);
    let [ToAgent::RunTask(run)] = messages.as_slice() else { panic!("{messages:?}") };
    let sent = v1::TaskInfo::decode(run.task_info.as_ref()).expect("a task");
    let kind = sent.health_check.and_then(|check| check.r#type);
    assert_eq!(kind, Some(Type::Command as i32), "the agent gets it with the type");
}

/// Runs one ACCEPT and holds the one status against what Mesos answers.
fn check(
    break_it: impl FnOnce(&mut Cluster, &v1::Offer) -> (Vec<v1::Offer>, v1::TaskInfo),
    state: TaskState,
    reason: Reason,
    sentence: &str,
) {
    let (mut cluster, stream, id, link, offer) = start(true);
    let (offers, task) = break_it(&mut cluster, &offer);
    cluster.take_events(stream);
    cluster.take_messages(link);
    cluster.launch(stream, &id, &offers.iter().collect::<Vec<_>>(), vec![task]);
    let statuses = cluster.take_statuses(stream);
    let [status] = statuses.as_slice() else { panic!("expected one status: {statuses:?}") };
    assert_eq!(status.state(), state, "{status:?}");
    assert_eq!(status.reason(), reason);
    assert_eq!(status.source(), Source::Master);
    assert_eq!(status.uuid, None, "the master's own updates are not acknowledged");
    assert_eq!(status.message(), sentence);
    assert!(cluster.take_messages(link).is_empty(), "nothing reaches the agent");
}

#[test]
fn every_mistake_has_its_state_reason_and_sentence() {
    let agent = |offer: &v1::Offer| offer.agent_id.value.clone();
    let invalid = |edit: fn(&mut v1::TaskInfo), sentence: &str| {
        check(
            |_, offer| {
                let mut task = task("t", &agent(offer), "cpus:1");
                edit(&mut task);
                (vec![offer.clone()], task)
            },
            TaskState::TaskError,
            Reason::TaskInvalid,
            sentence,
        );
    };
    invalid(
        |t| t.task_id.value = "a/b".to_owned(),
        "task_id 'a/b' contains '/': an id may not contain '/', '\\' or control characters",
    );
    invalid(
        |t| t.agent_id.value = "x".to_owned(),
        "task 't' has agent_id 'x' but its offers are for agent 'c-S0'",
    );
    invalid(
        |t| t.command = None,
        "task 't' has neither 'command' nor 'executor': exactly one must be set",
    );
    invalid(
        |t| t.executor = Some(v1::ExecutorInfo::default()),
        "task 't' has both 'command' and 'executor': exactly one must be set",
    );
    invalid(
        |t| {
            t.container = Some(v1::ContainerInfo {
                r#type: v1::container_info::Type::Mesos as i32,
                linux_info: Some(v1::LinuxInfo {
                    share_cgroups: Some(false),
                    ..v1::LinuxInfo::default()
                }),
                ..v1::ContainerInfo::default()
            });
        },
        "task 't' has container.linux_info.share_cgroups false: only tasks of a task group may",
    );
    invalid(
        |t| t.resources = vec![],
        "task 't' asks for no resources: it must ask for at least one",
    );
    invalid(
        |t| t.resources = super::cluster::resources("cpus:5"),
        "task 't' asks for cpus:5 but its offers have cpus:4; mem:1024; ports:[31000-31010] left",
    );
    invalid(
        |t| t.resources = super::cluster::resources("ports:[31010-31011]"),
        "task 't' asks for ports:[31010-31011] but its offers have cpus:4; mem:1024; \
         ports:[31000-31010] left",
    );
    invalid(
        |t| {
            t.resources[0].allocation_info =
                Some(v1::resource::AllocationInfo { role: Some("web".to_owned()) });
        },
        "task 't' has resource 'cpus' with allocation_info.role 'web' but its offers are \
         allocated to role '*'",
    );
    invalid(
        |t| t.command.as_mut().expect("set").user = Some("root".to_owned()),
        "task 't': command.user is 'root': this cluster runs nothing as root; name another user, \
         or start the master with --root-submissions",
    );
    invalid(
        |t| t.health_check = Some(v1::HealthCheck::default()),
        "task 't' has health_check without 'type': it must be COMMAND, HTTP or TCP",
    );
    invalid(
        |t| {
            t.kill_policy =
                Some(v1::KillPolicy { grace_period: Some(v1::DurationInfo { nanoseconds: -1 }) });
        },
        "task 't' has kill_policy.grace_period -1 ns: it must not be negative",
    );
    invalid(
        |t| t.max_completion_time = Some(v1::DurationInfo { nanoseconds: -2 }),
        "task 't' has max_completion_time -2 ns: it must not be negative",
    );
}

#[test]
fn every_bad_offer_drops_the_task() {
    let good = |offer: &v1::Offer| task("t", &offer.agent_id.value, "cpus:1");
    check(
        |_, offer| {
            let mut stale = offer.clone();
            stale.id.value = "m-O99".to_owned();
            (vec![stale], good(offer))
        },
        TaskState::TaskDropped,
        Reason::InvalidOffers,
        "offer_ids names 'm-O99', which is no longer valid: it was used, declined or rescinded, \
         or never was this framework's",
    );
    check(
        |_, offer| (vec![offer.clone(), offer.clone()], good(offer)),
        TaskState::TaskDropped,
        Reason::InvalidOffers,
        "offer_ids names 'm-O0' twice: each offer may appear once",
    );
    check(
        |cluster, offer| {
            cluster.agent(AGENT);
            cluster.advance(std::time::Duration::from_secs(1));
            let second = cluster
                .events
                .values()
                .flatten()
                .filter_map(|event| event.offers.as_ref())
                .flat_map(|offers| offers.offers.clone())
                .next()
                .expect("the second agent is offered");
            (vec![offer.clone(), second], good(offer))
        },
        TaskState::TaskDropped,
        Reason::InvalidOffers,
        "offer_ids names offers of two agents, 'c-S0' and 'c-S1': all must be of one agent",
    );
}

#[test]
fn a_framework_that_is_not_partition_aware_hears_lost() {
    let (mut cluster, stream, id, _, offer) = start(false);
    let mut stale = offer.clone();
    stale.id.value = "gone".to_owned();
    let task = task("t", &offer.agent_id.value, "cpus:1");
    cluster.launch(stream, &id, &[&stale], vec![task]);
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses[0].state(), TaskState::TaskLost);
    assert_eq!(statuses[0].reason(), Reason::InvalidOffers);
}

#[test]
fn a_task_id_is_free_again_only_after_the_acknowledged_end() {
    let (mut cluster, stream, id, link, offer) = start(true);
    let agent = offer.agent_id.value.clone();
    cluster.launch(
        stream,
        &id,
        &[&offer],
        vec![task("t", &agent, "cpus:1"), task("t", &agent, "cpus:1")],
    );
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses.len(), 1, "the first was launched");
    assert_eq!(statuses[0].state(), TaskState::TaskError);
    assert_eq!(
        statuses[0].message(),
        "task_id 't' is in use: the framework already has a task of this id that has not ended, \
         or whose end it has not acknowledged"
    );
    cluster.update(link, &id, "t", TaskState::TaskFinished, 1);
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    cluster.take_events(stream);
    cluster.take_messages(link);
    cluster.advance(std::time::Duration::from_secs(6));
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:1")]);
    let messages = cluster.take_messages(link);
    assert!(messages.iter().any(|m| matches!(m, ToAgent::RunTask(_))), "{messages:?}");
}

#[test]
fn tasks_of_one_accept_share_what_the_offers_have() {
    let (mut cluster, stream, id, link, offer) = start(true);
    let agent = offer.agent_id.value.clone();
    let tasks = (0..5).map(|n| task(&format!("t{n}"), &agent, "cpus:1")).collect();
    cluster.launch(stream, &id, &[&offer], tasks);
    assert_eq!(cluster.take_messages(link).len(), 4);
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].task_id.value, "t4");
    assert_eq!(
        statuses[0].message(),
        "task 't4' asks for cpus:1 but its offers have mem:1024; ports:[31000-31010] left"
    );
}
