//! Agents that come, go silent and come back; a master that dies and another that takes over.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{AgentTask, LaunchPosition, Pong};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::{call, event};
use mezzo_proto::v1::task_status::Reason;
use prost::Message;

use super::cluster::{Cluster, framework_info, task};
use crate::{Input, LinkId, StreamId};

pub(super) const RESOURCES: &str = "cpus:4;mem:1024";

pub(super) fn with_task(aware: bool) -> (Cluster, StreamId, v1::FrameworkId, LinkId, String) {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent(RESOURCES);
    let (stream, id) = cluster.framework(framework_info(aware));
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1")]);
    cluster.take_events(stream);
    (cluster, stream, id, link, agent)
}

pub(super) fn reported(id: &v1::FrameworkId, agent: &str, state: TaskState) -> AgentTask {
    let info = task("t", agent, "cpus:1");
    AgentTask {
        framework_id: id.value.clone(),
        latest: Some(v1::TaskStatus {
            task_id: info.task_id.clone(),
            state: state as i32,
            ..v1::TaskStatus::default()
        }),
        task_info: info.encode_to_vec().into(),
    }
}

/// What the old master was told of the task is not in the ledger: it must not be taken back.
#[test]
fn a_new_master_says_nothing_of_a_task_before_its_agent_does() {
    let (mut cluster, _, id, link, agent) = with_task(true);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    let mut cluster = cluster.fail_over();
    let stream =
        cluster.subscribe(v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) });
    cluster.take_events(stream);
    let task = call::reconcile::Task {
        task_id: v1::TaskId { value: "t".to_owned() },
        agent_id: Some(v1::AgentId { value: agent.clone() }),
    };
    for tasks in [vec![task.clone()], Vec::new()] {
        let call = call::Reconcile { tasks };
        let asked = cluster.call(stream, &id, call::Type::Reconcile, |c| c.reconcile = Some(call));
        asked.expect("accepted");
        assert_eq!(cluster.take_statuses(stream), []);
    }
    let last = LaunchPosition { term: 1, sequence: 1 };
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    cluster.register(Some(&agent), RESOURCES, last, tasks, "boot-1");
    cluster.take_events(stream);
    let call = call::Reconcile { tasks: vec![task] };
    let asked = cluster.call(stream, &id, call::Type::Reconcile, |c| c.reconcile = Some(call));
    asked.expect("accepted");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses.iter().map(|s| s.state()).collect::<Vec<_>>(), [TaskState::TaskRunning]);
}

#[test]
fn a_lost_link_takes_the_offers_back() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent(RESOURCES);
    let (stream, _) = cluster.framework(framework_info(true));
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    cluster.input(Input::LinkClosed { link });
    let events = cluster.take_events(stream);
    let rescinded = events[0].rescind.as_ref().expect("RESCIND");
    assert_eq!(rescinded.offer_id, offer.id);
    cluster.advance(Duration::from_secs(10));
    assert!(cluster.take_events(stream).iter().all(|e| e.offers.is_none()));
    let last = LaunchPosition::default();
    let (_, same) = cluster.register(Some(&agent), RESOURCES, last, vec![], "boot-1");
    assert_eq!(same, agent);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.take_offers(stream).len(), 1);
}

#[test]
fn a_launch_that_never_arrived_is_dropped_exactly_once() {
    let (mut cluster, stream, _, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    let last = LaunchPosition { term: 1, sequence: 0 };
    cluster.register(Some(&agent), RESOURCES, last, vec![], "boot-1");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].state(), TaskState::TaskDropped);
    assert_eq!(statuses[0].reason(), Reason::AgentDisconnected);
    assert!(cluster.registry.placements.is_empty());
    cluster.register(Some(&agent), RESOURCES, last, vec![], "boot-1");
    assert!(cluster.take_statuses(stream).is_empty());
}

#[test]
fn a_task_that_went_with_its_host_is_gone() {
    let (mut cluster, stream, _, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    let last = LaunchPosition { term: 1, sequence: 1 };
    cluster.register(Some(&agent), RESOURCES, last, vec![], "boot-2");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses[0].state(), TaskState::TaskGone);
    assert_eq!(statuses[0].reason(), Reason::AgentRestarted);
    assert_eq!(statuses[0].message(), "the agent's host was restarted");
}

/// Its last launch may have been lost with the power: DROPPED would claim that it never ran.
#[test]
fn after_a_reboot_an_old_launch_position_proves_nothing() {
    let (mut cluster, stream, _, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    cluster.register(Some(&agent), RESOURCES, LaunchPosition::default(), vec![], "boot-2");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses[0].state(), TaskState::TaskGone);
    assert_eq!(statuses[0].reason(), Reason::AgentRestarted);
}

