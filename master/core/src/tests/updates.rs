//! Status updates: forwarded in order, forgotten only after the acknowledgement; reconciliation.

use std::time::Duration;

use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::call;
use mezzo_proto::v1::task_status::{Reason, Source};

use super::cluster::{Cluster, framework_info, task};
use crate::{Input, LinkId, RequestId, StreamId};

struct Running {
    cluster: Cluster,
    stream: StreamId,
    id: v1::FrameworkId,
    link: LinkId,
    agent: String,
}

fn running() -> Running {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:4;mem:1024");
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.advance(Duration::from_secs(1));
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1")]);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.take_messages(link);
    Running { cluster, stream, id, link, agent }
}

#[test]
fn an_update_is_forwarded_and_its_acknowledgement_goes_back() {
    let Running { mut cluster, stream, id, link, agent } = running();
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses[0].state(), TaskState::TaskRunning);
    assert_eq!(statuses[0].uuid.as_deref(), Some([1u8; 16].as_slice()));
    cluster.acknowledge(stream, &id, &agent, "t", 9);
    assert!(cluster.take_messages(link).is_empty(), "a wrong uuid goes nowhere");
    assert_eq!(cluster.master.statistics().acknowledgements_invalid, 1);
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::Acknowledge(_)]), "{messages:?}");
}

#[test]
fn a_repeated_update_is_forwarded_until_it_was_acknowledged_and_answered_from_then_on() {
    let Running { mut cluster, stream, id, link, agent } = running();
    cluster.take_statuses(stream);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses.len(), 1, "the framework may have missed it");
    assert!(cluster.take_messages(link).is_empty());
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    cluster.take_messages(link);
    // It crossed the acknowledgement on its way.
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    assert!(cluster.take_statuses(stream).is_empty(), "the framework said that it knows");
    let messages = cluster.take_messages(link);
    let [ToAgent::Acknowledge(again)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(again.uuid, [1u8; 16].as_slice());
}

#[test]
fn an_ending_that_came_before_an_older_update_still_waits_for_its_own_acknowledgement() {
    let Running { mut cluster, stream, id, link, agent } = running();
    cluster.update(link, &id, "t", TaskState::TaskFailed, 2);
    // The agent has lost power meanwhile, and begins again with what it had written.
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    cluster.take_messages(link);
    cluster.take_statuses(stream);
    cluster.update(link, &id, "t", TaskState::TaskFailed, 2);
    assert!(cluster.take_messages(link).is_empty(), "the agent may not forget the task");
    assert_eq!(cluster.take_statuses(stream)[0].state(), TaskState::TaskFailed);
    assert_eq!(cluster.registry.placements.len(), 1);
}

#[test]
fn the_ledger_forgets_before_the_agent_may() {
    let Running { mut cluster, stream, id, link, agent } = running();
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    cluster.update(link, &id, "t", TaskState::TaskFinished, 2);
    assert_eq!(cluster.registry.placements.len(), 1, "kept until acknowledged");
    cluster.take_messages(link);
    cluster.acknowledge(stream, &id, &agent, "t", 2);
    assert!(cluster.registry.placements.is_empty());
    let sent = cluster.to_agents.remove(&link).expect("the acknowledgement");
    let (ToAgent::Acknowledge(_), after) = &sent[0] else { panic!("{sent:?}") };
    assert_eq!(after.0, cluster.log.len() as u64, "it waits for the ledger");
}

#[test]
fn resources_are_free_when_the_end_is_reported_not_when_it_is_acknowledged() {
    let Running { mut cluster, stream, id, link, .. } = running();
    cluster.advance(Duration::from_secs(6));
    cluster.take_events(stream);
    cluster.update(link, &id, "t", TaskState::TaskFailed, 2);
    cluster.advance(Duration::from_secs(1));
    let offers = cluster
        .take_events(stream)
        .into_iter()
        .filter_map(|event| event.offers)
        .flat_map(|offers| offers.offers)
        .collect::<Vec<_>>();
    assert_eq!(offers.len(), 1, "the freed cpu is offered");
}

#[test]
fn what_waits_for_an_acknowledgement_is_sent_again_to_a_framework_that_comes_back() {
    let Running { mut cluster, stream, id, .. } = running();
    cluster.input(Input::StreamClosed { stream });
    let info = v1::FrameworkInfo { id: Some(id), ..framework_info(true) };
    let stream = cluster.subscribe(info);
    let events = cluster.take_events(stream);
    assert!(events[0].subscribed.is_some());
    let status = &events[1].update.as_ref().expect("the update again").status;
    assert_eq!(status.uuid.as_deref(), Some([1u8; 16].as_slice()));
}

