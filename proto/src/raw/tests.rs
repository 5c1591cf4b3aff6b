use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{connect_request, task_infos};
use crate::v1::TaskInfo;

fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

fn task(name: &str, unknown: &[u8]) -> Vec<u8> {
    [field(1, name.as_bytes()), field(5000, unknown)].concat()
}

#[test]
fn tasks_come_out_byte_for_byte_without_a_copy() {
    let (a, b, c, d) = (task("a", b"new"), task("b", b""), task("c", b"!"), task("d", b"?"));
    let launch = field(2, &[field(1, &a), field(1, &b)].concat());
    // The group stands before the launch of the same operation; the launch still counts first.
    let group = field(7, &field(2, &field(1, &d)));
    let both = [group, field(2, &field(1, &c))].concat();
    let accept = field(4, &[field(2, &launch), field(2, &both)].concat());
    let call = Bytes::from([field(1, &field(1, b"F")), vec![0x10, 3], accept].concat());

    let found = task_infos(&call).unwrap();
    assert_eq!(found, [a, b, c, d]);
    let inside = call.as_ptr_range();
    assert!(found.iter().all(|part| inside.contains(&part.as_ptr())));
    // prost itself drops the unknown field.
    let again = TaskInfo::decode(found[0].clone()).unwrap().encode_to_vec();
    assert!(found[0].windows(3).any(|part| part == b"new"));
    assert!(!again.windows(3).any(|part| part == b"new"));
}

#[test]
fn a_call_that_launches_nothing_has_none() {
    assert!(task_infos(&Bytes::new()).unwrap().is_empty());
    let decline = Bytes::from([vec![0x10, 4], field(5, &field(1, &field(1, b"O")))].concat());
    assert!(task_infos(&decline).unwrap().is_empty());
}

#[test]
fn groups_and_fixed_fields_on_the_way_are_passed_over() {
    let mut call = BytesMut::new();
    encode_key(90, WireType::StartGroup, &mut call);
    encode_key(90, WireType::EndGroup, &mut call);
    encode_key(91, WireType::SixtyFourBit, &mut call);
    call.extend_from_slice(&[0; 8]);
    call.extend_from_slice(&field(4, &field(2, &field(2, &field(1, &task("a", b""))))));
    assert_eq!(task_infos(&call.freeze()).unwrap().len(), 1);
}

#[test]
fn the_call_of_a_request_comes_out_byte_for_byte() {
    let call = field(99, b"new");
    let request = Bytes::from([vec![0x08, 7], field(2, &call)].concat());
    let (seq, found) = connect_request(&request).unwrap();
    assert_eq!((seq, &*found), (7, &*call));
    assert!(request.as_ptr_range().contains(&found.as_ptr()), "copied");
    let parts = Bytes::from([field(2, &call), field(2, b"\x10\x01")].concat());
    assert_eq!(connect_request(&parts).unwrap(), (0, [&*call, b"\x10\x01"].concat().into()));
    assert_eq!(connect_request(&Bytes::new()).unwrap(), (0, Bytes::new()));
    assert!(connect_request(&Bytes::from_static(b"\x12\x05a")).is_err());
}
