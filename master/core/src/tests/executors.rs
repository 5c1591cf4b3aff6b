//! Tasks for executors: what they take from offers, what is told of their executors, and when it is given back.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{
    AgentExecutor, ExecutorExited, ExecutorMessage, LaunchPosition, Register, RunTaskGroup,
};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor_info::Type;
use mezzo_proto::v1::scheduler::{call, event};
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::Resources;
use prost::Message;

use super::cluster::{Cluster, framework_info, resources, task};
use crate::{Answer, LinkId, StreamId};

const AGENT: &str = "cpus:4;mem:1024;disk:100";

struct World {
    cluster: Cluster,
    link: LinkId,
    agent: String,
    stream: StreamId,
    id: v1::FrameworkId,
}

fn executor(text: &str) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(Type::Custom as i32),
        executor_id: v1::ExecutorId { value: "e".to_owned() },
        command: Some(v1::CommandInfo { value: Some("run".to_owned()), ..Default::default() }),
        resources: resources(text),
        ..v1::ExecutorInfo::default()
    }
}

impl World {
    fn new() -> Self {
        let mut cluster = Cluster::new();
        let (link, agent) = cluster.agent(AGENT);
        let (stream, id) = cluster.framework(framework_info(true));
        World { cluster, link, agent, stream, id }
    }

    fn task(&self, id: &str, text: &str) -> v1::TaskInfo {
        let executor = Some(executor("cpus:0.5;mem:64;disk:10"));
        v1::TaskInfo { command: None, executor, ..task(id, &self.agent, text) }
    }

    fn member(&self, id: &str, text: &str) -> v1::TaskInfo {
        v1::TaskInfo { command: None, ..task(id, &self.agent, text) }
    }

    fn offer(&mut self) -> v1::Offer {
        self.cluster.advance(Duration::from_secs(6));
        let events = self.cluster.take_events(self.stream).into_iter();
        let offers = events.filter_map(|event| event.offers).flat_map(|offers| offers.offers);
        let offers: Vec<_> = offers.collect();
        assert_eq!(offers.len(), 1, "one agent is one offer");
        offers.into_iter().next().expect("one")
    }

    fn left(&mut self) -> Resources {
        let offer = self.offer();
        let left = Resources::from_proto(&offer.resources).expect("valid");
        let decline = call::Decline { offer_ids: vec![offer.id], ..call::Decline::default() };
        let kind = call::Type::Decline;
        self.cluster.call(self.stream, &self.id, kind, |c| c.decline = Some(decline)).expect("ok");
        left.unallocated()
    }

    fn launch(&mut self, task: v1::TaskInfo) -> Vec<ToAgent> {
        let offer = self.offer();
        self.cluster.launch(self.stream, &self.id, &[&offer], vec![task]);
        self.sent()
    }

    /// What the agent was sent, but for pings.
    fn sent(&mut self) -> Vec<ToAgent> {
        let mut sent = self.cluster.take_messages(self.link);
        sent.retain(|message| !matches!(message, ToAgent::Ping(_)));
        sent
    }

    fn launch_group(&mut self, executor: v1::ExecutorInfo, tasks: Vec<v1::TaskInfo>) {
        let offer = self.offer();
        let accept = call::Accept {
            offer_ids: vec![offer.id],
            operations: vec![v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::LaunchGroup as i32),
                launch_group: Some(Box::new(v1::offer::operation::LaunchGroup {
                    executor,
                    task_group: v1::TaskGroupInfo { tasks },
                })),
                ..v1::offer::Operation::default()
            }],
            ..call::Accept::default()
        };
        let kind = call::Type::Accept;
        let result = self.cluster.call(self.stream, &self.id, kind, |c| c.accept = Some(accept));
        assert_eq!(result, Ok(Answer::Accepted));
    }

    fn exit(&mut self) {
        let exited = ExecutorExited {
            framework_id: self.id.value.clone(),
            executor_id: "e".to_owned(),
            wait_status: 256,
        };
        self.cluster.agent_says(self.link, ToMaster::ExecutorExited(exited));
    }

    fn is(&self, text: &str) -> Resources {
        Resources::from_proto(&resources(text)).expect("valid")
    }
}