#[test]
fn an_older_update_never_takes_an_ending_back() {
    let Running { mut cluster, stream, id, link, .. } = running();
    cluster.update(link, &id, "t", TaskState::TaskFinished, 2);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.take_events(stream);
    cluster
        .call(stream, &id, call::Type::Reconcile, |c| c.reconcile = Some(Default::default()))
        .expect("accepted");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].state(), TaskState::TaskFinished);
}

#[test]
fn updates_of_strangers_are_acknowledged_away() {
    let Running { mut cluster, stream, id, link, .. } = running();
    cluster.take_events(stream);
    cluster.update(link, &id, "unknown", TaskState::TaskRunning, 7);
    let messages = cluster.take_messages(link);
    let [ToAgent::Acknowledge(ack)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(ack.task_id, "unknown");
    assert!(cluster.take_statuses(stream).is_empty());
}

#[test]
fn reconciliation_answers_by_mesos_table() {
    let Running { mut cluster, stream, id, link, agent } = running();
    cluster.take_events(stream);
    let ask = |cluster: &mut Cluster, task: &str, agent: Option<&str>| {
        let asked = call::reconcile::Task {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: agent.map(|value| v1::AgentId { value: value.to_owned() }),
        };
        let call = call::Reconcile { tasks: vec![asked] };
        cluster
            .call(stream, &id, call::Type::Reconcile, |c| c.reconcile = Some(call))
            .expect("accepted");
        let statuses = cluster.take_statuses(stream);
        statuses.into_iter().next().map(|status| {
            assert_eq!(status.source(), Source::Master);
            assert_eq!(status.reason(), Reason::Reconciliation);
            assert_eq!(status.uuid, None);
            status.state()
        })
    };
    assert_eq!(ask(&mut cluster, "t", None), Some(TaskState::TaskRunning));
    assert_eq!(ask(&mut cluster, "no", Some(&agent)), Some(TaskState::TaskGone));
    assert_eq!(ask(&mut cluster, "no", Some("never")), Some(TaskState::TaskUnknown));
    assert_eq!(ask(&mut cluster, "no", None), Some(TaskState::TaskUnknown));
    // The ledger knows what an agent of this master's runs, linked or not.
    cluster.input(Input::LinkClosed { link });
    cluster.take_events(stream);
    assert_eq!(ask(&mut cluster, "no", Some(&agent)), Some(TaskState::TaskGone));
    assert_eq!(ask(&mut cluster, "no", None), Some(TaskState::TaskUnknown));
    cluster.advance(Duration::from_secs(601));
    cluster.take_events(stream);
    assert_eq!(ask(&mut cluster, "no", Some(&agent)), Some(TaskState::TaskUnreachable));
    assert_eq!(ask(&mut cluster, "t", None), Some(TaskState::TaskUnreachable));
    let request = RequestId(1);
    cluster.input(Input::MarkAgentGone { request, agent: agent.as_str().into() });
    cluster.take_events(stream);
    assert_eq!(ask(&mut cluster, "no", Some(&agent)), Some(TaskState::TaskGoneByOperator));
    assert_eq!(ask(&mut cluster, "t", Some(&agent)), Some(TaskState::TaskGoneByOperator));
}

#[test]
fn while_agents_of_an_earlier_master_are_awaited_nobody_can_say() {
    let Running { cluster, id, agent, .. } = running();
    let mut cluster = cluster.fail_over();
    let info = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let (stream, _) = cluster.framework(info);
    for agent in [None, Some(agent.clone()), Some("never".to_owned())] {
        let asked = call::reconcile::Task {
            task_id: v1::TaskId { value: "no".to_owned() },
            agent_id: agent.clone().map(|value| v1::AgentId { value }),
        };
        let call = call::Reconcile { tasks: vec![asked] };
        cluster
            .call(stream, &id, call::Type::Reconcile, |c| c.reconcile = Some(call))
            .expect("accepted");
        let answers = cluster.take_statuses(stream).len();
        assert_eq!(answers, usize::from(agent.as_deref() == Some("never")), "{agent:?}");
    }
}
