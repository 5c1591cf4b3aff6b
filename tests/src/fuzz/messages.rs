use std::fmt::Debug;

use bytes::Bytes;
use mezzo_proto::json::{self as mapping, JsonMessage};
use mezzo_proto::v1::{agent, executor, master, scheduler};
use mezzo_proto::{MAX_DECODED_BYTES, Required, decode_checked, decoded_size, raw};

/// A JSON text that is read says the same when it is written and read again, in either encoding.
pub(super) fn json(data: &[u8]) {
    fn check<M: JsonMessage + Required + PartialEq + Debug>(data: &[u8]) {
        if let Ok(message) = mapping::from_slice::<M>(data) {
            fixpoint(&message);
            let bytes = message.encode_to_vec();
            let again: M = decode_checked(&bytes).expect("what JSON could say");
            assert_eq!(again.encode_to_vec(), bytes);
        }
    }
    check::<scheduler::Call>(data);
    check::<master::Call>(data);
    check::<agent::Call>(data);
    check::<executor::Call>(data);
}

/// Bytes that are decoded say the same when they are encoded and decoded again, in either encoding.
pub(super) fn protobuf(data: &[u8]) {
    fn check<M: JsonMessage + Required + PartialEq + Debug>(data: &[u8]) -> Option<M> {
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
    if let Some(call) = check::<scheduler::Call>(data) {
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
    check::<scheduler::Event>(data);
    check::<master::Call>(data);
    check::<agent::Call>(data);
    check::<executor::Call>(data);
    let _ = raw::connect_request(&Bytes::copy_from_slice(data));
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