#[test]
fn an_executor_is_paid_for_once_and_given_back_when_it_ends() {
    let mut world = World::new();
    let first = world.task("t", "cpus:1;mem:100");
    let sent = world.launch(first);
    let [ToAgent::RunTask(run)] = sent.as_slice() else { panic!("not one RunTask: {sent:?}") };
    assert!(run.launch_executor, "nobody counts it yet");
    assert_eq!(world.left(), world.is("cpus:2.5;mem:860;disk:90"));
    let second = world.task("u", "cpus:1;mem:100");
    let sent = world.launch(second);
    let [ToAgent::RunTask(run)] = sent.as_slice() else { panic!("not one RunTask: {sent:?}") };
    assert!(!run.launch_executor, "it is there");
    // Offers name it.
    let offer = world.offer();
    assert_eq!(offer.executor_ids, [v1::ExecutorId { value: "e".to_owned() }]);
    let decline = call::Decline { offer_ids: vec![offer.id], ..call::Decline::default() };
    let kind = call::Type::Decline;
    let (stream, id) = (world.stream, world.id.clone());
    world.cluster.call(stream, &id, kind, |c| c.decline = Some(decline)).expect("ok");
    world.cluster.update(world.link, &id, "t", TaskState::TaskFinished, 1);
    world.cluster.update(world.link, &id, "u", TaskState::TaskFinished, 2);
    world.cluster.take_events(world.stream);
    assert_eq!(world.left(), world.is("cpus:3.5;mem:960;disk:90"), "the executor idles");
    world.exit();
    let events = world.cluster.take_events(world.stream);
    let failure = events.iter().find_map(|event| event.failure.clone()).expect("FAILURE");
    assert_eq!(failure.executor_id.map(|id| id.value), Some("e".to_owned()));
    assert_eq!(failure.agent_id.map(|id| id.value), Some(world.agent.clone()));
    assert_eq!(failure.status, Some(256));
    assert_eq!(world.left(), world.is("cpus:4;mem:1024;disk:100"));
    // It is told once.
    world.exit();
    assert!(world.cluster.take_events(world.stream).is_empty());
}

#[test]
fn what_an_executor_asks_for_must_be_in_the_offer() {
    let mut world = World::new();
    let much = world.task("t", "cpus:4;mem:100");
    world.launch(much);
    let statuses = world.cluster.take_statuses(world.stream);
    let [status] = statuses.as_slice() else { panic!("one status: {statuses:?}") };
    assert_eq!((status.state(), status.reason()), (TaskState::TaskError, Reason::TaskInvalid));
    assert_eq!(
        status.message(),
        "task 't' asks for cpus:4; mem:100 but its offers have cpus:3.5; disk:90; mem:960 left"
    );
    assert_eq!(world.left(), world.is("cpus:4;mem:1024;disk:100"), "nothing was taken");
}

