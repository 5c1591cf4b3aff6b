//! How messages travel over gRPC: requests are checked as those over HTTP are.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::{DecodeError, decode_checked};

/// What tonic allocates for each call and each direction before the first message, and by which it grows: its own
/// 8 KiB twice, for each of 50,000 agents, would be 800 MB. Most messages of a stream are smaller than this; for a larger
/// one the buffer grows once.
const BUFFER_BYTES: usize = 512;
/// Messages that are ready are put together up to here before they leave. tonic's own value.
const TOGETHER_BYTES: usize = 32 * 1024;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES)
}

/// A message that a method takes or gives. The build script implements it: what servers take is
/// checked for required fields and size, what clients get back is not, since it comes from a server
/// that they chose and that may be newer.
pub trait FromWire: Sized {
    /// # Errors
    /// Bytes that are no such message.
    fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Not decoded: for whoever needs the bytes themselves.
impl FromWire for Bytes {
    fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

/// The codec of all generated clients and servers, and of those that take [`Bytes`].
#[derive(Debug, Clone)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Send + 'static,
    U: FromWire + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = CheckedCodec<T, U>;
    type Decoder = CheckedCodec<T, U>;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::default()
    }
}

impl<T: Message, U> Encoder for CheckedCodec<T, U> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl<T, U: FromWire> Decoder for CheckedCodec<T, U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        U::from_wire(&bytes).map(Some).map_err(|error| refusal(&error))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// What a caller hears whose bytes are no message.
pub fn refusal(error: &DecodeError) -> Status {
    Status::invalid_argument(format!("Failed to parse the message: {error}"))
}

include!(concat!(env!("OUT_DIR"), "/from_wire.rs"));
