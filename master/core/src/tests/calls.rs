//! Who may call what, subscription and failover, decline and filters, suppress and revive, kill,
//! teardown.

use std::time::Duration;

use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::{Call, call, event};
use mezzo_proto::v1::task_status::Reason;

use super::cluster::{Cluster, framework_info, task};
use crate::{Answer, Input, Refusal, RequestId, StreamId};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn calls_are_refused_in_mesos_order() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let mut refusal = |stream: Option<StreamId>, id: Option<&str>| {
        let request = RequestId(1);
        let call = Call {
            framework_id: id.map(|value| v1::FrameworkId { value: value.to_owned() }),
            r#type: Some(call::Type::Revive as i32),
            ..Call::default()
        };
        let input = Input::Call { request, stream, call: Box::new(call), task_infos: vec![] };
        cluster.input(input);
        cluster.replies.remove(&request).expect("answered").expect_err("refused")
    };
    assert_eq!(
        refusal(Some(stream), None),
        Refusal::BadRequest(
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present".into()
        )
    );
    assert_eq!(
        refusal(Some(stream), Some("nobody")),
        Refusal::BadRequest("Framework cannot be found: no framework has the id 'nobody'".into())
    );
    let missing = refusal(None, Some(&id.value));
    assert!(matches!(&missing, Refusal::BadRequest(text) if text.contains("Mesos-Stream-Id")));
    let wrong = refusal(Some(StreamId(0)), Some(&id.value));
    assert!(matches!(&wrong, Refusal::BadRequest(text) if text.contains("didn't match")));
    cluster.input(Input::StreamClosed { stream });
    let mut again = |stream| {
        let result = cluster.call(stream, &id, call::Type::Revive, |_| {});
        result.expect_err("refused")
    };
    assert!(matches!(again(stream), Refusal::Forbidden(text) if text.contains("not subscribed")));
}

#[test]
fn a_revive_or_suppress_of_a_role_that_the_framework_lacks_is_taken_and_dropped() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let roles = || vec!["*".to_owned(), "web".to_owned()];
    let suppress = call::Suppress { roles: roles() };
    let taken = cluster.call(stream, &id, call::Type::Suppress, |c| c.suppress = Some(suppress));
    assert_eq!(taken, Ok(Answer::Accepted));
    cluster.agent("cpus:1;mem:32");
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.take_offers(stream).len(), 1, "the whole call is dropped, role * included");
    let suppress = call::Suppress { roles: vec!["*".to_owned()] };
    cluster
        .call(stream, &id, call::Type::Suppress, |c| c.suppress = Some(suppress))
        .expect("taken");
    cluster.agent("cpus:1;mem:32");
    let revive = call::Revive { roles: roles() };
    let taken = cluster.call(stream, &id, call::Type::Revive, |c| c.revive = Some(revive));
    assert_eq!(taken, Ok(Answer::Accepted));
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.take_offers(stream).is_empty(), "as is the revival");
}

#[test]
fn what_may_not_change_stays_when_a_framework_comes_back_and_is_refused_in_an_update() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let changed = |checkpoint: bool| v1::FrameworkInfo {
        id: Some(id.clone()),
        user: "daemon".to_owned(),
        checkpoint: Some(checkpoint),
        ..framework_info(true)
    };
    let update = call::UpdateFramework { framework_info: changed(true), ..Default::default() };
    let refused = cluster.call(stream, &id, call::Type::UpdateFramework, |c| {
        c.update_framework = Some(Box::new(update))
    });
    assert!(
        matches!(&refused, Err(Refusal::BadRequest(text)) if text.contains("framework_info.user")),
        "{refused:?}"
    );
    let (stream, again) = cluster.framework(changed(false));
    assert_eq!(again, id, "it is not turned away: it would lose its tasks");
    let kept = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let update = call::UpdateFramework { framework_info: kept, ..Default::default() };
    let result = cluster.call(stream, &id, call::Type::UpdateFramework, |c| {
        c.update_framework = Some(Box::new(update))
    });
    assert_eq!(result, Ok(Answer::Done), "user and checkpoint are those of before");
}