#[test]
fn every_mistake_about_an_executor_has_its_sentence() {
    let check = |edit: fn(&mut v1::ExecutorInfo), sentence: &str| {
        let mut world = World::new();
        let mut info = world.task("t", "cpus:1");
        edit(info.executor.as_mut().expect("set"));
        assert!(world.launch(info).is_empty(), "nothing reaches the agent");
        let statuses = world.cluster.take_statuses(world.stream);
        let [status] = statuses.as_slice() else { panic!("one status: {statuses:?}") };
        assert_eq!(status.reason(), Reason::TaskInvalid);
        assert!(status.message().contains(sentence), "{}", status.message());
    };
    check(|e| e.executor_id.value = "..".to_owned(), "executor_id is '..'");
    check(|e| e.r#type = Some(Type::Default as i32), "set type to CUSTOM and command");
    check(|e| e.command = None, "has no 'command'");
    check(|e| e.command = Some(v1::CommandInfo::default()), "no 'command.value'");
    check(
        |e| e.framework_id = Some(v1::FrameworkId { value: "other".to_owned() }),
        "framework_id 'other'",
    );
    check(
        |e| e.shutdown_grace_period = Some(v1::DurationInfo { nanoseconds: -1 }),
        "shutdown_grace_period -1 ns",
    );
    check(
        |e| e.command.as_mut().expect("set").user = Some("root".to_owned()),
        "runs nothing as root",
    );
    check(|e| e.resources[0].name.clear(), "invalid resources");
    check(|e| e.resources = resources("cpus:5"), "executor 'e' asks for cpus:5");
}

#[test]
fn tasks_of_one_executor_name_the_same() {
    let mut world = World::new();
    let first = world.task("t", "cpus:1");
    world.launch(first);
    let mut other = world.task("u", "cpus:1");
    other.executor.as_mut().expect("set").name = Some("another".to_owned());
    assert!(world.launch(other).is_empty());
    let statuses = world.cluster.take_statuses(world.stream);
    assert!(statuses[0].message().contains("with another ExecutorInfo"), "{statuses:?}");
    // Whether the framework names itself makes no difference, nor does the order of resources.
    let mut same = world.task("v", "cpus:1");
    let of = same.executor.as_mut().expect("set");
    of.framework_id = Some(world.id.clone());
    of.resources.reverse();
    assert_eq!(world.launch(same).len(), 1);
}

#[test]
fn a_group_is_launched_as_one_or_not_at_all() {
    let mut world = World::new();
    let of = executor("cpus:0.5;mem:64;disk:10");
    let tasks = vec![world.member("a", "cpus:1;mem:10"), world.member("b", "cpus:1;mem:10")];
    world.launch_group(of.clone(), tasks);
    let sent = world.sent();
    let [ToAgent::RunTaskGroup(group)] = sent.as_slice() else { panic!("not one group: {sent:?}") };
    let RunTaskGroup { task_infos, launch_executor: true, .. } = &**group else {
        panic!("the executor is not to be launched: {group:?}")
    };
    for raw in task_infos {
        let info = v1::TaskInfo::decode(raw.clone()).expect("a task");
        assert_eq!(info.executor, Some(of.clone()), "the executor gets to know of itself");
    }
    assert_eq!(world.left(), world.is("cpus:1.5;mem:940;disk:90"));

    let bad = vec![world.member("c", "cpus:1;mem:10"), world.member("a", "cpus:0.1;mem:10")];
    world.launch_group(of, bad);
    let statuses = world.cluster.take_statuses(world.stream);
    assert_eq!(statuses.len(), 2, "none is launched: {statuses:?}");
    for status in &statuses {
        assert_eq!(status.reason(), Reason::TaskGroupInvalid);
        assert!(status.message().contains("task_id 'a' is in use"), "{}", status.message());
    }
    assert!(world.sent().is_empty());
    assert_eq!(world.left(), world.is("cpus:1.5;mem:940;disk:90"));
}

#[test]
fn every_mistake_about_a_group_has_its_sentence() {
    let check = |edit: fn(&mut v1::ExecutorInfo, &mut Vec<v1::TaskInfo>), sentence: &str| {
        let mut world = World::new();
        let mut of = executor("cpus:0.5;mem:64;disk:10");
        let mut tasks = vec![world.member("a", "cpus:1"), world.member("b", "cpus:1")];
        edit(&mut of, &mut tasks);
        world.launch_group(of, tasks);
        let statuses = world.cluster.take_statuses(world.stream);
        assert!(statuses.iter().all(|s| s.reason() == Reason::TaskGroupInvalid), "{statuses:?}");
        let said = statuses.first().map(|status| status.message().to_owned()).unwrap_or_default();
        assert!(said.contains(sentence), "{said}");
    };
    check(|e, _| e.r#type = None, "has no 'type'");
    check(|e, _| e.r#type = Some(Type::Default as i32), "set type to CUSTOM");
    check(|e, _| e.resources = resources("cpus:0.001;mem:64;disk:1"), "0.01 at least");
    check(|e, _| e.resources = resources("cpus:1;mem:8;disk:1"), "32 at least");
    check(|e, _| e.resources = resources("cpus:1;mem:64"), "no disk");
    check(|_, t| t[1].task_id.value = "a".to_owned(), "used twice");
    check(|_, t| t[1].executor = Some(executor("cpus:1")), "another 'executor'");
    check(|_, t| t[1].resources = resources("cpus:3"), "task 'b' asks for cpus:3");
}

#[test]
fn a_group_keeps_what_nobody_here_knows() {
    let mut world = World::new();
    let offer = world.offer();
    let member = world.member("a", "cpus:1");
    let mut raw = member.encode_to_vec();
    raw.extend([0xa0, 0x38, 0x07]);
    let accept = call::Accept {
        offer_ids: vec![offer.id],
        operations: vec![v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::LaunchGroup as i32),
            launch_group: Some(Box::new(v1::offer::operation::LaunchGroup {
                executor: executor("cpus:0.5;mem:64;disk:10"),
                task_group: v1::TaskGroupInfo { tasks: vec![member] },
            })),
            ..v1::offer::Operation::default()
        }],
        ..call::Accept::default()
    };
    let call = mezzo_proto::v1::scheduler::Call {
        framework_id: Some(world.id.clone()),
        r#type: Some(call::Type::Accept as i32),
        accept: Some(accept),
        ..Default::default()
    };
    world.cluster.input(crate::Input::Call {
        request: crate::RequestId(77),
        stream: Some(world.stream),
        call: Box::new(call),
        task_infos: vec![raw.clone().into()],
    });
    let sent = world.sent();
    let [ToAgent::RunTaskGroup(group)] = sent.as_slice() else { panic!("no group: {sent:?}") };
    assert!(group.task_infos[0].starts_with(&raw));
    let info = v1::TaskInfo::decode(group.task_infos[0].clone()).expect("a task");
    assert_eq!(info.executor.expect("added").executor_id.value, "e");
}

/// What was validated is what is launched, whatever else a call carries: tasks in an operation that is no
/// launch, tasks in a group that is not looked at.
#[test]
fn the_bytes_of_one_task_never_pass_for_anothers() {
    let mut world = World::new();
    let offer = world.offer();
    let [stray, also_stray, honest] =
        ["stray", "also-stray", "honest"].map(|id| world.member(id, "cpus:1"));
    let command = v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() };
    let honest = v1::TaskInfo { command: Some(command), ..honest };
    let group = |task: &v1::TaskInfo| v1::offer::operation::LaunchGroup {
        executor: executor("cpus:0.5;mem:64;disk:10"),
        task_group: v1::TaskGroupInfo { tasks: vec![task.clone()] },
    };
    let launch =
        |task: &v1::TaskInfo| v1::offer::operation::Launch { task_infos: vec![task.clone()] };
    let of = |kind: v1::offer::operation::Type| v1::offer::Operation {
        r#type: Some(kind as i32),
        ..v1::offer::Operation::default()
    };
    let operations = vec![
        v1::offer::Operation {
            launch: Some(launch(&stray)),
            ..of(v1::offer::operation::Type::Unreserve)
        },
        v1::offer::Operation {
            launch: Some(v1::offer::operation::Launch::default()),
            launch_group: Some(Box::new(group(&also_stray))),
            ..of(v1::offer::operation::Type::Launch)
        },
        v1::offer::Operation {
            launch: Some(launch(&honest)),
            ..of(v1::offer::operation::Type::Launch)
        },
    ];
    let call = mezzo_proto::v1::scheduler::Call {
        framework_id: Some(world.id.clone()),
        r#type: Some(call::Type::Accept as i32),
        accept: Some(call::Accept {
            offer_ids: vec![offer.id],
            operations,
            ..call::Accept::default()
        }),
        ..Default::default()
    };
    let task_infos = mezzo_proto::raw::task_infos(&call.encode_to_vec().into()).expect("a call");
    assert_eq!(task_infos.len(), 3);
    let call = Box::new(call);
    let (request, stream) = (crate::RequestId(77), Some(world.stream));
    world.cluster.input(crate::Input::Call { request, stream, call, task_infos });
    let sent = world.sent();
    let [ToAgent::RunTask(run)] = sent.as_slice() else { panic!("not one task: {sent:?}") };
    let launched = v1::TaskInfo::decode(run.task_info.clone()).expect("a task");
    assert_eq!(launched.task_id.value, "honest");
}

