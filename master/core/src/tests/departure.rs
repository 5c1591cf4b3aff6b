//! Agents that leave for good, the lists that remember them, and agents that come back changed.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{LaunchPosition, Register, Unregister};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::event;
use mezzo_proto::v1::task_status::Reason;

use super::agents::{RESOURCES, reported, with_task};
use super::cluster::{Cluster, framework_info, task};
use crate::{Answer, Input, LinkId, Refusal, RequestId};

const LAST: LaunchPosition = LaunchPosition { term: 1, sequence: 1 };

fn mark_gone(cluster: &mut Cluster, agent: &str) -> Result<Answer, Refusal> {
    let request = RequestId(u64::MAX);
    cluster.input(Input::MarkAgentGone { request, agent: agent.into() });
    cluster.replies.remove(&request).expect("answered")
}

/// What a registration under `agent` is refused with.
fn refusal(cluster: &mut Cluster, agent: &str) -> (String, bool) {
    let link = LinkId(1_000_000);
    let agent_info = v1::AgentInfo {
        hostname: "host".to_owned(),
        id: Some(v1::AgentId { value: agent.to_owned() }),
        ..v1::AgentInfo::default()
    };
    let register = Register { agent_info: Some(agent_info), ..Register::default() };
    cluster.agent_says(link, ToMaster::Register(Box::new(register)));
    let messages = cluster.take_messages(link);
    let [ToAgent::Refused(refused)] = messages.as_slice() else { panic!("{messages:?}") };
    (refused.message.clone(), refused.shutdown)
}