#[test]
fn offers_to_a_role_that_the_framework_leaves_are_rescinded() {
    let mut cluster = Cluster::new();
    let info = |roles: &[&str]| {
        let multi = v1::framework_info::Capability {
            r#type: Some(v1::framework_info::capability::Type::MultiRole as i32),
        };
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        v1::FrameworkInfo { capabilities: vec![multi], roles, ..framework_info(true) }
    };
    let (stream, id) = cluster.framework(info(&["left", "stays"]));
    cluster.agent("cpus:1;mem:32");
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    let role = |offer: &v1::Offer| {
        offer.allocation_info.as_ref().and_then(|a| a.role.clone()).expect("a role")
    };
    let stays = if role(&offer) == "left" { "stays" } else { "left" };
    let update = call::UpdateFramework {
        framework_info: v1::FrameworkInfo { id: Some(id.clone()), ..info(&[stays]) },
        ..Default::default()
    };
    cluster
        .call(stream, &id, call::Type::UpdateFramework, |c| {
            c.update_framework = Some(Box::new(update))
        })
        .expect("done");
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(stream);
    let rescinded: Vec<_> = events.iter().filter_map(|e| e.rescind.as_ref()).collect();
    assert_eq!(rescinded.len(), 1);
    assert_eq!(rescinded[0].offer_id, offer.id);
    let offers: Vec<_> =
        events.iter().filter_map(|e| e.offers.as_ref()).flat_map(|o| &o.offers).collect();
    assert_eq!(offers.into_iter().map(role).collect::<Vec<_>>(), [stays]);
}

#[test]
fn a_kill_that_names_another_agent_is_dropped() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:1;mem:32");
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1")]);
    cluster.take_messages(link);
    for (named, kills) in [("another", 0), (agent.as_str(), 1)] {
        let kill = call::Kill {
            task_id: v1::TaskId { value: "t".to_owned() },
            agent_id: Some(v1::AgentId { value: named.to_owned() }),
            kill_policy: None,
        };
        cluster.call(stream, &id, call::Type::Kill, |c| c.kill = Some(kill)).expect("taken");
        assert_eq!(cluster.take_messages(link).len(), kills, "{named}");
    }
}

#[test]
fn a_bad_subscription_ends_with_an_error_event() {
    let mut cluster = Cluster::new();
    let mut info = framework_info(true);
    info.user = "root".to_owned();
    let stream = cluster.subscribe(info);
    let events = cluster.take_events(stream);
    assert_eq!(events[0].r#type, Some(event::Type::Error as i32));
    assert!(events[0].error.as_ref().is_some_and(|e| e.message.contains("'root'")));
    assert_eq!(cluster.closed_streams, [stream]);
    assert!(cluster.log.is_empty(), "nothing was persisted");
}

#[test]
fn subscribed_waits_for_the_log_and_ids_count_up() {
    let mut cluster = Cluster::new();
    let (_, first) = cluster.framework(framework_info(true));
    let (_, second) = cluster.framework(framework_info(true));
    assert_eq!((first.value.as_str(), second.value.as_str()), ("c-0000", "c-0001"));
    assert_eq!(cluster.registry.frameworks.len(), 2);
}

#[test]
fn a_second_subscription_takes_over() {
    let mut cluster = Cluster::new();
    let (old, id) = cluster.framework(framework_info(true));
    let info = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let (new, same) = cluster.framework(info);
    assert_eq!(id, same);
    let events = cluster.take_events(old);
    let last = events.last().and_then(|e| e.error.clone()).expect("ERROR on the old stream");
    assert_eq!(last.message, "Framework failed over");
    assert_eq!(cluster.closed_streams, [old]);
    // The end of the old connection must not end the new subscription.
    cluster.input(Input::StreamClosed { stream: old });
    assert_eq!(cluster.call(new, &id, call::Type::Revive, |_| {}), Ok(Answer::Accepted));
}

#[test]
fn a_framework_may_come_back_within_its_failover_timeout_only() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let again = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    cluster.input(Input::StreamClosed { stream });
    cluster.advance(Duration::from_secs(59));
    let (stream, _) = cluster.framework(again.clone());
    cluster.input(Input::StreamClosed { stream });
    cluster.advance(Duration::from_secs(61));
    let stream = cluster.subscribe(again.clone());
    let error = cluster.take_events(stream)[0].error.clone().expect("ERROR");
    assert!(error.message.starts_with("Framework has been removed"), "{}", error.message);
    // The next master knows it, too.
    let mut cluster = cluster.fail_over();
    let stream = cluster.subscribe(again);
    assert!(cluster.take_events(stream)[0].error.is_some());
}

