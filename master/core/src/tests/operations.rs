//! Reservations and volumes: from an ACCEPT or an operator's order to the acknowledged ending.

use std::time::Duration;

use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{AgentOperation, ApplyOperation, LaunchPosition};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::Capability;
use mezzo_proto::v1::framework_info::capability::Type as CapabilityType;
use mezzo_proto::v1::offer::Operation;
use mezzo_proto::v1::scheduler::{Event, call};
use mezzo_proto::v1::task_status::Reason;
use mezzo_proto::v1::{OperationState, TaskState};
use mezzo_types::{ResourceOperation, Resources};

use super::cluster::{Cluster, framework_info, task};
use crate::{Answer, LinkId, Refusal, StreamId};

const AGENT: &str = "cpus:4;mem:1024;disk:1000";

/// A framework of role `web` that understands everything.
fn capable() -> v1::FrameworkInfo {
    let capability = |kind: CapabilityType| Capability { r#type: Some(kind as i32) };
    let mut info = framework_info(true);
    info.roles = vec!["web".to_owned()];
    info.capabilities.extend([
        capability(CapabilityType::MultiRole),
        capability(CapabilityType::ReservationRefinement),
        capability(CapabilityType::SharedResources),
    ]);
    info
}

struct Rig {
    cluster: Cluster,
    stream: StreamId,
    id: v1::FrameworkId,
    link: LinkId,
    agent: String,
    offer: v1::Offer,
    /// Offers that came with other events.
    offers: Vec<v1::Offer>,
}

impl Rig {
    /// One framework, one agent, one offer of all of it.
    fn new() -> Rig {
        let mut cluster = Cluster::new();
        let (link, agent) = cluster.agent(AGENT);
        let (stream, id) = cluster.framework(capable());
        let (offer, offers) = (v1::Offer::default(), Vec::new());
        let mut rig = Rig { cluster, stream, id, link, agent, offer, offers };
        rig.next_offer();
        rig
    }

    /// Waits for the next offer, past every filter.
    fn next_offer(&mut self) -> Resources {
        self.cluster.advance(Duration::from_secs(6));
        self.events();
        self.offer = self.offers.pop().expect("an offer");
        assert!(self.offers.is_empty(), "one offer: {:?}", self.offers);
        Resources::from_proto(&self.offer.resources).expect("valid").unallocated()
    }

    /// What came since the last look; offers are kept for [`Self::next_offer`].
    fn events(&mut self) -> Vec<Event> {
        let events = self.cluster.take_events(self.stream);
        for event in &events {
            if let Some(rescind) = &event.rescind {
                self.offers.retain(|offer| offer.id != rescind.offer_id);
            }
            self.offers.extend(event.offers.iter().flat_map(|offers| offers.offers.clone()));
        }
        events
    }

    /// The operation statuses among them.
    fn told(&mut self) -> Vec<v1::OperationStatus> {
        let events = self.events().into_iter();
        events.filter_map(|event| Some(event.update_operation_status?.status)).collect()
    }

    fn accept(&mut self, operations: Vec<Operation>) {
        let offer = self.offer.clone();
        self.cluster.accept(self.stream, &self.id, &[&offer], operations);
    }

    /// The operations that left for the agent, with the tasks that left between them.
    fn sent(&mut self) -> Vec<ApplyOperation> {
        let messages = self.cluster.take_messages(self.link);
        let apply = |message| match message {
            ToAgent::ApplyOperation(apply) => Some(*apply),
            _ => None,
        };
        messages.into_iter().filter_map(apply).collect()
    }

    fn finish(&mut self, operation: &ApplyOperation, uuid: u8) {
        let finished = OperationState::OperationFinished;
        self.cluster.operation_update(self.link, &operation.operation_uuid, finished, uuid);
    }

    fn acknowledge(&mut self, id: &str, uuid: u8) {
        let acknowledge = call::AcknowledgeOperationStatus {
            agent_id: Some(v1::AgentId { value: self.agent.clone() }),
            operation_id: v1::OperationId { value: id.to_owned() },
            uuid: vec![uuid; 16].into(),
            ..Default::default()
        };
        let kind = call::Type::AcknowledgeOperationStatus;
        let result = self.cluster.call(self.stream, &self.id, kind, |call| {
            call.acknowledge_operation_status = Some(acknowledge);
        });
        assert_eq!(result, Ok(Answer::Accepted));
    }

    fn reconcile(&mut self, operations: &[(&str, Option<&str>)]) -> Vec<v1::OperationStatus> {
        self.events();
        let operations = operations
            .iter()
            .map(|(id, agent)| call::reconcile_operations::Operation {
                operation_id: v1::OperationId { value: (*id).to_owned() },
                agent_id: agent.map(|value| v1::AgentId { value: value.to_owned() }),
                resource_provider_id: None,
            })
            .collect();
        let kind = call::Type::ReconcileOperations;
        let result = self.cluster.call(self.stream, &self.id, kind, |call| {
            call.reconcile_operations = Some(call::ReconcileOperations { operations });
        });
        assert_eq!(result, Ok(Answer::Accepted));
        self.told()
    }

    /// The master dies, another takes over; the framework subscribes anew.
    fn fail_over(mut self) -> Rig {
        self.cluster = self.cluster.fail_over();
        let info = v1::FrameworkInfo { id: Some(self.id.clone()), ..capable() };
        self.stream = self.cluster.subscribe(info);
        self.offers.clear();
        self.events();
        self
    }
}

/// Resources in the text syntax, dynamically reserved for `web`.
fn reserved(text: &str) -> Vec<v1::Resource> {
    let mut resources = super::cluster::resources(text);
    for resource in &mut resources {
        resource.reservations.push(v1::resource::ReservationInfo {
            r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
            role: Some("web".to_owned()),
            ..Default::default()
        });
    }
    resources
}

fn volume(id: &str, mb: u32) -> v1::Resource {
    let mut volume = reserved(&format!("disk:{mb}")).remove(0);
    volume.disk = Some(Box::new(v1::resource::DiskInfo {
        persistence: Some(v1::resource::disk_info::Persistence {
            id: id.to_owned(),
            principal: None,
        }),
        volume: Some(v1::Volume {
            mode: v1::volume::Mode::Rw as i32,
            container_path: "data".to_owned(),
            ..Default::default()
        }),
        source: None,
    }));
    volume
}

fn shared(id: &str, mb: u32) -> v1::Resource {
    v1::Resource { shared: Some(Default::default()), ..volume(id, mb) }
}

fn of(kind: v1::offer::operation::Type) -> Operation {
    Operation { r#type: Some(kind as i32), ..Operation::default() }
}

fn reserve(text: &str) -> Operation {
    let resources = reserved(text);
    let body = v1::offer::operation::Reserve { source: Vec::new(), resources };
    Operation { reserve: Some(body), ..of(v1::offer::operation::Type::Reserve) }
}

fn unreserve(text: &str) -> Operation {
    let body = v1::offer::operation::Unreserve { resources: reserved(text) };
    Operation { unreserve: Some(body), ..of(v1::offer::operation::Type::Unreserve) }
}

fn create(volume: v1::Resource) -> Operation {
    let body = v1::offer::operation::Create { volumes: vec![volume] };
    Operation { create: Some(body), ..of(v1::offer::operation::Type::Create) }
}

fn destroy(volume: v1::Resource) -> Operation {
    let body = v1::offer::operation::Destroy { volumes: vec![volume] };
    Operation { destroy: Some(body), ..of(v1::offer::operation::Type::Destroy) }
}

fn grow(volume: v1::Resource, by: u32) -> Operation {
    let addition = reserved(&format!("disk:{by}")).remove(0);
    let body = v1::offer::operation::GrowVolume { volume, addition };
    Operation { grow_volume: Some(Box::new(body)), ..of(v1::offer::operation::Type::GrowVolume) }
}

fn launch(task: v1::TaskInfo) -> Operation {
    let body = v1::offer::operation::Launch { task_infos: vec![task] };
    Operation { launch: Some(body), ..of(v1::offer::operation::Type::Launch) }
}

fn with_id(mut operation: Operation, id: &str) -> Operation {
    operation.id = Some(v1::OperationId { value: id.to_owned() });
    operation
}

/// A task that uses these resources.
fn user(id: &str, agent: &str, resources: Vec<v1::Resource>) -> v1::TaskInfo {
    v1::TaskInfo { resources, ..task(id, agent, "cpus:1") }
}

#[test]
fn what_an_operation_makes_is_there_for_the_rest_of_the_accept() {
    let mut rig = Rig::new();
    let persisted = rig.cluster.log.len();
    let mut resources = reserved("cpus:1");
    resources.push(volume("v", 100));
    rig.accept(vec![
        reserve("cpus:1;disk:200"),
        create(volume("v", 100)),
        launch(user("t", &rig.agent.clone(), resources)),
    ]);
    let committed = &rig.cluster.log[persisted..];
    let kinds: Vec<_> = committed.iter().map(|c| c.command.clone()).collect();
    let [Some(CommandKind::PlaceTasks(tasks)), Some(CommandKind::PutOperations(operations))] =
        kinds.as_slice()
    else {
        panic!("{kinds:?}")
    };
    let sent = rig.cluster.to_agents.remove(&rig.link).expect("messages");
    let positions: Vec<u64> = sent
        .iter()
        .map(|(message, after)| {
            assert_eq!(after.0, (persisted + 2) as u64, "all wait for all of it: {message:?}");
            match message {
                ToAgent::ApplyOperation(apply) => apply.position,
                ToAgent::RunTask(run) => run.position,
                other => panic!("{other:?}"),
            }
            .expect("a position")
            .sequence
        })
        .collect();
    assert_eq!(positions, [1, 2, 3], "in order, counted with the launches");
    assert_eq!(tasks.placements[0].launch_sequence, 3);
    assert_eq!(operations.operations[1].launch_sequence, 2);
    let left = rig.next_offer();
    assert_eq!(left.to_string(), "cpus:3; disk:800; disk(dynamic web):100; mem:1024");
    assert!(rig.told().is_empty(), "no id, no feedback");
}

#[test]
fn what_was_made_is_offered_at_once_and_the_rest_after_its_filter() {
    let mut rig = Rig::new();
    rig.accept(vec![reserve("cpus:2")]);
    rig.cluster.advance(Duration::from_millis(200));
    let offers = rig.cluster.take_offers(rig.stream);
    let offered = Resources::from_proto(&offers[0].resources).expect("valid").unallocated();
    // More than was refused is offered with what was refused.
    assert_eq!(offered.to_string(), "cpus:2; cpus(dynamic web):2; disk:1000; mem:1024");
}

#[test]
fn resized_volumes_are_not_for_the_same_accept() {
    let mut rig = Rig::new();
    rig.accept(vec![reserve("disk:300"), create(volume("v", 100))]);
    rig.next_offer();
    let agent = rig.agent.clone();
    rig.accept(vec![
        grow(volume("v", 100), 50),
        with_id(destroy(volume("v", 150)), "early"),
        launch(user("t", &agent, vec![volume("v", 150)])),
    ]);
    let events = rig.events();
    let refused = events.iter().find_map(|e| e.update_operation_status.clone()).expect("an event");
    assert_eq!(refused.status.state(), OperationState::OperationError);
    let lost = events.iter().find_map(|e| e.update.clone()).expect("an event").status;
    assert_eq!((lost.state(), lost.reason()), (TaskState::TaskError, Reason::TaskInvalid));
    let offer = rig.next_offer();
    assert_eq!(
        offer.to_string(),
        "cpus:4; disk:700; disk(dynamic web):150; disk(dynamic web)[volume v]:150; mem:1024"
    );
}

#[test]
fn each_rule_is_told_to_those_who_ask_for_feedback() {
    let other_role = {
        let mut operation = reserve("cpus:1");
        let reservations = &mut operation.reserve.as_mut().expect("set").resources[0].reservations;
        reservations[0].role = Some("ops".to_owned());
        operation
    };
    let cases = [
        (reserve("cpus:5"), "it takes cpus:5, but there is cpus:4"),
        (other_role, "is to be reserved for role 'ops' but was offered to role 'web'"),
        (unreserve("cpus:1"), "it takes cpus(dynamic web):1"),
        (destroy(volume("v", 10)), "the agent has no persistent volume"),
        (of(v1::offer::operation::Type::CreateDisk), "this version of Mezzo has none"),
        (of(v1::offer::operation::Type::DestroyDisk), "this version of Mezzo has none"),
        (of(v1::offer::operation::Type::Reserve), "it has no 'reserve'"),
    ];
    for (operation, sentence) in cases {
        let mut rig = Rig::new();
        rig.accept(vec![with_id(operation.clone(), "op")]);
        let told = rig.told();
        let [status] = told.as_slice() else { panic!("{operation:?}: {told:?}") };
        assert_eq!(status.state(), OperationState::OperationError, "{status:?}");
        assert!(status.message().contains(sentence), "{:?} lacks {sentence}", status.message());
        assert_eq!(status.uuid, None, "nobody acknowledges it");
        assert!(rig.sent().is_empty(), "nothing reaches the agent");
    }
}

#[test]
fn a_volume_in_use_or_of_a_taken_name_is_refused() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    rig.accept(vec![
        reserve("disk:300"),
        create(shared("v", 100)),
        launch(user("t", &agent, vec![shared("v", 100)])),
        launch(user("u", &agent, vec![shared("v", 100)])),
        with_id(destroy(shared("v", 100)), "used"),
        with_id(create(volume("v", 50)), "taken"),
        with_id(reserve("cpus:1"), "twice"),
        with_id(reserve("cpus:1"), "twice"),
    ]);
    let told: Vec<_> = rig.told().into_iter().map(|s| s.message.unwrap_or_default()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("a task uses the persistent volume"), "{}", told[0]);
    assert!(told[1].contains("the persistence id 'v' is in use"), "{}", told[1]);
    assert!(told[2].contains("operation id 'twice' is in use"), "{}", told[2]);
    // A shared volume is offered while it is used, once.
    let offer = rig.next_offer();
    assert!(offer.to_string().contains("[volume v]<shared>:100"), "{offer}");
    assert!(!offer.to_string().contains("x2"), "{offer}");
    for task in ["t", "u"] {
        rig.cluster.update(rig.link, &rig.id.clone(), task, TaskState::TaskFinished, 1);
    }
    rig.accept(vec![with_id(destroy(shared("v", 100)), "unused")]);
    assert!(rig.told().is_empty());
    let offer = rig.next_offer();
    assert_eq!(
        offer.to_string(),
        "cpus:3; cpus(dynamic web):1; disk:700; disk(dynamic web):300; mem:1024"
    );
}

#[test]
fn feedback_is_held_until_it_is_acknowledged() {
    let mut rig = Rig::new();
    rig.accept(vec![with_id(reserve("cpus:1"), "op")]);
    let sent = rig.sent();
    assert_eq!(sent[0].info.as_ref().and_then(|i| i.id.clone()).expect("an id").value, "op");
    rig.finish(&sent[0], 7);
    let told = rig.told();
    assert_eq!(told[0].state(), OperationState::OperationFinished);
    assert_eq!(told[0].operation_id.clone().expect("an id").value, "op");
    assert!(rig.cluster.take_messages(rig.link).is_empty(), "not acknowledged yet");
    // It comes back: told again.
    let info = v1::FrameworkInfo { id: Some(rig.id.clone()), ..capable() };
    rig.stream = rig.cluster.subscribe(info);
    let told = rig.told();
    assert_eq!(told.len(), 1, "{told:?}");
    rig.acknowledge("op", 8);
    assert_eq!(rig.cluster.registry.operations.len(), 1, "a wrong uuid acknowledges nothing");
    rig.acknowledge("op", 7);
    assert!(rig.cluster.registry.operations.is_empty());
    let messages = rig.cluster.to_agents.remove(&rig.link).expect("a message");
    let (ToAgent::AcknowledgeOperation(acknowledged), after) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!(acknowledged.operation_uuid, sent[0].operation_uuid);
    assert_eq!(after.0, rig.cluster.log.len() as u64, "forgotten before the agent may");
    // The acknowledgement was lost: the agent asks again.
    rig.finish(&sent[0], 7);
    assert!(rig.told().is_empty());
    let again = rig.cluster.take_messages(rig.link);
    assert!(matches!(again.as_slice(), [ToAgent::AcknowledgeOperation(_)]), "{again:?}");
}

#[test]
fn without_an_id_the_master_acknowledges() {
    let mut rig = Rig::new();
    rig.accept(vec![reserve("cpus:1")]);
    let sent = rig.sent();
    assert_eq!(rig.cluster.registry.operations.len(), 1);
    rig.finish(&sent[0], 7);
    assert!(rig.told().is_empty());
    assert!(rig.cluster.registry.operations.is_empty());
    let messages = rig.cluster.take_messages(rig.link);
    assert!(matches!(messages.as_slice(), [ToAgent::AcknowledgeOperation(_)]), "{messages:?}");
    let record = rig.cluster.registry.agents.values().next().expect("one agent");
    let total = Resources::from_proto(&record.total_resources).expect("valid");
    assert_eq!(total.to_string(), "cpus:3; cpus(dynamic web):1; disk:1000; mem:1024");
}

#[test]
fn a_failure_corrects_the_books() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    rig.accept(vec![
        with_id(reserve("cpus:2;disk:10"), "first"),
        with_id(create(volume("v", 10)), "second"),
        launch(user("t", &agent, reserved("cpus:1"))),
    ]);
    let sent = rig.sent();
    let failed = OperationState::OperationFailed;
    rig.cluster.operation_update(rig.link, &sent[0].operation_uuid, failed, 1);
    let told = rig.told();
    assert_eq!(told[0].state(), failed);
    let dropped = OperationState::OperationDropped;
    rig.cluster.operation_update(rig.link, &sent[1].operation_uuid, dropped, 2);
    // What the task was to use is not there; until the agent says that it ended nothing is offered of it.
    rig.cluster.update(rig.link, &rig.id.clone(), "t", TaskState::TaskDropped, 3);
    let offer = rig.next_offer();
    assert_eq!(offer.to_string(), "cpus:4; disk:1000; mem:1024");
}

