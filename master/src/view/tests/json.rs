//! Every old endpoint against JSON that was written by hand from Mesos' sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezzo_proto::v1::quota::QuotaConfig;
use serde_json::{Value, json};

use super::*;
use crate::view::{Answer, MasterFacts, TasksQuery};

pub(super) fn master() -> MasterFacts {
    MasterFacts {
        version: "1.11.0".to_owned(),
        start_time: 10.5,
        elected_time: 11.0,
        info: v1::MasterInfo {
            id: "m".to_owned(),
            ip: 16_777_343,
            port: 5050,
            pid: Some("master@127.0.0.1:5050".to_owned()),
            hostname: Some("localhost".to_owned()),
            ..v1::MasterInfo::default()
        },
        cluster: Some("test".to_owned()),
        flags: Arc::new(vec![v1::Flag { name: "port".to_owned(), value: Some("5050".to_owned()) }]),
    }
}

/// A framework with a running task, an ended one, an executor and an offer, on one agent; another agent that is
/// expected back.
fn cluster() -> View {
    let view = View::default();
    view.apply(framework("f"));
    let mut busy = agent("a", AgentState::Active);
    if let ViewChange::Agent { info, total, .. } = &mut busy {
        let attributes = mezzo_types::Attributes::parse("rack:r1;level:2").expect("attributes");
        info.attributes = attributes.to_proto();
        *total = resources("cpus:6;cpus(role-f):2;mem:1024;ports:[31000-31005, 31010-31010]", None);
    }
    view.apply(busy);
    view.apply(agent("b", AgentState::Recovered));
    let mut running = task("f", "run", "a", TaskState::TaskRunning);
    running.resources = resources("cpus:0.5;mem:32;ports:[31000-31001]", Some("role-f"));
    running.executor_id = Some(v1::ExecutorId { value: "e".to_owned() });
    running.user = Some("root".to_owned());
    running.labels = Some(v1::Labels {
        labels: vec![v1::Label { key: "k".to_owned(), value: Some("v".to_owned()) }],
    });
    running.limits.insert("cpus".to_owned(), v1::value::Scalar { value: 2.0 });
    running.discovery = Some(v1::DiscoveryInfo {
        visibility: v1::discovery_info::Visibility::Cluster as i32,
        name: Some("web".to_owned()),
        ..v1::DiscoveryInfo::default()
    });
    running.statuses[0].healthy = Some(true);
    running.statuses[0].container_status = Some(v1::ContainerStatus {
        container_id: Some(v1::ContainerId { value: "c".to_owned(), parent: None }),
        network_infos: vec![v1::NetworkInfo {
            ip_addresses: vec![v1::network_info::IpAddress {
                ip_address: Some("10.0.0.2".to_owned()),
                ..Default::default()
            }],
            ..v1::NetworkInfo::default()
        }],
        ..v1::ContainerStatus::default()
    });
    view.apply(ViewChange::Task(running));
    view.apply(ViewChange::Task(task("f", "done", "a", TaskState::TaskFinished)));
    view.apply(ViewChange::TaskCompleted("f".into(), "done".into()));
    view.apply(ViewChange::Executor {
        framework: "f".into(),
        agent: "a".into(),
        info: v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: "e".to_owned() },
            framework_id: Some(v1::FrameworkId { value: "f".to_owned() }),
            name: Some("executor".to_owned()),
            command: Some(v1::CommandInfo {
                value: Some("run".to_owned()),
                uris: vec![v1::command_info::Uri {
                    value: "http://u".to_owned(),
                    ..Default::default()
                }],
                ..v1::CommandInfo::default()
            }),
            resources: resources("cpus:0.1", Some("role-f")),
            ..v1::ExecutorInfo::default()
        },
    });
    let mut out = offer("o", "f", "a");
    out.allocation_info = Some(v1::resource::AllocationInfo { role: Some("role-f".to_owned()) });
    view.apply(ViewChange::Offer(news(out)));
    view
}

fn value(answer: Answer) -> Value {
    let bytes = answer.bytes;
    let text = answer.concat();
    assert_eq!(text.len(), bytes);
    serde_json::from_slice(&text).expect("JSON")
}

/// Equal values are not enough where tools look at the text: `1.0` is no integer.
fn has(answer: Answer, part: &str) {
    let text = String::from_utf8(answer.concat().to_vec()).expect("UTF-8");
    assert!(text.contains(part), "{part} in {text}");
}

