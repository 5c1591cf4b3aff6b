//! The two encodings of a message.

use bytes::Bytes;
use mezzo_proto::json::{self, JsonMessage};
use prost::Message;

use crate::transport::Transport;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// None for a transport that is not HTTP.
    pub(crate) fn of(transport: Transport) -> Option<Self> {
        match transport {
            Transport::Grpc => None,
            Transport::Http => Some(Encoding::Protobuf),
            Transport::HttpJson => Some(Encoding::Json),
        }
    }

    pub(crate) fn mime(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }

    pub(crate) fn encode<M: Message + JsonMessage>(self, message: &M) -> Bytes {
        match self {
            Encoding::Protobuf => message.encode_to_vec().into(),
            Encoding::Json => json::to_vec(message).into(),
        }
    }

    /// What a server sent, which may be newer than this library: what it does not know is passed
    /// over. The error is a sentence.
    pub(crate) fn decode<M: Message + JsonMessage + Default>(
        self,
        bytes: &[u8],
    ) -> Result<M, String> {
        match self {
            Encoding::Protobuf => M::decode(bytes).map_err(|error| error.to_string()),
            Encoding::Json => json::from_slice(bytes).map_err(|error| error.to_string()),
        }
    }
}