#[test]
fn declined_resources_come_back_when_the_filter_ends() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:4;mem:1024");
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.advance(SECOND);
    let offer = cluster.take_offers(stream).remove(0);
    let decline = call::Decline {
        offer_ids: vec![offer.id],
        filters: Some(v1::Filters { refuse_seconds: Some(3.0) }),
    };
    cluster
        .call(stream, &id, call::Type::Decline, |c| c.decline = Some(decline))
        .expect("accepted");
    cluster.advance(Duration::from_millis(2900));
    assert!(cluster.take_events(stream).is_empty());
    cluster.advance(Duration::from_millis(200));
    assert_eq!(cluster.take_offers(stream).len(), 1);
}

#[test]
fn suppress_stops_offers_and_revive_forgets_filters() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.call(stream, &id, call::Type::Suppress, |_| {}).expect("accepted");
    cluster.agent("cpus:4;mem:1024");
    cluster.advance(SECOND);
    assert!(cluster.take_events(stream).is_empty());
    cluster.call(stream, &id, call::Type::Revive, |_| {}).expect("accepted");
    cluster.advance(SECOND);
    let offer = cluster.take_offers(stream).remove(0);
    let decline = call::Decline {
        offer_ids: vec![offer.id],
        filters: Some(v1::Filters { refuse_seconds: Some(3600.0) }),
    };
    cluster
        .call(stream, &id, call::Type::Decline, |c| c.decline = Some(decline))
        .expect("accepted");
    cluster.call(stream, &id, call::Type::Revive, |_| {}).expect("accepted");
    cluster.advance(SECOND);
    assert_eq!(cluster.take_offers(stream).len(), 1);
}

#[test]
fn heartbeats_come_every_fifteen_seconds() {
    let mut cluster = Cluster::new();
    let (stream, _) = cluster.framework(framework_info(true));
    cluster.advance(Duration::from_secs(46));
    let events = cluster.take_events(stream);
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|e| e.r#type == Some(event::Type::Heartbeat as i32)));
}

#[test]
fn kill_goes_to_the_agent_behind_the_launch_and_unknown_tasks_are_answered() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:4;mem:1024");
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.advance(SECOND);
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1")]);
    let kill = |task: &str, agent: Option<&str>| call::Kill {
        task_id: v1::TaskId { value: task.to_owned() },
        agent_id: agent.map(|value| v1::AgentId { value: value.to_owned() }),
        kill_policy: None,
    };
    cluster
        .call(stream, &id, call::Type::Kill, |c| c.kill = Some(kill("t", None)))
        .expect("accepted");
    let messages = cluster.take_messages(link);
    assert!(
        matches!(messages.as_slice(), [ToAgent::RunTask(_), ToAgent::KillTask(_)]),
        "{messages:?}"
    );
    let mut answer = |agent: Option<&str>| {
        cluster
            .call(stream, &id, call::Type::Kill, |c| c.kill = Some(kill("no", agent)))
            .expect("accepted");
        let status = cluster.take_statuses(stream).remove(0);
        assert_eq!(status.reason(), Reason::Reconciliation);
        status.state()
    };
    assert_eq!(answer(None), TaskState::TaskUnknown);
    assert_eq!(answer(Some(&agent)), TaskState::TaskGone);
    assert_eq!(answer(Some("never")), TaskState::TaskUnknown);
}

#[test]
fn teardown_ends_tasks_offers_and_the_id() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:4;mem:1024");
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.advance(SECOND);
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1")]);
    cluster.take_messages(link);
    let answer = cluster.call(stream, &id, call::Type::Teardown, |_| {});
    assert_eq!(answer, Ok(Answer::Accepted));
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::ShutdownFramework(_)]), "{messages:?}");
    assert!(cluster.closed_streams.contains(&stream));
    assert!(cluster.registry.placements.is_empty());
    // All of the agent is free for the next.
    let (stream, _) = cluster.framework(framework_info(true));
    cluster.advance(SECOND);
    let offers = cluster.take_offers(stream);
    let free = mezzo_types::Resources::from_proto(&offers[0].resources).expect("valid");
    assert_eq!(free.cpus().to_f64(), 4.0);
}