fn running_task() -> Value {
    json!({
        "id": "run",
        "name": "name of run",
        "framework_id": "f",
        "executor_id": "e",
        "slave_id": "a",
        "state": "TASK_RUNNING",
        "resources": {
            "cpus": 0.5, "disk": 0.0, "gpus": 0.0, "mem": 32.0, "ports": "[31000-31001]"
        },
        "limits": {"cpus": 2.0},
        "role": "role-f",
        "statuses": [{
            "state": "TASK_RUNNING",
            "timestamp": 1.0,
            "container_status": {
                "container_id": {"value": "c"},
                "network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": "10.0.0.2"}]}],
            },
            "healthy": true,
        }],
        "user": "root",
        "labels": [{"key": "k", "value": "v"}],
        "discovery": {"visibility": "CLUSTER", "name": "web"},
    })
}

fn done_task() -> Value {
    json!({
        "id": "done",
        "name": "name of done",
        "framework_id": "f",
        "executor_id": "",
        "slave_id": "a",
        "state": "TASK_FINISHED",
        "resources": {"cpus": 0.5, "disk": 0.0, "gpus": 0.0, "mem": 32.0},
        "role": "role-f",
        "statuses": [{"state": "TASK_FINISHED", "timestamp": 2.0}],
    })
}

fn framework_summary() -> Value {
    json!({
        "id": "f",
        "name": "name of f",
        "used_resources": {
            "cpus": 0.6, "disk": 0.0, "gpus": 0.0, "mem": 32.0, "ports": "[31000-31001]"
        },
        "offered_resources": {
            "cpus": 1.0, "disk": 0.0, "gpus": 0.0, "mem": 0.0, "ports": "[31000-31001]"
        },
        "capabilities": ["MULTI_ROLE"],
        "hostname": "",
        "webui_url": "",
        "active": true,
        "connected": true,
        "recovered": false,
    })
}

fn whole_framework() -> Value {
    let mut framework = framework_summary();
    merge(
        &mut framework,
        json!({
            "user": "root",
            "failover_timeout": 0.0,
            "checkpoint": false,
            "registered_time": 1.0,
            "unregistered_time": 0.0,
            "resources": {
                "cpus": 1.6, "disk": 0.0, "gpus": 0.0, "mem": 32.0, "ports": "[31000-31001]"
            },
            "roles": ["role-f"],
            "tasks": [running_task()],
            "unreachable_tasks": [],
            "completed_tasks": [done_task()],
            "offers": [{
                "id": "o",
                "framework_id": "f",
                "allocation_info": {"role": "role-f"},
                "slave_id": "a",
                "resources": {
                    "cpus": 1.0, "disk": 0.0, "gpus": 0.0, "mem": 0.0, "ports": "[31000-31001]"
                },
            }],
            "executors": [{
                "executor_id": "e",
                "name": "executor",
                "framework_id": "f",
                "command": {
                    "value": "run",
                    "argv": [],
                    "uris": [{"value": "http://u", "executable": false}],
                },
                "resources": {"cpus": 0.1, "disk": 0.0, "gpus": 0.0, "mem": 0.0},
                "role": "role-f",
                "slave_id": "a",
            }],
            "offer_constraints": {},
        }),
    );
    framework
}

fn slave() -> Value {
    json!({
        "id": "a",
        "hostname": "host-a",
        "port": 5051,
        "attributes": {"rack": "r1", "level": 2.0},
        "pid": "slave(1)@host-a:5051",
        "registered_time": 2.0,
        "resources": {
            "cpus": 8.0, "disk": 0.0, "gpus": 0.0, "mem": 1024.0,
            "ports": "[31000-31005, 31010-31010]"
        },
        "used_resources": {
            "cpus": 0.6, "disk": 0.0, "gpus": 0.0, "mem": 32.0, "ports": "[31000-31001]"
        },
        "offered_resources": {
            "cpus": 1.0, "disk": 0.0, "gpus": 0.0, "mem": 0.0, "ports": "[31000-31001]"
        },
        "reserved_resources": {"role-f": {"cpus": 2.0, "disk": 0.0, "gpus": 0.0, "mem": 0.0}},
        "unreserved_resources": {
            "cpus": 6.0, "disk": 0.0, "gpus": 0.0, "mem": 1024.0,
            "ports": "[31000-31005, 31010-31010]"
        },
        "active": true,
        "deactivated": false,
        "version": "1.11.0",
        "capabilities": [
            "MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "RESIZE_VOLUME",
            "AGENT_OPERATION_FEEDBACK", "AGENT_DRAINING", "TASK_RESOURCE_LIMITS"
        ],
    })
}

fn recovered_slave() -> Value {
    json!({"id": "b", "hostname": "host-b", "port": 5051, "attributes": {}})
}

fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else { panic!("objects") };
    into.extend(more);
}