#[test]
fn a_silent_agent_becomes_unreachable_and_returns_with_its_tasks() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.take_events(stream);
    // The update came within the first interval; five silent ones follow.
    cluster.advance(Duration::from_secs(88));
    assert!(cluster.take_statuses(stream).is_empty());
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(stream);
    let lost = events.iter().find_map(|e| e.update.as_ref()).expect("UPDATE");
    assert_eq!(lost.status.state(), TaskState::TaskUnreachable);
    assert_eq!(lost.status.reason(), Reason::AgentRemoved);
    assert!(lost.status.unreachable_time.is_some());
    assert!(events.iter().any(|e| e.r#type == Some(event::Type::Failure as i32)));
    assert_eq!(cluster.closed_links, [link]);
    let last = LaunchPosition { term: 1, sequence: 1 };
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    cluster.register(Some(&agent), RESOURCES, last, tasks, "boot-1");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses[0].state(), TaskState::TaskRunning);
    assert_eq!(statuses[0].reason(), Reason::AgentReregistered);
}

#[test]
fn an_agent_that_answers_pings_stays() {
    let (mut cluster, stream, _, link, _) = with_task(true);
    for _ in 0..20 {
        cluster.advance(Duration::from_secs(15));
        cluster.agent_says(link, ToMaster::Pong(Pong {}));
    }
    assert!(cluster.closed_links.is_empty());
    assert!(cluster.take_statuses(stream).is_empty());
}

#[test]
fn the_first_message_must_be_a_registration() {
    let mut cluster = Cluster::new();
    let link = LinkId(7);
    cluster.agent_says(link, ToMaster::Pong(Pong {}));
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::Refused(_)]), "{messages:?}");
    assert_eq!(cluster.closed_links, [link]);
}

#[test]
fn an_agent_of_a_later_term_is_refused() {
    let mut cluster = Cluster::new();
    let link = LinkId(7);
    let register = mezzo_proto::internal::v1::Register {
        agent_info: Some(v1::AgentInfo { hostname: "h".into(), ..Default::default() }),
        highest_term: 99,
        ..Default::default()
    };
    cluster.agent_says(link, ToMaster::Register(Box::new(register)));
    let messages = cluster.take_messages(link);
    let [ToAgent::Refused(refused)] = messages.as_slice() else { panic!("{messages:?}") };
    assert!(refused.message.contains("term 99"), "{}", refused.message);
}

#[test]
fn a_new_master_takes_over_tasks_and_frameworks() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.take_events(stream);
    let mut cluster = cluster.fail_over();
    let info = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let (stream, _) = cluster.framework(info);
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.take_events(stream).is_empty(), "no agent is back yet");
    let counted = |cluster: &Cluster| {
        let now = cluster.master.statistics().tasks_now;
        (now.iter().sum::<i64>(), now[TaskState::TaskRunning as usize])
    };
    assert_eq!(counted(&cluster), (0, 0), "nobody knows its state");
    let last = LaunchPosition { term: 1, sequence: 1 };
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    let (link, _) = cluster.register(Some(&agent), RESOURCES, last, tasks, "boot-1");
    assert_eq!(counted(&cluster), (1, 1));
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    let free = mezzo_types::Resources::from_proto(&offer.resources).expect("valid");
    assert_eq!(free.cpus().to_f64(), 3.0, "the task's share is not offered");
    cluster.update(link, &id, "t", TaskState::TaskFinished, 2);
    assert_eq!(cluster.take_statuses(stream)[0].state(), TaskState::TaskFinished);
}

#[test]
fn a_kill_that_met_a_broken_link_is_repeated() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    let kill = mezzo_proto::v1::scheduler::call::Kill {
        task_id: v1::TaskId { value: "t".into() },
        ..Default::default()
    };
    let kind = mezzo_proto::v1::scheduler::call::Type::Kill;
    cluster.call(stream, &id, kind, |c| c.kill = Some(kill)).expect("accepted");
    let last = LaunchPosition { term: 1, sequence: 1 };
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    let (link, _) = cluster.register(Some(&agent), RESOURCES, last, tasks, "boot-1");
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::KillTask(_)]), "{messages:?}");
}

#[test]
fn tasks_of_a_removed_framework_are_ended_when_their_agent_returns() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    let kind = mezzo_proto::v1::scheduler::call::Type::Teardown;
    cluster.call(stream, &id, kind, |_| {}).expect("accepted");
    let last = LaunchPosition { term: 1, sequence: 1 };
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    let (link, _) = cluster.register(Some(&agent), RESOURCES, last, tasks, "boot-1");
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::ShutdownFramework(_)]), "{messages:?}");
}
