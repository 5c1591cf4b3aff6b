//! The executor API on the wire.

use std::time::Duration;

use tonic::transport::Channel;

use crate::endpoint::MAX_MESSAGE_BYTES;
use crate::error::ServerKind;
use crate::link::{self, Heard, Outcome, Pulse};
use crate::v1;
use crate::v1::executor::connect_response::Message;
use crate::v1::executor::executor_client::ExecutorClient;
use crate::v1::executor::{Call, ConnectRequest, ConnectResponse, Event, call, event};

pub(crate) struct Api;

/// An update, for whom its refusal is the end.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) uuid: prost::bytes::Bytes,
}

impl link::Api for Api {
    const SERVER: ServerKind = ServerKind::Agent;
    const HTTP_PATH: &'static str = "/api/v1/executor";
    /// As agents of Mesos send them.
    const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30 * 60);

    type Call = Call;
    type Event = Event;
    type Request = ConnectRequest;
    type Response = ConnectResponse;
    type Note = Update;

    fn request(sequence: u64, call: Call) -> ConnectRequest {
        ConnectRequest { seq: sequence, call: Some(call) }
    }

    fn heard(response: ConnectResponse) -> Option<Heard<Self>> {
        Some(match response.message? {
            Message::Event(event) => Heard::Event(event),
            Message::Result(result) => Heard::Outcome(Outcome {
                sequence: result.seq,
                code: result.code,
                message: result.message,
            }),
        })
    }

    fn connect(channel: Channel, requests: link::Requests<Self>) -> link::Connecting<Self> {
        let mut client = ExecutorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Box::pin(async move { client.connect(requests).await.map(tonic::Response::into_inner) })
    }

    fn pulse(event: &Event) -> Pulse {
        match event.r#type == Some(event::Type::Heartbeat as i32) {
            true => Pulse::Beat,
            false => Pulse::Alive,
        }
    }

    fn note(call: &Call) -> Option<Update> {
        call.update.as_ref()?.status.uuid.clone().map(|uuid| Update { uuid })
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) framework_id: v1::FrameworkId,
    pub(crate) executor_id: v1::ExecutorId,
}

impl Identity {
    pub(crate) fn call(&self, kind: call::Type) -> Call {
        Call {
            executor_id: self.executor_id.clone(),
            framework_id: self.framework_id.clone(),
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }

    pub(crate) fn update(&self, status: v1::TaskStatus) -> Call {
        Call { update: Some(call::Update { status }), ..self.call(call::Type::Update) }
    }
}
