//! What operators order, over HTTP and from the command line, of processes that die in between.

use mezzo_sdk::v1::TaskState;
use mezzo_sdk::v1::task_status::Reason;
use mezzo_tests::{Cluster, Options};
use serde_json::{Value, json};

use crate::framework::{Probe, task};
use crate::http::{JSON, request};

/// One call of the operator API in JSON: code and body.
fn call(cluster: &Cluster, call: &Value) -> (u16, String) {
    let answer = request(cluster, "POST", "/api/v1", &[JSON], call.to_string().as_bytes());
    (answer.code, answer.body())
}

fn done(cluster: &Cluster, order: &Value) {
    assert_eq!(call(cluster, order), (200, String::new()), "{order}");
}

fn ask(cluster: &Cluster, question: &str) -> Value {
    let (code, body) = call(cluster, &json!({ "type": question }));
    assert_eq!(code, 200, "{question}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// What `mezzo` prints as JSON.
fn mezzo_json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = cluster.mezzo(&[&["--output", "json"], arguments].concat()).expect("runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn mezzo(cluster: &Cluster, arguments: &[&str]) {
    let output = cluster.mezzo(arguments).expect("runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// What `mezzo` complains about.
fn complaint(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.mezzo(arguments).expect("runs");
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn agent(cluster: &Cluster) -> (String, String) {
    let agents = mezzo_json(cluster, &["agents"]);
    // A master that has just begun to lead may know of none yet.
    let text = |key: &str| agents[0][key].as_str().unwrap_or_default().to_owned();
    (text("agent_id"), text("state"))
}

#[test]
fn weights_and_quotas_are_kept_by_the_next_master() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let weights = json!({ "type": "UPDATE_WEIGHTS", "update_weights": {
        "weight_infos": [{ "role": "eng", "weight": 2.5 }, { "role": "ops", "weight": 3.0 }] } });
    done(&cluster, &weights);
    mezzo(&cluster, &["weights", "set", "ops=1"]);
    let bad = complaint(&cluster, &["weights", "set", "eng=-1"]);
    assert!(bad.contains("positive"), "{bad}");
    mezzo(&cluster, &["quota", "set", "eng", "--guarantee", "cpus:2", "--limit", "cpus:4;mem:512"]);
    let bad = complaint(&cluster, &["quota", "set", "ops", "--guarantee", "cpus:63"]);
    assert!(bad.contains("come to cpus:65"), "{bad}");
    let nested = json!({ "type": "UPDATE_QUOTA", "update_quota": {
        "quota_configs": [{ "role": "eng/web" }] } });
    let (code, message) = call(&cluster, &nested);
    assert_eq!((code, message.contains("nested")), (400, true), "{message}");

    // Right after the answer.
    cluster.kill_master().expect("killed");
    cluster.start_master().expect("leads again");
    assert_eq!(
        mezzo_json(&cluster, &["weights", "list"]),
        json!([{ "role": "eng", "weight": 2.5 }])
    );
    let quotas = json!([{
        "role": "eng", "guarantees": { "cpus": 2.0 }, "limits": { "cpus": 4.0, "mem": 512.0 } }]);
    assert_eq!(mezzo_json(&cluster, &["quota", "list"]), quotas);
    let asked = ask(&cluster, "GET_QUOTA");
    assert_eq!(asked["get_quota"]["status"]["configs"][0]["limits"]["mem"]["value"], 512.0);
    let old = request(&cluster, "GET", "/master/weights", &[], b"");
    let old: Value = serde_json::from_str(&old.body()).expect("JSON");
    assert_eq!(old, json!([{ "role": "eng", "weight": 2.5 }]));
    let put = request(&cluster, "PUT", "/weights", &[], br#"[{"role":"eng","weight":1.0}]"#);
    assert_eq!(put.code, 200);
    assert_eq!(request(&cluster, "DELETE", "/quota/eng", &[], b"").code, 200);
    assert_eq!(mezzo_json(&cluster, &["quota", "list"]), json!([]));
    assert_eq!(mezzo_json(&cluster, &["weights", "list"]), json!([]));
}

#[tokio::test]
async fn a_drain_goes_on_although_the_master_died() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("stubborn").shell("trap '' TERM; while :; do sleep 0.1; done"));
    probe.until_running("stubborn").await;
    let (id, state) = agent(&cluster);
    assert_eq!(state, "active");
    let unknown = complaint(&cluster, &["drain", "nobody"]);
    assert!(unknown.contains("Unknown agent 'nobody'"), "{unknown}");
    mezzo(&cluster, &["drain", &id, "--max-grace", "2s"]);
    let own = cluster.agent_address().to_owned();
    let body = json!({ "type": "GET_AGENT" }).to_string();
    let drains = || post_to(&own, "/api/v1", &body).contains("\"drain_config\"");
    probe.until_seen("the agent to know of its drain", drains).await;
    cluster.kill_master().expect("killed");
    cluster.start_master().expect("leads again");
    let status = probe.until_state("stubborn", TaskState::TaskKilled).await;
    assert_eq!(status.reason(), Reason::AgentDraining);
    // The ending is acknowledged meanwhile: before that the agent is not drained.
    probe.until_seen("the agent to be drained", || agent(&cluster).1 == "drained").await;
    let agents = ask(&cluster, "GET_AGENTS");
    assert_eq!(agents["get_agents"]["agents"][0]["drain_info"]["state"], "DRAINED");
    probe.until_seen("the agent to have done with it", || !drains()).await;

    mezzo(&cluster, &["reactivate", &id]);
    let again = complaint(&cluster, &["reactivate", &id]);
    assert!(again.contains("not deactivated"), "{again}");
    let status = probe.run(task("next").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFinished);

    mezzo(&cluster, &["deactivate", &id]);
    assert_eq!(agent(&cluster).1, "deactivated");
    mezzo(&cluster, &["drain", &id, "--mark-gone"]);
    // The ending of the last task is acknowledged meanwhile.
    probe.until_seen("the agent to be gone", || agent(&cluster).1 == "gone").await;
    let ended = cluster.agent_ended().expect("it is gone");
    assert!(!ended.success());
}

#[tokio::test]
async fn a_machine_goes_down_for_maintenance_and_comes_up() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("t").shell("sleep 1000"));
    probe.until_running("t").await;
    let machine = "127.0.0.1";
    let early = complaint(&cluster, &["maintenance", "start", machine]);
    assert!(early.contains("not part of a maintenance schedule"), "{early}");
    mezzo(&cluster, &["maintenance", "schedule", machine, "--in", "1h", "--for", "2h"]);
    let planned = mezzo_json(&cluster, &["maintenance", "schedule"]);
    assert_eq!(planned[0]["machine"], machine);
    assert_eq!(planned[0]["duration_seconds"], 7200.0);
    cluster.kill_master().expect("killed");
    cluster.start_master().expect("leads again");
    let status = request(&cluster, "GET", "/maintenance/status", &[], b"");
    assert!(status.body().contains("draining_machines"));
    let connected = || {
        let all = ask(&cluster, "GET_FRAMEWORKS");
        all["get_frameworks"]["frameworks"][0]["connected"] == true
    };
    let back = || agent(&cluster).1 == "active" && connected();
    probe.until_seen("agent and framework to be back", back).await;

    let down = request(&cluster, "POST", "/machine/down", &[], br#"[{"ip":"127.0.0.1"}]"#);
    assert_eq!((down.code, down.body()), (200, String::new()));
    let status = probe.until_state("t", TaskState::TaskLost).await;
    assert_eq!(status.reason(), Reason::AgentRemoved);
    let ended = cluster.agent_ended().expect("it stops");
    assert!(!ended.success());
    assert!(cluster.container_cgroups().is_empty(), "its tasks are ended");
    assert_eq!(mezzo_json(&cluster, &["maintenance", "status"])[0]["mode"], "down");

    // It waits for its machine, and joins by itself.
    cluster.start_agent_alone().expect("starts");
    cluster
        .wait("the agent to be refused", |cluster| {
            cluster.logs().contains("the machine is down for maintenance").then_some(())
        })
        .expect("refused");
    mezzo(&cluster, &["maintenance", "stop", machine]);
    cluster
        .wait("the agent to join", |cluster| (agent(cluster).1 == "active").then_some(()))
        .expect("joins");
    let status = probe.run(task("next").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFinished);
}

#[test]
fn a_process_tells_its_flags_and_logs_more_for_a_while() {
    let mut options = Options::default();
    options.master_flags.push("--offer-timeout=30secs".to_owned());
    let cluster = Cluster::start(options).expect("a cluster");
    let flags = request(&cluster, "GET", "/flags", &[], b"").body();
    let flags: Value = serde_json::from_str(&flags).expect("JSON");
    assert_eq!(flags["flags"]["offer_timeout"], "30secs");
    let called = ask(&cluster, "GET_FLAGS");
    let known = flags["flags"].as_object().expect("an object").len();
    assert_eq!(called["get_flags"]["flags"].as_array().map(Vec::len), Some(known));

    let level =
        |cluster: &Cluster| ask(cluster, "GET_LOGGING_LEVEL")["get_logging_level"]["level"].clone();
    assert_eq!(level(&cluster), 0);
    let set = |level: u32, nanoseconds: i64| {
        json!({ "type": "SET_LOGGING_LEVEL", "set_logging_level": {
            "level": level, "duration": { "nanoseconds": nanoseconds } } })
    };
    done(&cluster, &set(1, 3_600_000_000_000));
    assert_eq!(level(&cluster), 1);
    assert!(cluster.logs().contains("the verbosity of the log was set"), "{}", cluster.logs());
    // The newer order counts, and ends by itself.
    done(&cluster, &set(2, 1_000_000));
    let mut cluster = cluster;
    cluster
        .wait("the order to be over", |cluster| (level(cluster) == 0).then_some(()))
        .expect("over");
    let (code, message) = call(&cluster, &set(1, -1));
    assert_eq!((code, message.contains("negative")), (400, true), "{message}");
    let answer = request(&cluster, "POST", "/teardown", &[], b"frameworkId=nobody");
    assert_eq!((answer.code, answer.body().contains("No framework found")), (400, true));
}

fn post_to(address: &str, path: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: \
         close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer
}
