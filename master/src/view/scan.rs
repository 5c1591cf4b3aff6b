//! Fields of messages that this process encoded itself, found without decoding them.

use std::ops::Range;

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

#[cfg(test)]
mod tests {
    use mezzo_proto::v1;
    use prost::Message;

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
}
