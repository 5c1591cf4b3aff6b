//! The readers' copy against plain maps, under load, and as JSON that was written by hand.

mod events;
mod json;
mod load;
mod model;

use mezzo_master_core::{AgentState, OfferNews, ViewChange};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::master::Response;
use mezzo_types::Resources;
use prost::Message;

use super::{Read, View};
use crate::api::Encoding;

const SECOND: i64 = 1_000_000_000;

fn framework(id: &str) -> ViewChange {
    let info = v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: id.to_owned() }),
        name: format!("name of {id}"),
        user: "root".to_owned(),
        roles: vec![format!("role-{id}")],
        capabilities: vec![v1::framework_info::Capability {
            r#type: Some(v1::framework_info::capability::Type::MultiRole as i32),
        }],
        ..v1::FrameworkInfo::default()
    };
    ViewChange::Framework {
        info,
        connected: true,
        active: true,
        recovered: false,
        registered_unix_ns: SECOND,
        reregistered_unix_ns: None,
    }
}

fn agent(id: &str, state: AgentState) -> ViewChange {
    ViewChange::Agent {
        info: v1::AgentInfo {
            id: Some(v1::AgentId { value: id.to_owned() }),
            hostname: format!("host-{id}"),
            port: Some(5051),
            ..v1::AgentInfo::default()
        },
        version: "1.11.0".to_owned(),
        state,
        since_unix_ns: 2 * SECOND,
        registered_unix_ns: 2 * SECOND,
        total: resources("cpus:8;mem:1024;ports:[31000-32000]", None),
        deactivated: false,
        drain: None,
    }
}

fn resources(text: &str, role: Option<&str>) -> Vec<v1::Resource> {
    let resources = Resources::parse(text, "*").expect("resources");
    match role {
        Some(role) => resources.allocate(role).to_proto(),
        None => resources.to_proto(),
    }
}

fn task(framework: &str, id: &str, agent: &str, state: TaskState) -> v1::Task {
    v1::Task {
        name: format!("name of {id}"),
        task_id: v1::TaskId { value: id.to_owned() },
        framework_id: v1::FrameworkId { value: framework.to_owned() },
        agent_id: v1::AgentId { value: agent.to_owned() },
        state: state as i32,
        resources: resources("cpus:0.5;mem:32", Some(&format!("role-{framework}"))),
        statuses: vec![v1::TaskStatus {
            task_id: v1::TaskId { value: id.to_owned() },
            state: state as i32,
            timestamp: Some(f64::from(state as i32)),
            ..v1::TaskStatus::default()
        }],
        ..v1::Task::default()
    }
}

fn offer(id: &str, framework: &str, agent: &str) -> v1::Offer {
    v1::Offer {
        id: v1::OfferId { value: id.to_owned() },
        framework_id: v1::FrameworkId { value: framework.to_owned() },
        agent_id: v1::AgentId { value: agent.to_owned() },
        hostname: format!("host-{agent}"),
        resources: resources("cpus:1;ports:[31000-31001]", Some(&format!("role-{framework}"))),
        ..v1::Offer::default()
    }
}

/// As the core tells it.
fn news(offer: v1::Offer) -> OfferNews {
    OfferNews {
        id: (&offer.id).into(),
        framework: (&offer.framework_id).into(),
        agent: (&offer.agent_id).into(),
        resources: Resources::from_proto(&offer.resources).expect("resources"),
        encoded: offer.encode_to_vec().into(),
    }
}

fn read(view: &View, read: Read) -> Response {
    let answer = view.snapshot_with_roles().response(read, Encoding::Protobuf);
    let bytes = answer.bytes;
    let whole = answer.concat();
    assert_eq!(whole.len(), bytes, "the length that was announced");
    let response = Response::decode(whole).expect("a response");
    let json = view.snapshot_with_roles().response(read, Encoding::Json).concat();
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let expected: serde_json::Value =
        serde_json::from_slice(&mezzo_proto::json::to_vec(&response)).expect("JSON");
    assert_eq!(without_empty_lists(json), expected, "both encodings say the same");
    response
}

/// The mapping of messages leaves empty lists out, Mesos' large answers do not.
fn without_empty_lists(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| *value != Value::Array(Vec::new()));
            kept.map(|(name, value)| (name, without_empty_lists(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_empty_lists).collect(),
        other => other,
    }
}