#[test]
fn reconciliation_says_what_is_known() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    rig.accept(vec![with_id(reserve("cpus:1"), "op"), reserve("cpus:1")]);
    let states = |told: Vec<v1::OperationStatus>| -> Vec<String> {
        told.iter().map(|s| s.state().as_str_name().replace("OPERATION_", "")).collect()
    };
    assert_eq!(states(rig.reconcile(&[])), ["PENDING"], "those with an id");
    let asked = [("op", None), ("no", Some(agent.as_str())), ("no", None), ("no", Some("c-S99"))];
    assert_eq!(states(rig.reconcile(&asked)), ["PENDING", "UNKNOWN", "UNKNOWN", "UNKNOWN"]);
    let sent = rig.sent();
    rig.finish(&sent[0], 1);
    assert_eq!(states(rig.reconcile(&[("op", None)])), ["FINISHED"]);
    let mut rig = rig.fail_over();
    assert_eq!(states(rig.reconcile(&[("op", None)])), ["RECOVERING"]);
    assert_eq!(states(rig.reconcile(&[("no", Some(&agent))])), ["RECOVERING"]);
    rig.cluster.advance(Duration::from_secs(601));
    assert_eq!(states(rig.reconcile(&[("op", None)])), ["UNREACHABLE"]);
    assert_eq!(states(rig.reconcile(&[("no", Some(&agent))])), ["UNREACHABLE"]);
}