#[test]
fn messages_and_shutdown_find_their_way() {
    let mut world = World::new();
    let first = world.task("t", "cpus:1");
    world.launch(first);
    let agent_id = v1::AgentId { value: world.agent.clone() };
    let executor_id = v1::ExecutorId { value: "e".to_owned() };
    let message = call::Message {
        agent_id: agent_id.clone(),
        executor_id: executor_id.clone(),
        data: b"hi".to_vec().into(),
    };
    let (stream, id) = (world.stream, world.id.clone());
    let kind = call::Type::Message;
    let sent = world.cluster.call(stream, &id, kind, |c| c.message = Some(message));
    assert_eq!(sent, Ok(Answer::Accepted));
    let kind = call::Type::Shutdown;
    let shutdown = call::Shutdown { executor_id: executor_id.clone(), agent_id };
    let sent = world.cluster.call(stream, &id, kind, |c| c.shutdown = Some(shutdown));
    assert_eq!(sent, Ok(Answer::Accepted));
    let messages = world.sent();
    let [ToAgent::ExecutorMessage(message), ToAgent::ShutdownExecutor(shutdown)] =
        messages.as_slice()
    else {
        panic!("not both: {messages:?}")
    };
    assert_eq!((&*message.executor_id, &message.data[..]), ("e", &b"hi"[..]));
    assert_eq!((&shutdown.framework_id, &*shutdown.executor_id), (&id.value, "e"));
    let back = ExecutorMessage {
        framework_id: id.value.clone(),
        executor_id: "e".to_owned(),
        data: b"ho".to_vec().into(),
    };
    world.cluster.agent_says(world.link, ToMaster::ExecutorMessage(back));
    let events = world.cluster.take_events(stream);
    let told = events.iter().find(|event| event.r#type() == event::Type::Message);
    let told = told.and_then(|event| event.message.clone()).expect("MESSAGE");
    assert_eq!((told.executor_id, &told.data[..]), (executor_id, &b"ho"[..]));
}

#[test]
fn an_agent_that_comes_back_says_which_executors_live() {
    let mut world = World::new();
    let first = world.task("t", "cpus:1;mem:100");
    let sent = world.launch(first);
    let [ToAgent::RunTask(run)] = sent.as_slice() else { panic!("not one RunTask: {sent:?}") };
    let (raw, position) = (run.task_info.clone(), run.position.expect("set"));
    let mut info = executor("cpus:0.5;mem:64;disk:10");
    info.framework_id = Some(world.id.clone());
    let register = |world: &mut World, executors: Vec<AgentExecutor>| {
        world.cluster.advance(Duration::from_secs(1));
        let link = LinkId(1_000_000_000 + world.cluster.now.mono_ns);
        let tasks = vec![mezzo_proto::internal::v1::AgentTask {
            framework_id: world.id.value.clone(),
            task_info: raw.clone(),
            latest: None,
        }];
        let agent_info = v1::AgentInfo {
            hostname: "host".to_owned(),
            resources: resources(AGENT),
            id: Some(v1::AgentId { value: world.agent.clone() }),
            ..v1::AgentInfo::default()
        };
        world.cluster.agent_says(
            link,
            ToMaster::Register(Box::new(Register {
                agent_info: Some(agent_info),
                boot_id: "boot-1".to_owned(),
                last_launch: Some(LaunchPosition { ..position }),
                tasks,
                executors,
                ..Register::default()
            })),
        );
        world.link = link;
    };
    // A new leader hears of it from the agent.
    world.cluster = world.cluster.fail_over();
    let lives = AgentExecutor { framework_id: world.id.value.clone(), executor_info: Some(info) };
    register(&mut world, vec![lives]);
    let framework = v1::FrameworkInfo { id: Some(world.id.clone()), ..framework_info(true) };
    world.stream = world.cluster.subscribe(framework);
    let offers = |world: &mut World| {
        world.cluster.advance(Duration::from_secs(6));
        let events = world.cluster.take_events(world.stream);
        let offers = events.into_iter().filter_map(|event| event.offers);
        offers.flat_map(|offers| offers.offers).collect::<Vec<_>>()
    };
    let offered = offers(&mut world);
    let left = Resources::from_proto(&offered[0].resources).expect("valid").unallocated();
    assert_eq!(left, world.is("cpus:2.5;mem:860;disk:90"));
    assert_eq!(offered[0].executor_ids.len(), 1);
    // It ended while the agent was away.
    register(&mut world, vec![]);
    world.cluster.advance(Duration::from_secs(6));
    let events = world.cluster.take_events(world.stream);
    let failure = events.iter().find_map(|event| event.failure.clone()).expect("FAILURE");
    assert!(failure.executor_id.is_some() && failure.status.is_none());
    let offered = events.iter().filter_map(|event| event.offers.clone());
    let offered: Vec<_> = offered.flat_map(|offers| offers.offers).collect();
    let left = Resources::from_proto(&offered[0].resources).expect("valid").unallocated();
    assert_eq!(left, world.is("cpus:3;mem:924;disk:100"));
}

#[test]
fn a_removed_framework_leaves_no_executor_behind() {
    let mut world = World::new();
    let first = world.task("t", "cpus:1");
    world.launch(first);
    world.cluster.update(world.link, &world.id, "t", TaskState::TaskFinished, 1);
    world.cluster.acknowledge(world.stream, &world.id, &world.agent, "t", 1);
    world.sent();
    let (stream, id) = (world.stream, world.id.clone());
    world.cluster.call(stream, &id, call::Type::Teardown, |_| {}).expect("ok");
    let messages = world.sent();
    assert!(
        matches!(messages.as_slice(), [ToAgent::ShutdownFramework(_)]),
        "its executor idles there: {messages:?}"
    );
    // Its resources are free, and what the agent says of it later is nobody's business.
    world.exit();
    let (stream, id) = world.cluster.framework(framework_info(true));
    (world.stream, world.id) = (stream, id);
    assert_eq!(world.left(), world.is("cpus:4;mem:1024;disk:100"));
}
