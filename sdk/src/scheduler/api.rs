//! The scheduler API on the wire.

use std::time::Duration;

use tonic::transport::Channel;

use crate::endpoint::MAX_MESSAGE_BYTES;
use crate::error::ServerKind;
use crate::link::{self, Heard, Outcome, Pulse};
use crate::v1::scheduler::connect_response::Message;
use crate::v1::scheduler::scheduler_client::SchedulerClient;
use crate::v1::scheduler::{Call, ConnectRequest, ConnectResponse, Event, call, event};

pub(crate) struct Api;

/// Calls that change what a later SUBSCRIBE has to say.
#[derive(Debug)]
pub(crate) enum Note {
    Teardown,
    UpdateFramework(Box<call::UpdateFramework>),
    /// Without a role: all.
    Suppress(Vec<String>),
    Revive(Vec<String>),
}

impl link::Api for Api {
    const SERVER: ServerKind = ServerKind::Master;
    const HTTP_PATH: &'static str = "/api/v1/scheduler";
    const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

    type Call = Call;
    type Event = Event;
    type Request = ConnectRequest;
    type Response = ConnectResponse;
    type Note = Note;

    fn request(sequence: u64, call: Call) -> ConnectRequest {
        ConnectRequest { seq: sequence, call: Some(call) }
    }

    fn heard(response: ConnectResponse) -> Option<Heard<Self>> {
        Some(match response.message? {
            Message::Event(event) => Heard::Event(*event),
            Message::Result(result) => Heard::Outcome(Outcome {
                sequence: result.seq,
                code: result.code,
                message: result.message,
            }),
        })
    }

    fn connect(channel: Channel, requests: link::Requests<Self>) -> link::Connecting<Self> {
        let mut client = SchedulerClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Box::pin(async move { client.connect(requests).await.map(tonic::Response::into_inner) })
    }

    fn pulse(event: &Event) -> Pulse {
        let announced = event.subscribed.as_ref().map(|s| s.heartbeat_interval_seconds);
        match announced {
            Some(seconds) => {
                Pulse::Announced(seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()))
            }
            None if event.r#type == Some(event::Type::Heartbeat as i32) => Pulse::Beat,
            None => Pulse::Alive,
        }
    }

    fn note(call: &Call) -> Option<Note> {
        match call::Type::try_from(call.r#type?).ok()? {
            call::Type::Teardown => Some(Note::Teardown),
            call::Type::UpdateFramework => call.update_framework.clone().map(Note::UpdateFramework),
            call::Type::Suppress => {
                Some(Note::Suppress(call.suppress.clone().unwrap_or_default().roles))
            }
            call::Type::Revive => Some(Note::Revive(call.revive.clone().unwrap_or_default().roles)),
            _ => None,
        }
    }
}
