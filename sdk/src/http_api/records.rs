//! The body of a streaming answer, taken apart.

use std::marker::PhantomData;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mezzo_proto::json::JsonMessage;
use mezzo_proto::recordio::Decoder;
use prost::Message;

use crate::endpoint::MAX_MESSAGE_BYTES;
use crate::http_api::Encoding;

/// Why no more records come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("the stream broke: {0}")]
    Broken(hyper::Error),
    #[error("{0}")]
    Unintelligible(String),
}

/// A stream of messages.
#[derive(Debug)]
pub(crate) struct Records<M> {
    body: Incoming,
    decoder: Decoder,
    encoding: Encoding,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + JsonMessage + Default> Records<M> {
    pub(crate) fn new(body: Incoming, encoding: Encoding) -> Self {
        let decoder = Decoder::new(MAX_MESSAGE_BYTES);
        Records { body, decoder, encoding, message: PhantomData }
    }

    /// The next message; None at the end of the stream. Cancel-safe: what has arrived of a message
    /// stays in the decoder.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, RecordsError> {
        loop {
            let record = self.decoder.next_record().map_err(unintelligible)?;
            if let Some(record) = record {
                return self.encoding.decode(&record).map(Some).map_err(unintelligible);
            }
            let frame = match self.body.frame().await {
                Some(frame) => frame.map_err(RecordsError::Broken)?,
                None => return Ok(None),
            };
            // Frames without data are trailers, which say nothing here.
            let data = frame.into_data().unwrap_or_else(|_| Bytes::new());
            self.decoder.push(&data);
        }
    }
}

fn unintelligible(problem: impl std::fmt::Display) -> RecordsError {
    RecordsError::Unintelligible(format!("what it streams cannot be read: {problem}"))
}
