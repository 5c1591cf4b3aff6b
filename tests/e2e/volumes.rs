//! Reservations and persistent volumes over HTTP, as a stateful framework uses them: the data outlives
//! tasks, daemons and boots, and goes when it is told to.

use std::path::PathBuf;

use mezzo_tests::{Cluster, Options};
use serde_json::{Value, json};

use crate::http::{Answer, JSON, SCHEDULER, request};

/// A framework of role `db` on a subscription.
struct Client {
    framework: Option<String>,
    id: String,
    stream: Answer,
    /// Events that were read while another was waited for.
    events: Vec<Value>,
}

impl Client {
    fn subscribe(cluster: &Cluster, framework: Option<&str>) -> Client {
        let mut info = json!({
            "user": "nobody", "name": "db", "roles": ["db"], "failover_timeout": 600,
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"},
                             {"type": "PARTITION_AWARE"}],
        });
        let mut call = json!({"type": "SUBSCRIBE"});
        if let Some(framework) = framework {
            info["id"] = json!({"value": framework});
            call["framework_id"] = json!({"value": framework});
        }
        call["subscribe"] = json!({"framework_info": info});
        let headers = [JSON, ("Accept", "application/json")];
        let stream = request(cluster, "POST", SCHEDULER, &headers, call.to_string().as_bytes());
        assert_eq!(stream.code, 200);
        let id = stream.header("mesos-stream-id").expect("a stream id").to_owned();
        let mut client = Client { framework: None, id, stream, events: Vec::new() };
        let subscribed = client.until("SUBSCRIBED", |_| true);
        let id = &subscribed["subscribed"]["framework_id"]["value"];
        client.framework = Some(id.as_str().expect("an id").to_owned());
        client
    }

    fn call(&self, cluster: &Cluster, kind: &str, field: &str, body: Value) {
        let mut call = json!({"type": kind, "framework_id": {"value": self.framework}});
        call[field] = body;
        let headers = [JSON, ("Mesos-Stream-Id", self.id.as_str())];
        let answer = request(cluster, "POST", SCHEDULER, &headers, call.to_string().as_bytes());
        let code = answer.code;
        assert_eq!(code, 202, "{kind}: {}", answer.body());
    }

    /// The next event of this type for which `wanted` holds; task updates are acknowledged on the way
    /// by who looks for them.
    fn until(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let fits = |event: &Value| event["type"] == kind && wanted(event);
        if let Some(at) = self.events.iter().position(fits) {
            return self.events.remove(at);
        }
        loop {
            let event: Value = serde_json::from_slice(&self.stream.record()).expect("JSON");
            if fits(&event) {
                return event;
            }
            self.events.push(event);
        }
    }

    /// An offer that has a resource like this.
    fn offer(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let has = |offer: &Value| {
            offer["resources"].as_array().is_some_and(|all| all.iter().any(&wanted))
        };
        let offers = |event: &Value| event["offers"]["offers"].as_array().cloned();
        let event = self
            .until("OFFERS", |event| offers(event).is_some_and(|offers| offers.iter().any(has)));
        offers(&event).and_then(|all| all.into_iter().find(has)).expect("it was there")
    }

    fn accept(&self, cluster: &Cluster, offer: &Value, operations: Value) {
        let filters = json!({"refuse_seconds": 0});
        let body =
            json!({"offer_ids": [offer["id"]], "operations": operations, "filters": filters});
        self.call(cluster, "ACCEPT", "accept", body);
    }

    fn acknowledge(&self, cluster: &Cluster, status: &Value) {
        let body = json!({"agent_id": status["agent_id"], "task_id": status["task_id"],
                          "uuid": status["uuid"]});
        self.call(cluster, "ACKNOWLEDGE", "acknowledge", body);
    }

    /// Follows a task to its end.
    fn end_of(&mut self, cluster: &Cluster, task: &str) -> Value {
        loop {
            let event = self.until("UPDATE", |e| e["update"]["status"]["task_id"]["value"] == task);
            let status = event["update"]["status"].clone();
            if !status["uuid"].is_null() {
                self.acknowledge(cluster, &status);
            }
            let state = status["state"].as_str().expect("a state");
            if !matches!(state, "TASK_STARTING" | "TASK_RUNNING" | "TASK_STAGING") {
                return status;
            }
        }
    }

    fn status_of(&mut self, operation: &str) -> Value {
        let event = self.until("UPDATE_OPERATION_STATUS", |event| {
            event["update_operation_status"]["status"]["operation_id"]["value"] == operation
        });
        event["update_operation_status"]["status"].clone()
    }

    fn acknowledge_operation(&self, cluster: &Cluster, status: &Value) {
        let body = json!({"agent_id": status["agent_id"], "operation_id": status["operation_id"],
                          "uuid": status["uuid"]["value"]});
        let kind = "ACKNOWLEDGE_OPERATION_STATUS";
        self.call(cluster, kind, "acknowledge_operation_status", body);
    }
}

