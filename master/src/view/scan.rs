//! Fields of messages that this process encodes itself, found without decoding them and put without making a message.

use std::ops::Range;

use mezzo_legacy_json as legacy;
use mezzo_proto::v1;
use mezzo_types::{Resource, Resources, UNRESERVED_ROLE, Value};
use prost::Message;
use prost::encoding::{double as doubles, encoded_len_varint, int32};

/// A field as it lies in the encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    /// With its key.
    pub(super) whole: Range<usize>,
    /// Of a string, message or bytes field: its content. Empty for numbers.
    pub(super) content: Range<usize>,
    /// Of an integer, bool or enum field: its value.
    pub(super) varint: u64,
}

/// The fields in order; ends early where the bytes are no message.
pub(super) fn fields(bytes: &[u8]) -> impl Iterator<Item = Field> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at;
        let (key, next) = varint(bytes, begin)?;
        let mut field =
            Field { number: key >> 3, whole: begin..begin, content: next..next, varint: 0 };
        let end = match key & 7 {
            0 => {
                let (value, next) = varint(bytes, next)?;
                field.varint = value;
                next
            }
            1 => next.checked_add(8)?,
            2 => {
                let (length, next) = varint(bytes, next)?;
                let end = next.checked_add(usize::try_from(length).ok()?)?;
                field.content = next..end;
                end
            }
            5 => next.checked_add(4)?,
            _ => return None,
        };
        if end > bytes.len() {
            return None;
        }
        field.whole.end = end;
        at = end;
        Some(field)
    })
}

/// The content of the first field of that number.
pub(super) fn content(bytes: &[u8], number: u64) -> Option<&[u8]> {
    fields(bytes).find(|field| field.number == number).map(|field| &bytes[field.content])
}

/// The number that is the first field of that number.
pub(super) fn number(bytes: &[u8], number: u64) -> Option<u64> {
    fields(bytes).find(|field| field.number == number).map(|field| field.varint)
}

/// The eight bytes of the first field of that number, read as a double.
pub(super) fn double(bytes: &[u8], number: u64) -> Option<f64> {
    let field = fields(bytes).find(|field| field.number == number)?;
    let bytes = bytes.get(field.whole.end.checked_sub(8)?..field.whole.end)?;
    Some(f64::from_le_bytes(bytes.try_into().ok()?))
}

/// The text in the `value` of an id message that is the field of that number.
pub(super) fn id(bytes: &[u8], number: u64) -> Option<&str> {
    std::str::from_utf8(content(content(bytes, number)?, 1)?).ok()
}

fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// Appends the key and the length of a field whose content is `length` bytes.
pub(super) fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// Appends resources as fields of that number, as [`legacy::endpoint`] writes them.
pub(super) fn put_resources(out: &mut Vec<u8>, number: u32, resources: &Resources) {
    for resource in resources.iter() {
        if put_plain(out, number, resource) {
            continue;
        }
        let message = legacy::endpoint_resource(resource);
        put_head(out, number, message.encoded_len());
        message.encode_raw(out);
    }
}

/// Appends an amount that is nothing but an amount, which nearly all are: a message of it is half a dozen allocations.
fn put_plain(out: &mut Vec<u8>, number: u32, resource: &Resource) -> bool {
    let Resource { name, value, reservations, allocation_role, disk, .. } = resource;
    let Value::Scalar(amount) = value else { return false };
    let marked = resource.revocable || resource.shared || resource.provider_id.is_some();
    if marked || disk.is_some() || !reservations.is_empty() {
        return false;
    }
    // Numbers of `Resource`, and of the messages in it.
    const NAME: u32 = 1;
    const TYPE: u32 = 2;
    const SCALAR: u32 = 3;
    const ROLE: u32 = 6;
    const ALLOCATION: u32 = 11;
    const ALLOCATION_ROLE: u32 = 1;
    const SCALAR_LEN: usize = 9;
    let text = |text: &str| 1 + encoded_len_varint(text.len() as u64) + text.len();
    let allocation = allocation_role.as_deref().map(|role| (role, text(role)));
    let of_allocation =
        allocation.map_or(0, |(_, length)| 1 + encoded_len_varint(length as u64) + length);
    let length = text(name.as_str()) + 2 + 2 + SCALAR_LEN + text(UNRESERVED_ROLE) + of_allocation;
    put_head(out, number, length);
    put_text(out, NAME, name.as_str());
    int32::encode(TYPE, &(v1::value::Type::Scalar as i32), out);
    put_head(out, SCALAR, SCALAR_LEN);
    doubles::encode(1, &amount.to_f64(), out);
    put_text(out, ROLE, UNRESERVED_ROLE);
    if let Some((role, length)) = allocation {
        put_head(out, ALLOCATION, length);
        put_text(out, ALLOCATION_ROLE, role);
    }
    true
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    put_head(out, number, text.len());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_garbage_ends_the_search() {
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: "t".repeat(200) },
            state: v1::TaskState::TaskKilled as i32,
            timestamp: Some(12.5),
            ..v1::TaskStatus::default()
        };
        let bytes = status.encode_to_vec();
        assert_eq!(id(&bytes, 1), Some(status.task_id.value.as_str()));
        assert_eq!(number(&bytes, 2), Some(v1::TaskState::TaskKilled as u64));
        assert_eq!(double(&bytes, 6), Some(12.5));
        assert_eq!(fields(&bytes).last().map(|field| field.whole.end), Some(bytes.len()));
        assert_eq!(id(&bytes, 99), None);
        for cut in 0..bytes.len() {
            assert!(fields(&bytes[..cut]).all(|field| field.whole.end <= cut));
        }
        assert_eq!(fields(&[0xff; 20]).count(), 0);
    }

    #[test]
    fn heads_are_as_protobuf_writes_them() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 5_000_000] {
            let mut out = Vec::new();
            put_head(&mut out, 20, length);
            let mut expected = Vec::new();
            prost::encoding::encode_varint(20 << 3 | 2, &mut expected);
            prost::encoding::encode_varint(length as u64, &mut expected);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn resources_are_as_their_messages_are_encoded() {
        let mut resources = Resources::default();
        let long = "a-role-of-a-length-".repeat(8);
        for role in [None, Some("*"), Some("web/front"), Some(long.as_str())] {
            let texts = "cpus:0.123;mem:1e9;disk:5;gpus:2;a-name-of-its-own:7;ports:[1-2,5-9];set:{a,b};cpus(ads):1;disk(ads):9";
            for resource in Resources::parse(texts, "*").expect("resources").iter() {
                let allocation_role = role.map(Into::into);
                let resource = Resource { allocation_role, ..resource.clone() };
                let marked = Resource { revocable: true, ..resource.clone() };
                let provided = Resource { provider_id: Some("p".into()), ..resource.clone() };
                [resource, marked, provided].into_iter().for_each(|one| resources.insert(one));
            }
        }
        assert!(resources.iter().count() > 100);
        let mut out = Vec::new();
        put_resources(&mut out, 8, &resources);
        let expected = v1::master::response::get_agents::Agent {
            allocated_resources: legacy::endpoint(&resources),
            ..Default::default()
        };
        let whole = expected.encode_to_vec();
        let expected: Vec<u8> = fields(&whole)
            .filter(|field| field.number == 8)
            .flat_map(|field| whole[field.whole].to_vec())
            .collect();
        assert_eq!(out, expected);
    }
}
