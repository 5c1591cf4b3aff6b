//! Valid inputs, for the mutations to begin with.

use mezzo_proto::internal::v1::{
    Acknowledge, AgentTask, AgentToMaster, KillTask, LaunchPosition, MasterToAgent, Ping, Pong,
    Register, Registered, RunTask, ShutdownFramework, StatusUpdate, Unregister, agent_to_master,
    master_to_agent,
};
use mezzo_proto::json;
use mezzo_proto::recordio::encode;
use mezzo_proto::storage::v1::{
    AgentIdentity, AgentRecord, Command, CommandBatch, ContainerRecord, Counters, ForgetTasks,
    FrameworkRecord, LastLaunch, PlaceTasks, Placement, PutAgent, PutCounters, PutFramework,
    RemoveAgent, RemoveFramework, TaskKey, TaskRecord, command,
};
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, call};
use mezzo_types::{Attributes, Resources};
use prost::Message;

use super::{Dice, join};

pub(super) fn records() -> Vec<Vec<u8>> {
    let one = encode(b"hello").to_vec();
    let several = [&encode(b"")[..], &encode(&[7; 300]), &encode(b"\n1\n"), &encode(b"x")].concat();
    let with_cut = |cut: u8, stream: &[u8]| [&[cut], stream].concat();
    vec![with_cut(0, &one), with_cut(3, &several), with_cut(255, &several), with_cut(1, b"12")]
}

fn resources_of(text: &str) -> Vec<v1::Resource> {
    Resources::parse(text, "*").map(|resources| resources.to_proto()).unwrap_or_default()
}

fn framework_info(id: Option<&str>) -> v1::FrameworkInfo {
    let capability = v1::framework_info::capability::Type::PartitionAware;
    v1::FrameworkInfo {
        user: "root".to_owned(),
        name: "seed".to_owned(),
        id: id.map(|value| v1::FrameworkId { value: value.to_owned() }),
        failover_timeout: Some(60.0),
        roles: vec!["web".to_owned()],
        capabilities: vec![v1::framework_info::Capability { r#type: Some(capability as i32) }],
        ..v1::FrameworkInfo::default()
    }
}

fn task(id: &str) -> v1::TaskInfo {
    let variable = v1::environment::Variable {
        name: "A".to_owned(),
        value: Some("1".to_owned()),
        ..Default::default()
    };
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        agent_id: v1::AgentId { value: "S0".to_owned() },
        resources: resources_of("cpus:0.5;mem:32;ports:[31000-31001]"),
        command: Some(v1::CommandInfo {
            value: Some("true".to_owned()),
            environment: Some(v1::Environment { variables: vec![variable] }),
            ..Default::default()
        }),
        labels: Some(v1::Labels {
            labels: vec![v1::Label { key: "k".to_owned(), value: Some("v".to_owned()) }],
        }),
        kill_policy: Some(v1::KillPolicy {
            grace_period: Some(v1::DurationInfo { nanoseconds: 5_000_000_000 }),
        }),
        max_completion_time: Some(v1::DurationInfo { nanoseconds: 9_000_000_000 }),
        data: Some(vec![0, 1, 255].into()),
        ..v1::TaskInfo::default()
    }
}

fn status(task: &str) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: v1::TaskState::TaskRunning as i32,
        uuid: Some(vec![7; 16].into()),
        timestamp: Some(1.5e9),
        ..v1::TaskStatus::default()
    }
}

fn of(kind: call::Type) -> Call {
    let framework_id = Some(v1::FrameworkId { value: "f".to_owned() });
    Call { framework_id, r#type: Some(kind as i32), ..Call::default() }
}

fn calls() -> Vec<Call> {
    let offer_ids = vec![v1::OfferId { value: "o".to_owned() }];
    let filters = Some(v1::Filters { refuse_seconds: Some(5.0) });
    let (agent_id, task_id) =
        (v1::AgentId { value: "S0".to_owned() }, v1::TaskId { value: "t".to_owned() });
    let launch = v1::offer::operation::Launch { task_infos: vec![task("t"), task("u")] };
    let operation = v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch as i32),
        launch: Some(launch),
        ..v1::offer::Operation::default()
    };
    vec![
        Call {
            framework_id: None,
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: framework_info(None),
                ..Default::default()
            })),
            ..of(call::Type::Subscribe)
        },
        Call {
            accept: Some(call::Accept {
                offer_ids: offer_ids.clone(),
                operations: vec![operation],
                filters,
            }),
            ..of(call::Type::Accept)
        },
        Call { decline: Some(call::Decline { offer_ids, filters }), ..of(call::Type::Decline) },
        Call {
            kill: Some(call::Kill { task_id: task_id.clone(), ..Default::default() }),
            ..of(call::Type::Kill)
        },
        Call {
            acknowledge: Some(call::Acknowledge {
                agent_id: agent_id.clone(),
                task_id: task_id.clone(),
                uuid: vec![7; 16].into(),
            }),
            ..of(call::Type::Acknowledge)
        },
        Call {
            reconcile: Some(call::Reconcile {
                tasks: vec![call::reconcile::Task { task_id, agent_id: Some(agent_id) }],
            }),
            ..of(call::Type::Reconcile)
        },
        of(call::Type::Revive),
        of(call::Type::Suppress),
        of(call::Type::Teardown),
    ]
}

