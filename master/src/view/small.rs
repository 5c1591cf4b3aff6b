//! Offers, executors and operations as readers keep them; the latter as messages, for there are few.

use std::sync::Arc;

use mezzo_master_core::OfferNews;
use mezzo_proto::json::{self, JsonMessage};
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::get_executors;
use prost::Message;

use super::pages::{Entry, Form};
use mezzo_legacy_json as legacy;

/// An offer that is out, encoded, as it is with tasks.
#[derive(Debug)]
pub(super) struct OfferEntry(pub(super) OfferNews);

impl OfferEntry {
    fn decode(&self) -> v1::Offer {
        // The core encoded it itself.
        v1::Offer::decode(self.0.encoded.clone()).unwrap_or_default()
    }
}

fn put<'a>(message: &impl Message, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    // A Vec takes everything.
    message.encode(scratch).ok();
    scratch
}

fn put_json(message: &impl JsonMessage, form: Form, out: &mut Vec<u8>) {
    if form == Form::Json {
        out.extend_from_slice(&json::to_vec(message));
    }
}

impl Entry for Arc<OfferEntry> {
    fn protobuf<'a>(&'a self, _: &'a mut Vec<u8>) -> &'a [u8] {
        &self.0.encoded
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        match form {
            Form::Legacy => legacy::offer(out, &self.decode()),
            Form::Json => put_json(&self.decode(), form, out),
            _ => {}
        }
    }
}

impl Entry for Arc<v1::InverseOffer> {
    fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        put(&**self, scratch)
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        put_json(&**self, form, out);
    }
}

impl Entry for Arc<get_executors::Executor> {
    fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        put(&**self, scratch)
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        match form {
            Form::Legacy => legacy::executor(out, &self.executor_info, &self.agent_id),
            _ => put_json(&**self, form, out),
        }
    }
}

impl Entry for Arc<v1::Operation> {
    fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        put(&**self, scratch)
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        put_json(&**self, form, out);
    }
}
