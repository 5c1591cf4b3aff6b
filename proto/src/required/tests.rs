use bytes::Bytes;
use prost::Message;

use super::{DecodeError, decode_checked};
use crate::v1::scheduler::{Call, Event};
use crate::v1::{ContainerId, TaskInfo, TaskState, TaskStatus, scheduler};

#[track_caller]
fn missing<T: super::Required>(bytes: &[u8], fields: &[&str]) {
    let expected =
        DecodeError::Missing { fields: fields.iter().map(|f| (*f).to_owned()).collect() };
    assert_eq!(decode_checked::<T>(bytes).err(), Some(expected));
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| (b as char).to_digit(16).expect("a hex digit") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Bytes as Google's implementation writes them from Mesos' own `.proto` files.
mod vectors {
    use super::*;

    #[test]
    fn subscribe() {
        // type = 1; subscribe { framework_info { user, name } }
        let bytes = unhex("1001 1a08 0a06 0a0175 12016e");
        let call: Call = decode_checked(&bytes).unwrap();
        assert_eq!(call.r#type(), scheduler::call::Type::Subscribe);
        let info = &call.subscribe.as_ref().unwrap().framework_info;
        assert_eq!((info.user.as_str(), info.name.as_str()), ("u", "n"));
        assert_eq!(info.role(), "*");
        assert_eq!(call.encode_to_vec(), bytes);
    }

    #[test]
    fn accept() {
        let bytes = unhex(
            "0a03 0a0146 1003 2256
               0a04 0a024f31
               1243 0801
                 123f 0a3d
                   0a0174 1204 0a025431 1a03 0a0141
                   2213 0a0463707573 1000 1a09 09000000000000e03f
                   3a06 1a0474727565
                   7a10 0a036d656d 1209 090000000000005040
               1a09 09000000000000f03f",
        );
        let call: Call = decode_checked(&bytes).unwrap();
        let accept = call.accept.as_ref().unwrap();
        assert_eq!(accept.offer_ids[0].value, "O1");
        assert_eq!(accept.filters.as_ref().unwrap().refuse_seconds, Some(1.0));
        let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
        assert_eq!(task.task_id.value, "T1");
        assert_eq!(task.resources[0].scalar.as_ref().unwrap().value, 0.5);
        assert_eq!(task.command.as_ref().unwrap().value(), "true");
        assert_eq!(task.limits["mem"].value, 64.0);
        assert_eq!(call.encode_to_vec(), bytes);
    }

    #[test]
    fn update() {
        let bytes = unhex(
            "0804 2a31 0a2f
               0a04 0a025431 1003 22016d 2a03 0a0141 31000000000000f83f 4802 5008
               5a10 000102030405060708090a0b0c0d0eff",
        );
        let event: Event = decode_checked(&bytes).unwrap();
        let status = &event.update.as_ref().unwrap().status;
        assert_eq!(status.state(), TaskState::TaskFailed);
        assert_eq!(status.uuid().len(), 16);
        assert_eq!(status.timestamp(), 1.5);
        assert_eq!(event.encode_to_vec(), bytes);
    }

    #[test]
    fn offers() {
        let bytes = unhex(
            "0802 1a36 0a34
               0a04 0a024f31 1203 0a0146 1a03 0a0141 220168
               2a1a 0a05706f727473 1001 220a 0a08 0898f201 1080fa01 5a03 0a0172
               5203 0a0172",
        );
        let event: Event = decode_checked(&bytes).unwrap();
        let offer = &event.offers.as_ref().unwrap().offers[0];
        let range = &offer.resources[0].ranges.as_ref().unwrap().range[0];
        assert_eq!((range.begin, range.end), (31000, 32000));
        assert_eq!(offer.allocation_info.as_ref().unwrap().role(), "r");
        assert_eq!(event.encode_to_vec(), bytes);
    }
}

#[test]
fn an_empty_message_misses_all_its_own() {
    missing::<TaskStatus>(b"", &["task_id", "state"]);
    missing::<TaskInfo>(b"", &["name", "task_id", "agent_id"]);
    assert!(decode_checked::<Call>(b"").is_ok());
}

#[test]
fn a_required_enum_without_a_known_name_is_missing() {
    // task_id { value: "t" }, state = 99
    missing::<TaskStatus>(&unhex("0a03 0a0174 1063"), &["state"]);
    // state = 99, then state = 1
    assert!(decode_checked::<TaskStatus>(&unhex("0a03 0a0174 1063 1001")).is_ok());
}

#[test]
fn paths_name_items_and_keys() {
    // accept { offer_ids {} offer_ids { value } offer_ids {} }
    missing::<Call>(
        &unhex("2209 0a00 0a03 0a0161 0a00"),
        &["accept.offer_ids[0].value", "accept.offer_ids[2].value"],
    );
    // name, task_id, agent_id, limits { key: "mem", value {} }
    missing::<TaskInfo>(
        &unhex("0a0174 1203 0a0174 1a03 0a0161 7a07 0a036d656d 1200"),
        &["limits[\"mem\"].value"],
    );
}

#[test]
fn an_entry_of_a_map_may_leave_out_a_default_value() {
    let mut task = TaskInfo::default();
    task.limits.insert("mem".to_owned(), crate::v1::value::Scalar { value: 0.0 });
    assert_eq!(decode_checked::<TaskInfo>(&task.encode_to_vec()), Ok(task));
}

#[test]
fn a_message_in_two_parts_is_the_sum_of_both() {
    // kill { task_id { value: "t" } } is split into kill {} and kill { task_id {…} }
    assert!(decode_checked::<Call>(&unhex("3200 3205 0a03 0a0174")).is_ok());
    missing::<Call>(&unhex("3200 3200"), &["kill.task_id"]);
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        (1..levels).fold(ContainerId { value: "c".to_owned(), parent: None }, |parent, _| {
            ContainerId { value: "c".to_owned(), parent: Some(Box::new(parent)) }
        })
    };
    let deepest = nested(crate::MAX_DEPTH).encode_to_vec();
    assert!(decode_checked::<ContainerId>(&deepest).is_ok());
    let deeper = nested(crate::MAX_DEPTH + 1).encode_to_vec();
    let limit = crate::MAX_DEPTH;
    assert_eq!(decode_checked::<ContainerId>(&deeper), Err(DecodeError::TooDeep { limit }));
    let much_deeper = nested(2000).encode_to_vec();
    assert_eq!(decode_checked::<ContainerId>(&much_deeper), Err(DecodeError::TooDeep { limit }));
}

#[test]
fn of_several_values_of_a_required_enum_the_last_one_counts() {
    // name = "p"; type = SCALAR, and a type that nobody knows.
    let (known, unknown) = ("0a0170 1000", "0a0170 1063");
    assert!(decode_checked::<crate::v1::Resource>(&unhex(&format!("{unknown} {known}"))).is_ok());
    missing::<crate::v1::Resource>(&unhex(&format!("{known} {unknown}")), &["type"]);
}

#[test]
fn memory_is_bounded_before_it_is_taken() {
    // Empty operations: two bytes each on the wire, and in memory as large as any.
    let operation = size_of::<crate::v1::offer::Operation>();
    let call = |operations: usize| {
        let mut call = vec![0x22];
        prost::encoding::encode_varint(2 * operations as u64, &mut call);
        call.extend(std::iter::repeat_n([0x12, 0], operations).flatten());
        call
    };
    let bytes = call(1000);
    let size = super::decoded_size::<Call>(&bytes).unwrap();
    assert_eq!(size, size_of::<Call>() + bytes.len() + 1000 * operation);
    assert_eq!(decode_checked::<Call>(&bytes).unwrap().accept.unwrap().operations.len(), 1000);
    let limit = super::MAX_DECODED_BYTES;
    let bomb = call(limit / operation);
    assert_eq!(decode_checked::<Call>(&bomb), Err(DecodeError::TooLarge { limit }));
}

#[test]
fn the_list_of_missing_fields_is_bounded() {
    // A thousand empty offer ids.
    let mut accept = Vec::new();
    (0..1000).for_each(|_| accept.extend_from_slice(&[0x0a, 0]));
    let mut call = unhex("22d00f");
    call.extend_from_slice(&accept);
    let Err(DecodeError::Missing { fields }) = decode_checked::<Call>(&call) else {
        panic!("accepted");
    };
    assert_eq!(fields.len(), super::MAX_MISSING);
}

#[test]
fn truncated_bytes_are_malformed() {
    let error = decode_checked::<Call>(&unhex("1001 1a08 0a")).unwrap_err();
    assert!(error.to_string().starts_with("invalid protobuf: "), "{error}");
    let bytes: Bytes = unhex("2205 0a").into();
    assert!(crate::raw::task_infos(&bytes).is_err());
}