fn reserved(name: &str, amount: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": amount},
           "reservations": [{"type": "DYNAMIC", "role": "db"}]})
}

fn volume() -> Value {
    let mut volume = reserved("disk", 64.0);
    volume["disk"] = json!({"persistence": {"id": "v-1"},
                            "volume": {"mode": "RW", "container_path": "data"}});
    volume
}

fn is_volume(resource: &Value) -> bool {
    resource["disk"]["persistence"]["id"] == "v-1"
}

fn is_reserved(name: &'static str) -> impl Fn(&Value) -> bool {
    move |resource| resource["name"] == name && !resource["reservations"][0].is_null()
}

fn launch(task: &str, offer: &Value, command: &str) -> Value {
    let plain = |name: &str, amount: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": amount}});
    json!({"type": "LAUNCH", "launch": {"task_infos": [{
        "name": task, "task_id": {"value": task}, "agent_id": offer["agent_id"],
        "resources": [plain("cpus", 0.1), plain("mem", 32.0), volume()],
        "command": {"value": command},
    }]}})
}

fn with_id(mut operation: Value, id: &str) -> Value {
    operation["id"] = json!({"value": id});
    operation
}

fn data(cluster: &Cluster) -> PathBuf {
    cluster.agent_work_dir().join("volumes/roles/db/v-1")
}

#[test]
fn a_volume_outlives_tasks_and_daemons_and_goes_when_it_is_destroyed() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut client = Client::subscribe(&cluster, None);
    let offer = client.offer(|resource| resource["name"] == "disk");
    let reserve = json!({"type": "RESERVE", "reserve": {"resources": [reserved("disk", 100.0)]}});
    let create = json!({"type": "CREATE", "create": {"volumes": [volume()]}});
    let write = launch("writer", &offer, "test -O data/. && echo precious > data/file");
    client.accept(&cluster, &offer, json!([with_id(reserve, "r"), with_id(create, "c"), write]));
    for operation in ["r", "c"] {
        let status = client.status_of(operation);
        assert_eq!(status["state"], "OPERATION_FINISHED", "{status}");
        client.acknowledge_operation(&cluster, &status);
    }
    let ended = client.end_of(&cluster, "writer");
    assert_eq!(ended["state"], "TASK_FINISHED", "{ended}");
    let file = data(&cluster).join("file");
    assert_eq!(std::fs::read(&file).expect("the data"), b"precious\n");

    // Both daemons die; the framework comes back to a new master and an agent that was started again.
    cluster.kill_master().expect("kills");
    cluster.kill_agent().expect("kills");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    let framework = client.framework.clone();
    let mut client = Client::subscribe(&cluster, framework.as_deref());
    let offer = client.offer(is_volume);
    let read = launch("reader", &offer, "test \"$(cat data/file)\" = precious");
    client.accept(&cluster, &offer, json!([read]));
    let ended = client.end_of(&cluster, "reader");
    assert_eq!(ended["state"], "TASK_FINISHED", "{ended}");

    // What is known of operations, and of one that never was.
    let asked =
        json!({"operations": [{"operation_id": {"value": "r"}, "agent_id": offer["agent_id"]}]});
    client.call(&cluster, "RECONCILE_OPERATIONS", "reconcile_operations", asked);
    let status = client.status_of("r");
    assert_eq!(status["state"], "OPERATION_UNKNOWN", "acknowledged operations are over: {status}");
    assert!(status["uuid"].is_null());

    let offer = client.offer(is_volume);
    let destroy = json!({"type": "DESTROY", "destroy": {"volumes": [volume()]}});
    let taken = json!({"type": "CREATE", "create": {"volumes": [volume()]}});
    let operations = json!([with_id(taken, "taken"), with_id(destroy, "d")]);
    client.accept(&cluster, &offer, operations);
    let refused = client.status_of("taken");
    assert_eq!(refused["state"], "OPERATION_ERROR", "{refused}");
    let status = client.status_of("d");
    assert_eq!(status["state"], "OPERATION_FINISHED", "{status}");
    assert!(!data(&cluster).exists(), "the data is gone before it is told");
    client.acknowledge_operation(&cluster, &status);
    let removed = cluster.agent_work_dir().join("volumes/.removed");
    let emptied = |_: &Cluster| (removed.read_dir().ok()?.count() == 0).then_some(());
    cluster.wait("the data to be deleted", emptied).expect("deleted");
}