#[test]
fn an_operation_that_never_arrived_is_dropped_once() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    rig.accept(vec![
        with_id(reserve("cpus:1"), "arrived"),
        with_id(reserve("cpus:1"), "lost"),
        with_id(reserve("cpus:1"), "stopped"),
    ]);
    let sent = rig.sent();
    let mut rig = rig.fail_over();
    let finished = v1::OperationStatus {
        state: OperationState::OperationFinished as i32,
        ..v1::OperationStatus::default()
    };
    let reported = AgentOperation {
        operation_uuid: sent[0].operation_uuid.clone(),
        latest: Some(finished),
        ..AgentOperation::default()
    };
    let mut total = super::cluster::resources("cpus:3;mem:1024;disk:1000");
    total.extend(reserved("cpus:1"));
    let last = LaunchPosition { term: 1, sequence: 1 };
    let (link, _) = rig.cluster.register_with(
        Some(&agent),
        AGENT,
        last,
        vec![],
        "boot-1",
        vec![reported],
        total,
    );
    rig.link = link;
    let told = rig.told();
    let dropped: Vec<_> = told
        .iter()
        .map(|s| (s.operation_id.clone().unwrap_or_default().value, s.state()))
        .collect();
    let state = OperationState::OperationDropped;
    assert_eq!(dropped, [("lost".to_owned(), state), ("stopped".to_owned(), state)]);
    assert_eq!(rig.cluster.registry.operations.len(), 1, "they are forgotten");
    let offer = rig.next_offer();
    assert_eq!(offer.to_string(), "cpus:3; cpus(dynamic web):1; disk:1000; mem:1024");
    rig.finish(&sent[0], 1);
    assert_eq!(rig.told().len(), 1);
    rig.acknowledge("arrived", 1);
    assert!(rig.cluster.registry.operations.is_empty());
}