/// An encoded SUBSCRIBE.
pub(super) fn subscribe() -> Vec<u8> {
    calls().first().map(Message::encode_to_vec).unwrap_or_default()
}

macro_rules! vectors {
    ($($message:literal),*) => {
        [$(include_str!(concat!("../../conformance/vectors/", $message, ".txt"))),*]
    };
}

/// The conformance vectors: name, JSON and hexadecimal bytes, three lines each.
const CALLS: [&str; 4] = vectors!["scheduler.Call", "executor.Call", "master.Call", "agent.Call"];
const ANSWERS: [&str; 6] = vectors![
    "scheduler.Event",
    "executor.Event",
    "master.Event",
    "master.Response",
    "agent.Response",
    "agent.ProcessIO"
];

fn texts_of(vectors: &[&str]) -> Vec<Vec<u8>> {
    let lines = vectors.iter().flat_map(|vectors| vectors.lines());
    lines.filter(|line| line.starts_with('{')).map(|line| line.as_bytes().to_vec()).collect()
}

fn bytes_of(vectors: &[&str]) -> Vec<Vec<u8>> {
    let cases = vectors.iter().flat_map(|vectors| vectors.split("\n\n"));
    let hex = cases.filter_map(|case| case.trim().lines().nth(2));
    let digits = hex.map(|hex| hex.chars().filter_map(|c| c.to_digit(16)).collect::<Vec<u32>>());
    digits
        .map(|digits| digits.chunks(2).map(|two| (two[0] * 16 + two[1]) as u8).collect())
        .collect()
}

pub(super) fn json_answers() -> Vec<Vec<u8>> {
    texts_of(&ANSWERS)
}

pub(super) fn protobuf_answers() -> Vec<Vec<u8>> {
    bytes_of(&ANSWERS)
}