#[test]
fn operators_reserve_and_make_volumes() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let operator = |call: Value| {
        let answer = request(&cluster, "POST", "/api/v1", &[JSON], call.to_string().as_bytes());
        (answer.code, answer.body())
    };
    let (code, agents) = operator(json!({"type": "GET_AGENTS"}));
    assert_eq!(code, 200);
    let agents: Value = serde_json::from_str(&agents).expect("JSON");
    let agent = &agents["get_agents"]["agents"][0]["agent_info"]["id"];
    let reserve = |amount: f64| {
        json!({"type": "RESERVE_RESOURCES", "reserve_resources":
            {"agent_id": agent, "resources": [reserved("disk", amount)]}})
    };
    assert_eq!(operator(reserve(128.0)).0, 202);
    let (code, message) = operator(reserve(1e9));
    assert_eq!(code, 409, "{message}");
    let create = json!({"type": "CREATE_VOLUMES",
                        "create_volumes": {"agent_id": agent, "volumes": [volume()]}});
    assert_eq!(operator(create.clone()).0, 202);
    let (code, message) = operator(create);
    assert_eq!(code, 400, "{message}");
    assert!(message.contains("the persistence id 'v-1' is in use"), "{message}");
    // A framework of the role is offered both.
    let mut client = Client::subscribe(&cluster, None);
    client.offer(|resource| is_volume(resource) && data(&cluster).is_dir());
    let destroy = json!({"type": "DESTROY_VOLUMES",
                         "destroy_volumes": {"agent_id": agent, "volumes": [volume()]}});
    assert_eq!(operator(destroy).0, 202);
    client.until("RESCIND", |_| true);
    let unreserve = json!({"type": "UNRESERVE_RESOURCES", "unreserve_resources":
        {"agent_id": agent, "resources": [reserved("disk", 128.0)]}});
    assert_eq!(operator(unreserve).0, 202);
    client.offer(|resource| resource["name"] == "disk" && !is_reserved("disk")(resource));
    let (code, message) = operator(json!({"type": "UNRESERVE_RESOURCES"}));
    assert_eq!((code, message.as_str()), (400, "Expecting 'unreserve_resources' to be present"));
}

#[test]
fn an_agent_keeps_its_reservations_when_it_is_configured_anew() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut client = Client::subscribe(&cluster, None);
    let offer = client.offer(|resource| resource["name"] == "disk");
    let reserve = json!({"type": "RESERVE", "reserve": {"resources": [reserved("disk", 60000.0)]}});
    client.accept(&cluster, &offer, json!([with_id(reserve, "r")]));
    let status = client.status_of("r");
    assert_eq!(status["state"], "OPERATION_FINISHED", "{status}");
    client.acknowledge_operation(&cluster, &status);
    cluster.kill_agent().expect("kills");
    cluster.options().resources = "cpus:64;mem:65536;disk:70000;ports:[31000-31999]".to_owned();
    cluster.set_agent_flags(&["--reconfiguration-policy=additive"]);
    cluster.start_agent().expect("starts");
    let has =
        |amount: f64| move |r: &Value| is_reserved("disk")(r) && r["scalar"]["value"] == amount;
    let offer = client
        .offer(|resource| resource["name"] == "disk" && resource["scalar"]["value"] == 10000.0);
    assert!(offer["resources"].as_array().expect("resources").iter().any(has(60000.0)), "{offer}");
}
