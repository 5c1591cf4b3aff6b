use std::fmt::Debug;

use bytes::Bytes;
use mezzo_proto::json::{self as mapping, JsonMessage};
use mezzo_proto::v1::{agent, executor, master, resource_provider, scheduler};
use mezzo_proto::{MAX_DECODED_BYTES, Required, decode_checked, decoded_size, raw};

/// A JSON text that is read says the same when it is written and read again, in either encoding.
pub(super) fn json(data: &[u8]) {
    check_json::<scheduler::Call>(data);
    check_json::<master::Call>(data);
    check_json::<agent::Call>(data);
    check_json::<executor::Call>(data);
    check_json::<resource_provider::Call>(data);
}

/// The same of what daemons say and clients read.
pub(super) fn json_answers(data: &[u8]) {
    check_json::<scheduler::Event>(data);
    check_json::<executor::Event>(data);
    check_json::<master::Event>(data);
    check_json::<master::Response>(data);
    check_json::<agent::Response>(data);
    check_json::<agent::ProcessIo>(data);
}

fn check_json<M: JsonMessage + Required + PartialEq + Debug>(data: &[u8]) {
    if let Ok(message) = mapping::from_slice::<M>(data) {
        fixpoint(&message);
        let bytes = message.encode_to_vec();
        let again: M = decode_checked(&bytes).expect("what JSON could say");
        assert_eq!(again.encode_to_vec(), bytes);
    }
}

/// Bytes that are decoded say the same when they are encoded and decoded again, in either encoding.
pub(super) fn protobuf(data: &[u8]) {
    if let Some(call) = check_bytes::<scheduler::Call>(data) {
        let mut tasks = Vec::new();
        for operation in call.accept.iter().flat_map(|accept| &accept.operations) {
            tasks.extend(operation.launch.iter().flat_map(|launch| &launch.task_infos));
            tasks.extend(operation.launch_group.iter().flat_map(|group| &group.task_group.tasks));
        }
        let raw = raw::task_infos(&Bytes::copy_from_slice(data)).expect("it was decoded");
        // A message in parts is put together when it is decoded, and the parts are seen one by one here.
        if raw.len() == tasks.len() {
            for (raw, task) in raw.iter().zip(tasks) {
                let raw = <mezzo_proto::v1::TaskInfo as prost::Message>::decode(raw.clone());
                let raw = raw.expect("it was decoded");
                assert_eq!(
                    prost::Message::encode_to_vec(&raw),
                    prost::Message::encode_to_vec(task)
                );
            }
        }
    }
    check_bytes::<master::Call>(data);
    check_bytes::<agent::Call>(data);
    check_bytes::<executor::Call>(data);
    check_bytes::<resource_provider::Call>(data);
    let _ = raw::connect_request(&Bytes::copy_from_slice(data));
}

/// The same of what daemons say and clients read.
pub(super) fn protobuf_answers(data: &[u8]) {
    check_bytes::<scheduler::Event>(data);
    check_bytes::<executor::Event>(data);
    check_bytes::<master::Event>(data);
    check_bytes::<master::Response>(data);
    check_bytes::<agent::Response>(data);
    check_bytes::<agent::ProcessIo>(data);
}

fn check_bytes<M: JsonMessage + Required + PartialEq + Debug>(data: &[u8]) -> Option<M> {
    let message: M = decode_checked(data).ok()?;
    assert!(decoded_size::<M>(data).expect("it was decoded") <= MAX_DECODED_BYTES);
    let bytes = message.encode_to_vec();
    let again = M::decode(bytes.as_slice()).expect("own bytes");
    assert_eq!(again.encode_to_vec(), bytes, "a second encoding says something else");
    let text = mapping::to_vec(&message);
    assert!(!text.contains(&b'\n'), "a newline would end a record of some clients");
    // Mesos' mapping has no word for what is no number.
    if !String::from_utf8_lossy(&text).contains("NaN") {
        fixpoint(&message);
    }
    Some(message)
}

/// Defaults are written out once; from then on nothing changes.
fn fixpoint<M: JsonMessage + PartialEq + Debug>(message: &M) {
    let text = mapping::to_vec(message);
    let again: M = match mapping::from_slice(&text) {
        Ok(again) => again,
        Err(error) => panic!("cannot read {}: {error}", String::from_utf8_lossy(&text)),
    };
    assert_eq!(String::from_utf8(mapping::to_vec(&again)), String::from_utf8(text));
}