pub(super) fn json() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = calls().iter().map(json::to_vec).collect();
    texts.extend(texts_of(&CALLS));
    texts.push(br#"{"type":"GET_HEALTH"}"#.to_vec());
    texts.push(br#"{"type":"TEARDOWN","teardown":{"framework_id":{"value":"f"}}}"#.to_vec());
    texts.push(br#"{"type":"DECLINE","decline":{"offer_ids":{"value":"o"},"filters":{"refuse_seconds":"Infinity"}},"x":[1,{}]}"#.to_vec());
    texts
}

pub(super) fn protobuf() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = calls().iter().map(Message::encode_to_vec).collect();
    seeds.extend(bytes_of(&CALLS));
    seeds
}

pub(super) fn resources() -> Vec<Vec<u8>> {
    let json = json_of(
        &resources_of("cpus(web):2;ports:[1-9]").iter().map(json::to_string).collect::<Vec<_>>(),
    );
    let texts = [
        "cpus:4;mem:2048;disk:10;ports:[31000-32000]",
        "cpus(eng/web):8; cpus:1; cpus(*):1",
        "ports:[ 5-6 , 1 - 2,3-4, 3-9 ];x:[]",
        "bugs:{ b , a };y:{}",
        " cpus : 0.5 ; ; mem:1e2; ",
        &json,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(super) fn attributes() -> Vec<Vec<u8>> {
    let parsed = Attributes::parse("rack:a1;ssd:1").map(|attributes| attributes.to_proto());
    let json = json_of(&parsed.unwrap_or_default().iter().map(json::to_string).collect::<Vec<_>>());
    let texts = ["rack:a1;ssd:1", "ports:[1-9,20-30]\nzone:west", "a: b c ;d:1e3;e:x:y", &json];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn json_of(elements: &[String]) -> String {
    format!("[{}]", elements.join(","))
}

pub(super) fn agent_records() -> Vec<Vec<u8>> {
    let identity = AgentIdentity {
        info: Some(v1::AgentInfo {
            hostname: "host".to_owned(),
            id: Some(v1::AgentId { value: "S0".to_owned() }),
            ..Default::default()
        }),
        boot_id: "boot".to_owned(),
        highest_term: 3,
    };
    let last = LastLaunch { position: Some(LaunchPosition { term: 3, sequence: 9 }) };
    let record = |phase| TaskRecord {
        framework_info: Some(framework_info(Some("f"))),
        task_info: task("t").encode_to_vec().into(),
        container_id: "c".to_owned(),
        phase,
        updates: vec![status("t")],
        latest: Some(status("t")),
        kill_ordered_unix_ns: 1_700_000_000_000_000_000,
        kill_grace_ns: 5_000_000_000,
        ..TaskRecord::default()
    };
    let container = ContainerRecord {
        container_id: "c".to_owned(),
        framework_id: "f".to_owned(),
        executor_id: "t".to_owned(),
        boot_id: "boot".to_owned(),
        pid: 7,
        start_time_ticks: 9,
        ..ContainerRecord::default()
    };
    let all = |phase, observed: u8| {
        join(&[
            (0, identity.encode_to_vec()),
            (1, last.encode_to_vec()),
            (2, record(phase).encode_to_vec()),
            (3 + 4 * observed, container.encode_to_vec()),
        ])
    };
    (0..4)
        .flat_map(|phase| (0..4).map(move |observed| (phase, observed)))
        .map(|(p, o)| all(p, o))
        .collect()
}

pub(super) fn agent_messages() -> Vec<Vec<u8>> {
    use master_to_agent::Message as Kind;
    let encode = |kind: Kind| MasterToAgent { message: Some(kind) }.encode_to_vec();
    let registered = Registered { agent_id: "S0".to_owned(), term: 7, ping_timeout_ms: 90_000 };
    let run = |sequence| RunTask {
        position: Some(LaunchPosition { term: 7, sequence }),
        framework_info: Some(framework_info(Some("f"))),
        task_info: task("t").encode_to_vec().into(),
        launch_executor: false,
    };
    let mut checked = task("t");
    checked.health_check = Some(v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Tcp as i32),
        tcp: Some(v1::health_check::TcpCheckInfo { port: 80, ..Default::default() }),
        ..Default::default()
    });
    let command = v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() };
    checked.check = Some(v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Command as i32),
        command: Some(v1::check_info::Command { command }),
        ..Default::default()
    });
    let run_checked = RunTask { task_info: checked.encode_to_vec().into(), ..run(1) };
    let (framework_id, task_id) = ("f".to_owned(), "t".to_owned());
    let kill = KillTask {
        framework_id: framework_id.clone(),
        task_id: task_id.clone(),
        kill_policy: None,
    };
    let acknowledge =
        Acknowledge { framework_id: framework_id.clone(), task_id, uuid: vec![7; 16].into() };
    let said = |kind: Kind| (7, encode(kind));
    vec![
        join(&[
            said(Kind::Registered(registered.clone())),
            said(Kind::RunTask(Box::new(run(1)))),
            (1, vec![]),
            said(Kind::Ping(Ping {})),
            said(Kind::KillTask(kill)),
            (2, vec![]),
            (3, vec![]),
            said(Kind::Acknowledge(acknowledge)),
            (8, vec![]),
        ]),
        join(&[
            said(Kind::Registered(registered.clone())),
            said(Kind::RunTask(Box::new(run(1)))),
            said(Kind::RunTask(Box::new(run(2)))),
            said(Kind::ShutdownFramework(ShutdownFramework { framework_id })),
            (0xf8, vec![]),
        ]),
        join(&[
            said(Kind::Registered(registered)),
            said(Kind::RunTask(Box::new(run_checked))),
            (1, vec![]),
            (0x78, vec![]),
            (0x86, vec![]),
            (0x0e, vec![0]),
            (0x78, vec![]),
            (0x86, vec![0, 0]),
        ]),
    ]
}

/// An encoded registration of an agent that is new.
pub(super) fn register() -> Vec<u8> {
    let agent_info = v1::AgentInfo {
        hostname: "host".to_owned(),
        resources: resources_of("cpus:8;mem:4096;ports:[31000-32000]"),
        ..v1::AgentInfo::default()
    };
    let register = Register {
        agent_info: Some(agent_info),
        boot_id: "boot".to_owned(),
        last_launch: Some(LaunchPosition::default()),
        ..Register::default()
    };
    AgentToMaster { message: Some(agent_to_master::Message::Register(Box::new(register))) }
        .encode_to_vec()
}