#[test]
fn a_total_that_operations_cannot_have_made_is_refused() {
    let mut cluster = Cluster::new();
    let link = LinkId(77);
    let mut info = v1::AgentInfo { hostname: "h".to_owned(), ..Default::default() };
    info.resources = super::cluster::resources(AGENT);
    let register = mezzo_proto::internal::v1::Register {
        agent_info: Some(info),
        total_resources: super::cluster::resources("cpus:5"),
        ..Default::default()
    };
    cluster.agent_says(
        link,
        mezzo_proto::internal::v1::agent_to_master::Message::Register(Box::new(register)),
    );
    let messages = cluster.take_messages(link);
    let [ToAgent::Refused(refused)] = messages.as_slice() else { panic!("{messages:?}") };
    assert!(refused.message.contains("neither make nor lose"), "{}", refused.message);
}

#[test]
fn an_agent_that_is_gone_takes_its_operations_along() {
    let mut rig = Rig::new();
    rig.accept(vec![with_id(reserve("cpus:1"), "op"), reserve("cpus:1")]);
    let request = crate::RequestId(9_999);
    let agent = rig.agent.as_str().into();
    rig.cluster.input(crate::Input::MarkAgentGone { request, agent });
    let told = rig.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].state(), OperationState::OperationGoneByOperator);
    assert!(rig.cluster.registry.operations.is_empty());
}