#[test]
fn an_agent_marked_gone_is_barred_and_its_tasks_are_gone() {
    for aware in [true, false] {
        let (mut cluster, stream, id, link, agent) = with_task(aware);
        cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
        cluster.take_events(stream);
        assert_eq!(mark_gone(&mut cluster, &agent), Ok(Answer::Done));
        let events = cluster.take_events(stream);
        let status = events.iter().find_map(|e| e.update.as_ref()).expect("UPDATE");
        let (state, reason) = if aware {
            (TaskState::TaskGoneByOperator, Reason::AgentRemovedByOperator)
        } else {
            (TaskState::TaskLost, Reason::AgentRemoved)
        };
        assert_eq!((status.status.state(), status.status.reason()), (state, reason));
        assert!(events.iter().any(|e| e.r#type == Some(event::Type::Failure as i32)));
        let messages = cluster.take_messages(link);
        let Some(ToAgent::Refused(refused)) = messages.last() else { panic!("{messages:?}") };
        assert!(refused.shutdown);
        assert!(cluster.registry.placements.is_empty());
        assert_eq!(mark_gone(&mut cluster, &agent), Ok(Answer::Done), "again");
        let mut cluster = cluster.fail_over();
        let (message, shutdown) = refusal(&mut cluster, &agent);
        assert!(shutdown);
        assert_eq!(
            message,
            format!(
                "agent '{agent}' was marked gone by an operator and cannot come back: it ends its \
                 tasks and stops; started again, the host joins as a new agent"
            )
        );
    }
}

#[test]
fn an_unknown_agent_cannot_be_marked() {
    let mut cluster = Cluster::new();
    let refused = mark_gone(&mut cluster, "who").expect_err("unknown");
    assert_eq!(refused.http_code(), 404);
    assert_eq!(refused.to_string(), "no agent has the id 'who': `mezzo agents` lists them");
}

#[test]
fn an_unreachable_agent_can_be_marked_gone() {
    let (mut cluster, stream, _, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    cluster.advance(Duration::from_secs(600));
    cluster.take_events(stream);
    assert_eq!(mark_gone(&mut cluster, &agent), Ok(Answer::Done));
    assert_eq!(cluster.take_statuses(stream)[0].state(), TaskState::TaskGoneByOperator);
    assert_eq!(cluster.master.statistics().agents_unreachable, 0);
}

#[test]
fn an_agent_that_leaves_loses_its_tasks_for_everybody() {
    for aware in [true, false] {
        let (mut cluster, stream, id, link, agent) = with_task(aware);
        cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
        cluster.take_events(stream);
        cluster.agent_says(link, ToMaster::Unregister(Unregister {}));
        let status = cluster.take_statuses(stream).remove(0);
        assert_eq!((status.state(), status.reason()), (TaskState::TaskLost, Reason::AgentRemoved));
        assert_eq!(cluster.closed_links, [link]);
        assert!(!cluster.registry.agents.contains_key(agent.as_str()));
        assert!(cluster.registry.placements.is_empty());
        let statistics = cluster.master.statistics();
        assert_eq!((statistics.removals, statistics.removals_unregistered), (1, 1));
    }
}

/// The framework has the ending already, or will get it right.
#[test]
fn an_ending_is_not_contradicted_by_a_departure() {
    let (mut cluster, stream, id, link, _) = with_task(true);
    cluster.update(link, &id, "t", TaskState::TaskFinished, 1);
    cluster.take_events(stream);
    cluster.agent_says(link, ToMaster::Unregister(Unregister {}));
    let status = cluster.take_statuses(stream).remove(0);
    assert_eq!((status.state(), status.uuid), (TaskState::TaskFinished, None));
}

#[test]
fn old_entries_are_forgotten() {
    let mut cluster = Cluster::with(|c| c.agent_reregister_timeout = Duration::from_secs(60));
    let (link, away) = cluster.agent(RESOURCES);
    let (_, gone) = cluster.agent(RESOURCES);
    mark_gone(&mut cluster, &gone).expect("known");
    cluster.input(Input::LinkClosed { link });
    let day = Duration::from_secs(24 * 60 * 60);
    cluster.advance(13 * day);
    assert_eq!(cluster.registry.agents.len(), 2);
    cluster.advance(2 * day);
    assert!(cluster.registry.agents.is_empty());
    // Nobody remembers why they should not come back.
    let last = LaunchPosition::default();
    for id in [away, gone] {
        assert_eq!(cluster.register(Some(&id), RESOURCES, last, vec![], "boot-1").1, id);
    }
}

#[test]
fn the_lists_have_a_limit_and_the_oldest_go_first() {
    let mut cluster = Cluster::with(|c| c.registry_max_agent_count = 2);
    let gone: Vec<_> = (0..3).map(|_| cluster.agent(RESOURCES).1).collect();
    for id in &gone {
        cluster.advance(Duration::from_millis(1));
        mark_gone(&mut cluster, id).expect("known");
    }
    let away: Vec<_> = (0..3).map(|_| cluster.agent(RESOURCES)).collect();
    for (link, _) in &away {
        cluster.advance(Duration::from_millis(1));
        cluster.input(Input::LinkClosed { link: *link });
    }
    cluster.advance(Duration::from_secs(15 * 60));
    let left: Vec<_> = cluster.registry.agents.keys().map(ToString::to_string).collect();
    assert_eq!(left, [&gone[1], &gone[2], &away[1].1, &away[2].1].map(Clone::clone));
}

/// Forgotten tasks come back with their agent, even to a master that lost the framework, too.
#[test]
fn a_forgotten_agent_returns_with_its_tasks() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.input(Input::LinkClosed { link });
    cluster.advance(Duration::from_secs(16 * 24 * 60 * 60));
    cluster.take_events(stream);
    assert!(cluster.registry.agents.is_empty());
    assert!(cluster.registry.placements.is_empty());
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    let (link, _) = cluster.register(Some(&agent), RESOURCES, LAST, tasks.clone(), "boot-1");
    // Offers follow the registration at once.
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(stream);
    let status = &events.iter().find_map(|e| e.update.as_ref()).expect("UPDATE").status;
    assert_eq!(status.reason(), Reason::AgentReregistered);
    assert_eq!(cluster.registry.placements.len(), 1);
    // Launches go on where they stopped: an agent passes over those that it has seen.
    let offer = events.into_iter().find_map(|e| e.offers).expect("OFFERS").offers.remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("u", &agent, "cpus:1")]);
    let messages = cluster.take_messages(link);
    let [ToAgent::RunTask(run)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(run.position, Some(LaunchPosition { term: 1, sequence: 2 }));

    let mut other = Cluster::new();
    let info = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let agent_info = v1::AgentInfo {
        hostname: "host".to_owned(),
        resources: super::cluster::resources(RESOURCES),
        id: Some(v1::AgentId { value: agent.clone() }),
        ..v1::AgentInfo::default()
    };
    let register = Register {
        agent_info: Some(agent_info),
        tasks,
        frameworks: vec![info.clone()],
        ..Register::default()
    };
    other.agent_says(LinkId(5), ToMaster::Register(Box::new(register)));
    assert_eq!(other.registry.placements.len(), 1);
    let (stream, _) = other.framework(info);
    other.advance(Duration::from_secs(1));
    let offer = other.take_offers(stream).remove(0);
    let free = mezzo_types::Resources::from_proto(&offer.resources).expect("valid");
    assert_eq!(free.cpus().to_f64(), 3.0, "the task's share is not offered");
}

/// While its agent was forgotten, the framework used the id again.
#[test]
fn of_two_tasks_with_one_id_the_older_is_killed() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.input(Input::LinkClosed { link });
    cluster.advance(Duration::from_secs(16 * 24 * 60 * 60));
    cluster.take_events(stream);
    let (_, other) = cluster.agent(RESOURCES);
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &other, "cpus:1")]);
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    let (link, _) = cluster.register(Some(&agent), RESOURCES, LAST, tasks, "boot-1");
    let messages = cluster.take_messages(link);
    let [ToAgent::KillTask(kill)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(kill.task_id, "t");
    assert!(cluster.take_statuses(stream).is_empty(), "nothing of the framework's task changed");
}

#[test]
fn an_agent_that_grew_is_offered_with_all_it_has() {
    let (mut cluster, stream, id, link, agent) = with_task(true);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.advance(Duration::from_secs(10));
    let offer = cluster.take_events(stream).into_iter().find_map(|e| e.offers);
    let offer = offer.expect("the rest of the agent is offered").offers.remove(0);
    // It restarts before the master has seen its old link end.
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    cluster.register(Some(&agent), "cpus:8;mem:1024;slots:2", LAST, tasks, "boot-1");
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(stream);
    let rescinded = events.iter().find_map(|e| e.rescind.as_ref()).expect("RESCIND");
    assert_eq!(rescinded.offer_id, offer.id);
    assert!(events.iter().all(|e| e.update.is_none()), "the task lives on, unnoticed");
    let offer = events.into_iter().find_map(|e| e.offers).expect("OFFERS").offers.remove(0);
    let free = mezzo_types::Resources::from_proto(&offer.resources).expect("valid");
    assert_eq!(free.cpus().to_f64(), 7.0);
    assert!(free.scalar("slots").is_some());
    let record = &cluster.registry.agents[agent.as_str()];
    let total = &record.info.as_ref().expect("info").resources;
    let total = mezzo_types::Resources::from_proto(total).expect("valid");
    assert_eq!(total.cpus().to_f64(), 8.0, "the registry has it");
}