pub(super) fn master_records() -> Vec<Vec<u8>> {
    use command::Command as Kind;
    let agent_info = v1::AgentInfo {
        hostname: "host".to_owned(),
        id: Some(v1::AgentId { value: "S0".to_owned() }),
        resources: resources_of("cpus:8;mem:4096"),
        ..v1::AgentInfo::default()
    };
    let placement = Placement {
        framework_id: "f".to_owned(),
        task_id: "t".to_owned(),
        agent_id: "S0".to_owned(),
        resources: resources_of("cpus:1"),
        ..Placement::default()
    };
    let key = TaskKey { framework_id: "f".to_owned(), task_id: "t".to_owned() };
    let counters = Counters { cluster_id: "c".to_owned(), next_agent: 3, ..Counters::default() };
    let kinds = vec![
        Kind::PutCounters(PutCounters { counters: Some(counters) }),
        Kind::PutAgent(PutAgent {
            agent: Some(AgentRecord { info: Some(agent_info), ..AgentRecord::default() }),
        }),
        Kind::PutFramework(PutFramework {
            framework: Some(FrameworkRecord {
                info: Some(framework_info(Some("f"))),
                ..FrameworkRecord::default()
            }),
        }),
        Kind::PlaceTasks(PlaceTasks { placements: vec![placement] }),
        Kind::ForgetTasks(ForgetTasks { tasks: vec![key] }),
        Kind::RemoveFramework(RemoveFramework { framework_id: "f".to_owned() }),
        Kind::RemoveAgent(RemoveAgent { agent_id: "S0".to_owned() }),
    ];
    let commands: Vec<Command> =
        kinds.into_iter().map(|kind| Command { command: Some(kind) }).collect();
    (1..=commands.len())
        .map(|count| {
            let batch = CommandBatch { commands: commands[..count].to_vec() };
            join(&[(0, batch.encode_to_vec())])
        })
        .collect()
}

pub(super) fn master_inputs() -> Vec<Vec<u8>> {
    use agent_to_master::Message as Kind;
    let encode = |kind: Kind| AgentToMaster { message: Some(kind) }.encode_to_vec();
    let update = StatusUpdate {
        framework_id: "f".to_owned(),
        status: Some(status("t")),
        latest_state: v1::TaskState::TaskRunning as i32,
    };
    let again = Register {
        agent_info: Some(v1::AgentInfo {
            hostname: "other".to_owned(),
            resources: resources_of("cpus:8"),
            ..v1::AgentInfo::default()
        }),
        boot_id: "boot".to_owned(),
        tasks: vec![AgentTask {
            framework_id: "f".to_owned(),
            task_info: task("t").encode_to_vec().into(),
            latest: Some(status("t")),
        }],
        frameworks: vec![framework_info(Some("f"))],
        ..Register::default()
    };
    let called = calls().iter().map(|call| (2, call.encode_to_vec())).collect::<Vec<_>>();
    let others = [
        (5, encode(Kind::Register(Box::new(again)))),
        (1, encode(Kind::StatusUpdate(Box::new(update)))),
        (1, encode(Kind::Pong(Pong {}))),
        (0xf8, Vec::new()),
        (1, encode(Kind::Unregister(Unregister {}))),
    ];
    let mut seeds: Vec<Vec<u8>> =
        called.iter().map(|one| join(std::slice::from_ref(one))).collect();
    seeds.push(join(&called));
    seeds.push(join(&others));
    seeds.push(join(&[&called[..], &others].concat()));
    seeds
}

/// Decisions of no meaning but their number.
pub(super) fn tapes() -> Vec<Vec<u8>> {
    (1..=24).map(|seed| Dice::new(seed).bytes(400 * seed as usize)).collect()
}

/// Requests as the launcher's client encodes them; see `agent/launcher/src/wire.rs`.
pub(super) fn launcher_packets() -> Vec<Vec<u8>> {
    let text = |number: u32, text: &[u8]| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(number, &text.to_vec(), &mut out);
        out
    };
    let launch = [
        text(1, b"c1"),
        text(2, b"/bin/sh"),
        text(3, b"sh"),
        text(3, b"-c"),
        text(4, b"A=1"),
        vec![0x40, 1, 0x48, 1, 0x50, 1, 0x58, 1],
        text(12, b"host"),
    ]
    .concat();
    let enter = [
        text(1, b"/bin/sh"),
        text(2, b"sh"),
        text(3, b"A=1"),
        vec![0x20, 1, 0x28, 1, 0x30, 1],
        text(7, b"/tmp"),
        text(8, b"stderr"),
    ]
    .concat();
    let request = |call: u32, body: &[u8]| [vec![5, 0, 0x08, 9], text(call, body)].concat();
    let by_name = text(1, b"c1");
    vec![
        request(2, &launch),
        request(3, b""),
        request(4, &by_name),
        request(5, &[by_name.clone(), vec![0x10, 15]].concat()),
        request(6, &by_name),
        request(7, b""),
        request(10, &enter),
        vec![5, 1],
    ]
}
