//! What is counted, by kind: calls, messages, endings, operations, and what each framework did.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{ExecutorExited, ExecutorMessage, LaunchPosition, Unregister};
use mezzo_proto::v1;
use mezzo_proto::v1::offer::operation::{Reserve, Type as OperationType};
use mezzo_proto::v1::scheduler::{call, event};
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_proto::v1::{OperationState, TaskState};
use mezzo_types::FrameworkId;

use super::cluster::{Cluster, framework_info, resources, task};
use crate::{AgentMessages, Count, Statistics};

fn get(counts: &[Count], number: i32) -> u64 {
    counts[usize::try_from(number).expect("a number")].get()
}

fn ending(statistics: &Statistics, state: TaskState, reason: Reason) -> u64 {
    let key = (state as i32, Source::Master as i32, reason as i32);
    statistics.endings.get(&key).map_or(0, |count| count.get())
}

#[test]
fn calls_are_counted_by_kind_and_by_framework() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.agent("cpus:2;mem:64");
    cluster.advance(Duration::from_millis(10));
    let of = FrameworkId::from(&id);
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], Vec::new());
    cluster.accept(stream, &id, &[], Vec::new());
    for kind in [call::Type::Revive, call::Type::Suppress, call::Type::Suppress] {
        cluster.call(stream, &id, kind, |_| {}).expect("is carried out");
    }
    // Of another stream: nothing that the framework did.
    let other = crate::StreamId(99);
    cluster.call(other, &id, call::Type::Revive, |_| {}).expect_err("must be refused");

    let statistics = cluster.master.statistics();
    let calls = |kind: call::Type| statistics.calls_by_type[kind as usize];
    assert_eq!(calls(call::Type::Subscribe), 1);
    assert_eq!(calls(call::Type::Accept), 2);
    assert_eq!((statistics.launches, statistics.launches_empty), (0, 1));
    assert_eq!((calls(call::Type::Revive), calls(call::Type::Suppress)), (1, 2));
    let counts = statistics.frameworks.get(&of).expect("is counted");
    assert_eq!(get(counts.calls(), call::Type::Suppress as i32), 2);
    assert_eq!(get(counts.calls(), call::Type::Subscribe as i32), 1);
    assert_eq!(get(counts.events(), event::Type::Subscribed as i32), 1);
    assert_eq!(get(counts.events(), event::Type::Offers as i32), 1);
    assert_eq!((counts.offers_sent.get(), counts.offers_accepted.get()), (1, 1));

    let back = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let stream = cluster.subscribe(back);
    let statistics = cluster.master.statistics();
    assert_eq!(statistics.subscribes_again, 1);
    cluster.call(stream, &id, call::Type::Teardown, |_| {}).expect("is carried out");
    assert!(cluster.master.statistics().frameworks.is_empty(), "nothing is left behind");
}

#[test]
fn messages_of_agents_are_counted_by_kind() {
    let mut cluster = Cluster::new();
    let (_, agent) = cluster.agent("cpus:1");
    let (link, _) =
        cluster.register(Some(&agent), "cpus:1", LaunchPosition::default(), vec![], "boot-1");
    for message in [
        ToMaster::ExecutorMessage(ExecutorMessage::default()),
        ToMaster::ExecutorExited(ExecutorExited::default()),
    ] {
        cluster.agent_says(link, message);
    }
    cluster.update(link, &v1::FrameworkId::default(), "t", TaskState::TaskRunning, 1);
    cluster.agent_says(link, ToMaster::Unregister(Unregister {}));
    let expected = AgentMessages {
        register: 1,
        reregister: 1,
        unregister: 1,
        status_update: 1,
        operation_update: 0,
        of_executor: 1,
        executor_exited: 1,
    };
    assert_eq!(cluster.master.statistics().agent_messages, expected);
}

#[test]
fn an_ending_is_counted_once_with_its_reason() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:2;mem:64");
    cluster.advance(Duration::from_millis(10));
    let of = FrameworkId::from(&id);
    let offers = cluster.take_offers(stream);
    let tasks = ["lost", "done", "wrong"].map(|name| task(name, &agent, "cpus:0.5;mem:8"));
    let [lost, done, mut wrong] = tasks;
    wrong.command = None;
    cluster.launch(stream, &id, &[&offers[0]], vec![lost, done, wrong]);
    for _ in 0..2 {
        // Without a reason: in the sums by state only. The agent repeats it.
        cluster.update(link, &id, "done", TaskState::TaskFinished, 1);
    }
    // Both are over with the agent; of one that was told already.
    cluster.agent_says(link, ToMaster::Unregister(Unregister {}));

    let statistics = cluster.master.statistics();
    assert_eq!(ending(&statistics, TaskState::TaskError, Reason::TaskInvalid), 1);
    assert_eq!(ending(&statistics, TaskState::TaskLost, Reason::AgentRemoved), 1);
    assert_eq!(statistics.endings.len(), 2);
    assert_eq!((statistics.launches, statistics.launches_empty), (1, 0));
    let counts = statistics.frameworks.get(&of).expect("is counted");
    for state in [TaskState::TaskFinished, TaskState::TaskLost, TaskState::TaskError] {
        assert_eq!(get(counts.endings(), state as i32), 1, "{state:?}");
    }
    assert_eq!(get(counts.operations(), OperationType::Launch as i32), 2, "two were good");
    assert_eq!(counts.offers_accepted.get(), 1);
}

#[test]
fn operations_are_counted_where_they_stand() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:4");
    let mut reserved = resources("cpus:1");
    reserved[0].reservations.push(v1::resource::ReservationInfo {
        r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
        role: Some("web".to_owned()),
        ..Default::default()
    });
    let reserve = v1::offer::Operation {
        r#type: Some(OperationType::Reserve as i32),
        reserve: Some(Reserve { resources: reserved, ..Reserve::default() }),
        ..v1::offer::Operation::default()
    };
    let now = |cluster: &Cluster| {
        let counts = cluster.master.statistics().operations.of(OperationType::Reserve);
        let at = |state: OperationState| counts[state as usize];
        (
            at(OperationState::OperationPending),
            at(OperationState::OperationFinished),
            at(OperationState::OperationGoneByOperator),
        )
    };
    cluster.operate(&agent, reserve.clone()).expect("is taken");
    assert_eq!(now(&cluster), (1, 0, 0));
    let uuid = cluster.take_messages(link).into_iter().find_map(|message| match message {
        ToAgent::ApplyOperation(apply) => Some(apply.operation_uuid),
        _ => None,
    });
    let finished = OperationState::OperationFinished;
    cluster.operation_update(link, &uuid.expect("was sent"), finished, 1);
    assert_eq!(now(&cluster), (0, 1, 0), "an ending stays counted when it is forgotten");
    cluster.operate(&agent, reserve).expect("is taken");
    cluster.advance(Duration::from_secs(1));
    let request = crate::RequestId(1000);
    cluster.input(crate::Input::MarkAgentGone { request, agent: agent.as_str().into() });
    assert_eq!(now(&cluster), (0, 1, 1));
}