#[test]
fn state() {
    let answer = cluster().snapshot().state(&master());
    has(answer.clone(), r#""cpus":1.0"#);
    has(answer.clone(), r#""start_time":10.5,"elected_time":11.0"#);
    assert_eq!(
        value(answer),
        json!({
            "version": "1.11.0",
            "build_date": "",
            "build_time": 0.0,
            "build_user": "",
            "start_time": 10.5,
            "elected_time": 11.0,
            "id": "m",
            "pid": "master@127.0.0.1:5050",
            "hostname": "localhost",
            "capabilities": [],
            "activated_slaves": 1,
            "deactivated_slaves": 0,
            "unreachable_slaves": 0,
            "leader": "master@127.0.0.1:5050",
            "leader_info": {
                "id": "m", "pid": "master@127.0.0.1:5050", "port": 5050, "hostname": "localhost"
            },
            "cluster": "test",
            "flags": {"port": "5050"},
            "slaves": [slave()],
            "recovered_slaves": [recovered_slave()],
            "frameworks": [whole_framework()],
            "completed_frameworks": [],
            "orphan_tasks": [],
            "unregistered_frameworks": [],
        })
    );
}

#[test]
fn summary() {
    let counts = json!({
        "TASK_STAGING": 0,
        "TASK_STARTING": 0,
        "TASK_RUNNING": 1,
        "TASK_KILLING": 0,
        "TASK_FINISHED": 1,
        "TASK_KILLED": 0,
        "TASK_FAILED": 0,
        "TASK_LOST": 0,
        "TASK_ERROR": 0,
        "TASK_UNREACHABLE": 0,
    });
    let mut slave = slave();
    merge(&mut slave, counts.clone());
    merge(&mut slave, json!({"framework_ids": ["f"]}));
    let mut framework = framework_summary();
    merge(&mut framework, counts);
    merge(&mut framework, json!({"slave_ids": ["a"]}));
    assert_eq!(
        value(cluster().snapshot().summary(&master())),
        json!({
            "hostname": "localhost",
            "cluster": "test",
            "slaves": [slave],
            "frameworks": [framework],
        })
    );
}

#[test]
fn slaves() {
    let scalar = |name: &str, value: f64| {
        json!({
            "name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "*"
        })
    };
    let ports = |ranges: Value, role: &str| {
        let mut ports = json!({
            "name": "ports", "type": "RANGES", "ranges": {"range": ranges}, "role": "*"
        });
        if !role.is_empty() {
            merge(&mut ports, json!({"allocation_info": {"role": role}}));
        }
        ports
    };
    let allocated = |mut resource: Value| {
        merge(&mut resource, json!({"allocation_info": {"role": "role-f"}}));
        resource
    };
    let mut full = slave();
    merge(
        &mut full,
        json!({
            "reserved_resources_full": {"role-f": [{
                "name": "cpus",
                "type": "SCALAR",
                "scalar": {"value": 2.0},
                "role": "role-f",
                "reservations": [{"type": "STATIC", "role": "role-f"}],
            }]},
            "unreserved_resources_full": [
                scalar("cpus", 6.0),
                scalar("mem", 1024.0),
                ports(json!([{"begin": 31000, "end": 31005}, {"begin": 31010, "end": 31010}]), ""),
            ],
            "used_resources_full": [
                allocated(scalar("cpus", 0.6)),
                allocated(scalar("mem", 32.0)),
                ports(json!([{"begin": 31000, "end": 31001}]), "role-f"),
            ],
            "offered_resources_full": [
                allocated(scalar("cpus", 1.0)),
                ports(json!([{"begin": 31000, "end": 31001}]), "role-f"),
            ],
        }),
    );
    let snapshot = cluster().snapshot();
    let all = json!({"slaves": [full], "recovered_slaves": [recovered_slave()]});
    assert_eq!(value(snapshot.slaves(None)), all);
    assert_eq!(
        value(snapshot.slaves(Some("a"))),
        json!({"slaves": [full], "recovered_slaves": []})
    );
    let only = json!({"slaves": [], "recovered_slaves": [recovered_slave()]});
    assert_eq!(value(snapshot.slaves(Some("b"))), only);
}

#[test]
fn frameworks() {
    let view = cluster();
    view.apply(framework("g"));
    view.apply(ViewChange::Task(task("g", "x", "a", TaskState::TaskKilled)));
    view.apply(ViewChange::FrameworkCompleted { id: "g".into(), unix_ns: 7 * SECOND });
    let answer = value(view.snapshot().frameworks(None));
    assert_eq!(answer["frameworks"], json!([whole_framework()]));
    let gone = &answer["completed_frameworks"][0];
    assert_eq!(gone["id"], "g");
    assert_eq!(gone["unregistered_time"], 7.0);
    assert_eq!(gone["active"], false);
    assert_eq!(gone["completed_tasks"][0]["state"], "TASK_KILLED");
    assert_eq!(
        value(view.snapshot().frameworks(Some("f"))),
        json!({
            "frameworks": [whole_framework()],
            "completed_frameworks": [],
            "unregistered_frameworks": [],
        })
    );
}

#[test]
fn tasks() {
    let snapshot = cluster().snapshot();
    let query = TasksQuery { limit: 100, ..TasksQuery::default() };
    let newest_first = json!({"tasks": [done_task(), running_task()]});
    assert_eq!(value(snapshot.tasks(&query)), newest_first);
    let ascending = TasksQuery { ascending: true, ..query.clone() };
    let oldest_first = json!({"tasks": [running_task(), done_task()]});
    assert_eq!(value(snapshot.tasks(&ascending)), oldest_first);
    for query in [
        TasksQuery { offset: 1, ..query.clone() },
        TasksQuery { limit: 1, ascending: true, ..query.clone() },
        TasksQuery { task_id: Some("run".to_owned()), ..query.clone() },
    ] {
        assert_eq!(value(snapshot.tasks(&query)), json!({"tasks": [running_task()]}));
    }
    let other = TasksQuery { framework_id: Some("g".to_owned()), ..query };
    assert_eq!(value(snapshot.tasks(&other)), json!({"tasks": []}));
}

#[test]
fn pages_of_tasks_are_pieces_of_the_whole_list() {
    let view = View::default();
    view.apply(framework("f"));
    for number in 0..200_u32 {
        let mut task = task("f", &number.to_string(), "a", TaskState::TaskRunning);
        // Many began at the same time, in no order; one did not begin.
        task.statuses[0].timestamp = Some(f64::from(number * 7 % 10));
        if number == 50 {
            task.statuses.clear();
        }
        view.apply(ViewChange::Task(task));
    }
    let snapshot = view.snapshot();
    let ids = |query: &TasksQuery| -> Vec<String> {
        let tasks = value(snapshot.tasks(query))["tasks"].take();
        let tasks = tasks.as_array().expect("a list").clone();
        tasks.iter().map(|task| task["id"].as_str().expect("an id").to_owned()).collect()
    };
    for ascending in [true, false] {
        let whole = ids(&TasksQuery { limit: usize::MAX, ascending, ..TasksQuery::default() });
        assert_eq!(whole.len(), 200);
        assert_eq!(whole.iter().position(|id| id == "50"), Some(if ascending { 0 } else { 199 }));
        let began = |id: &String| id.parse::<u32>().expect("a number") * 7 % 10;
        let mut begun: Vec<u32> = whole.iter().filter(|id| *id != "50").map(began).collect();
        if !ascending {
            begun.reverse();
        }
        assert!(begun.is_sorted());
        for (offset, limit) in [(0, 0), (0, 1), (0, 70), (69, 2), (199, 1), (200, 5), (150, 100)] {
            let page = ids(&TasksQuery { limit, offset, ascending, ..TasksQuery::default() });
            let piece: Vec<_> = whole.iter().skip(offset).take(limit).cloned().collect();
            assert_eq!(page, piece, "{offset}+{limit}");
        }
    }
}

#[test]
fn roles() {
    let view = cluster();
    view.apply(ViewChange::Weights(BTreeMap::from([("role-f".to_owned(), 2.5)])));
    let scalar = |value| v1::value::Scalar { value };
    view.apply(ViewChange::Quotas(BTreeMap::from([(
        "role-f".to_owned(),
        QuotaConfig {
            role: "role-f".to_owned(),
            guarantees: BTreeMap::from([("cpus".to_owned(), scalar(1.0))]),
            limits: BTreeMap::from([("mem".to_owned(), scalar(64.0))]),
        },
    )])));
    assert_eq!(
        value(view.snapshot_with_roles().roles()),
        json!({"roles": [{
            "name": "role-f",
            "weight": 2.5,
            "quota": {
                "role": "role-f",
                "guarantee": {"cpus": 1.0},
                "limit": {"mem": 64.0},
                "consumed": {"cpus": 2.6, "mem": 32.0},
            },
            "resources": {"cpus": 1.6, "mem": 32.0},
            "allocated": {"cpus": 0.6, "mem": 32.0},
            "offered": {"cpus": 1.0},
            "reserved": {"cpus": 2.0},
            "frameworks": ["f"],
        }]})
    );
}
