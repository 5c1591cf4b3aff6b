//! What subscribed operators hear: made once, encoded once in each encoding, shared by all who listen.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mezzo_proto::v1::master::Event;
use mezzo_proto::v1::master::event::{
    AgentAdded, AgentRemoved, FrameworkAdded, FrameworkRemoved, FrameworkUpdated, TaskAdded,
    TaskUpdated, Type,
};
use mezzo_proto::{json, recordio, v1};
use mezzo_types::AgentId;
use prost::Message;

use super::agent::AgentEntry;
use super::framework::FrameworkFacts;
use super::task::TaskEntry;
use crate::api::Encoding;

/// What happened, as cheap to note as can be: encoding is for those who listen.
#[derive(Debug)]
pub(super) enum Happening {
    TaskAdded(TaskEntry),
    TaskUpdated { framework: v1::FrameworkId, status: Arc<v1::TaskStatus>, state: i32 },
    AgentAdded(Arc<AgentEntry>),
    AgentRemoved(AgentId),
    FrameworkAdded(Arc<FrameworkFacts>),
    FrameworkUpdated(Arc<FrameworkFacts>),
    FrameworkRemoved(Arc<FrameworkFacts>),
}

/// A happening, with its RecordIO records once somebody wants them.
#[derive(Debug)]
pub(crate) struct EventCell {
    happening: Happening,
    protobuf: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
}

impl EventCell {
    pub(super) fn new(happening: Happening) -> EventCell {
        EventCell { happening, protobuf: OnceLock::new(), json: OnceLock::new() }
    }

    /// The whole record.
    pub(super) fn record(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Protobuf => self.protobuf.get_or_init(|| record(&self.event(), encoding)),
            Encoding::Json => self.json.get_or_init(|| record(&self.event(), encoding)),
        }
    }

    fn event(&self) -> Event {
        let of = |kind: Type| Event { r#type: Some(kind as i32), ..Event::default() };
        match &self.happening {
            Happening::TaskAdded(task) => {
                Event { task_added: Some(TaskAdded { task: task.decode() }), ..of(Type::TaskAdded) }
            }
            Happening::TaskUpdated { framework, status, state } => Event {
                task_updated: Some(TaskUpdated {
                    framework_id: framework.clone(),
                    status: (**status).clone(),
                    state: *state,
                }),
                ..of(Type::TaskUpdated)
            },
            Happening::AgentAdded(agent) => Event {
                agent_added: Some(AgentAdded { agent: agent.to_proto() }),
                ..of(Type::AgentAdded)
            },
            Happening::AgentRemoved(id) => Event {
                agent_removed: Some(AgentRemoved { agent_id: id.into() }),
                ..of(Type::AgentRemoved)
            },
            Happening::FrameworkAdded(facts) => Event {
                framework_added: Some(FrameworkAdded { framework: facts.to_proto() }),
                ..of(Type::FrameworkAdded)
            },
            Happening::FrameworkUpdated(facts) => Event {
                framework_updated: Some(FrameworkUpdated { framework: facts.to_proto() }),
                ..of(Type::FrameworkUpdated)
            },
            Happening::FrameworkRemoved(facts) => Event {
                framework_removed: Some(FrameworkRemoved { framework_info: facts.info.clone() }),
                ..of(Type::FrameworkRemoved)
            },
        }
    }
}

pub(super) fn record(event: &Event, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => recordio::encode(&json::to_vec(event)),
        Encoding::Protobuf => recordio::encode(&event.encode_to_vec()),
    }
}

/// Says that the stream is alive.
pub(super) fn heartbeat(encoding: Encoding) -> Bytes {
    record(&Event { r#type: Some(Type::Heartbeat as i32), ..Event::default() }, encoding)
}