#[test]
fn a_framework_that_is_gone_leaves_nothing_to_acknowledge() {
    let mut rig = Rig::new();
    rig.accept(vec![with_id(reserve("cpus:1"), "told"), with_id(reserve("cpus:1"), "flying")]);
    let sent = rig.sent();
    rig.finish(&sent[0], 1);
    let result = rig.cluster.call(rig.stream, &rig.id, call::Type::Teardown, |_| {});
    assert_eq!(result, Ok(Answer::Accepted));
    let messages = rig.cluster.take_messages(rig.link);
    assert!(messages.iter().any(|m| matches!(m, ToAgent::AcknowledgeOperation(_))), "{messages:?}");
    rig.finish(&sent[1], 2);
    assert!(rig.cluster.registry.operations.is_empty());
    let messages = rig.cluster.take_messages(rig.link);
    assert!(messages.iter().any(|m| matches!(m, ToAgent::AcknowledgeOperation(_))), "{messages:?}");
}

#[test]
fn an_operator_takes_offers_back_as_far_as_needed() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    let result = rig.cluster.operate(&agent, reserve("cpus:1"));
    assert_eq!(result, Ok(Answer::Accepted));
    let events = rig.events();
    assert!(events.iter().any(|event| event.rescind.is_some()), "{events:?}");
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].framework_id.as_str()), (1, ""));
    assert_eq!(rig.cluster.registry.operations.len(), 1, "committed");
    let offered = rig.next_offer();
    assert_eq!(offered.to_string(), "cpus:3; cpus(dynamic web):1; disk:1000; mem:1024");
    rig.finish(&sent[0], 1);
    assert!(rig.cluster.registry.operations.is_empty(), "nobody else acknowledges it");
}

#[test]
fn an_operator_is_told_what_is_wrong() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    let refused = |rig: &mut Rig, agent: &str, operation| {
        rig.cluster.operate(agent, operation).expect_err("must be refused")
    };
    let unknown = refused(&mut rig, "c-S9", reserve("cpus:1"));
    assert!(unknown.to_string().starts_with("No agent found with specified ID"), "{unknown}");
    assert_eq!(unknown.http_code(), 400);
    let invalid = refused(&mut rig, &agent, of(v1::offer::operation::Type::Reserve));
    assert!(matches!(&invalid, Refusal::BadRequest(m) if m.contains("Invalid RESERVE operation")));
    let too_much = refused(&mut rig, &agent, reserve("cpus:5"));
    assert_eq!(too_much.http_code(), 409, "{too_much}");
    let events = rig.events();
    assert!(events.is_empty(), "no offer is taken back for what cannot be: {events:?}");
    let tasks = vec![task("t", &agent, "cpus:3")];
    let offer = rig.offer.clone();
    rig.cluster.launch(rig.stream, &rig.id.clone(), &[&offer], tasks);
    let in_use = refused(&mut rig, &agent, reserve("cpus:2"));
    assert_eq!(in_use.http_code(), 409);
    assert!(in_use.to_string().contains("the rest is in use"), "{in_use}");
    let mut allocated = reserve("cpus:1");
    if let Some(reserve) = &mut allocated.reserve {
        reserve.resources[0].allocation_info =
            Some(v1::resource::AllocationInfo { role: Some("web".to_owned()) });
    }
    let allocated = refused(&mut rig, &agent, allocated);
    assert_eq!(allocated.http_code(), 400, "{allocated}");
}

#[test]
fn a_launch_has_no_id() {
    let mut rig = Rig::new();
    let agent = rig.agent.clone();
    rig.accept(vec![with_id(launch(task("t", &agent, "cpus:1")), "op")]);
    let statuses = rig.cluster.take_statuses(rig.stream);
    assert_eq!(statuses[0].state(), TaskState::TaskError);
    assert!(statuses[0].message().contains("which LAUNCH cannot have"), "{statuses:?}");
}

#[test]
fn what_operations_say_round_trips_through_the_log() {
    let operation = ResourceOperation::from_proto(&grow(volume("v", 10), 5)).expect("valid");
    assert_eq!(ResourceOperation::from_proto(&operation.to_proto()), Ok(operation));
}
