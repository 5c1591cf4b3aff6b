use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Missing, RecordError, encode};

fn drain(decoder: &mut Decoder) -> Result<Vec<Bytes>, RecordError> {
    let mut records = Vec::new();
    while let Some(record) = decoder.next_record()? {
        records.push(record);
    }
    Ok(records)
}

#[track_caller]
fn fails(stream: &[u8], error: RecordError) {
    let mut decoder = Decoder::new(1000);
    decoder.push(stream);
    assert_eq!(drain(&mut decoder), Err(error.clone()));
    // There is no way back into the stream.
    decoder.push(b"1\nx");
    assert_eq!(decoder.next_record(), Err(error.clone()));
    assert_eq!(decoder.finish(), Err(error));
}

fn bad(got: &str) -> RecordError {
    RecordError::BadLength { got: got.to_owned() }
}

#[test]
fn a_record_carries_its_length() {
    assert_eq!(encode(b"{}"), "2\n{}");
    assert_eq!(encode(b""), "0\n");
    assert_eq!(encode(&[b'x'; 128])[..4], *b"128\n");
}

#[test]
fn records_come_out_as_soon_as_they_are_complete() {
    let mut decoder = Decoder::new(1000);
    decoder.push(b"5\nhel");
    assert_eq!(decoder.next_record(), Ok(None));
    decoder.push(b"lo0\n3\nabc1");
    assert_eq!(drain(&mut decoder).unwrap(), ["hello", "", "abc"]);
    decoder.push(b"0\n0123456789");
    assert_eq!(drain(&mut decoder).unwrap(), ["0123456789"]);
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn a_length_is_digits_and_a_newline() {
    fails(b"\n", bad("\n"));
    fails(b"x", bad("x"));
    fails(b"-1\nx", bad("-1\nx"));
    fails(b"1 \nx", bad("1 \nx"));
    fails(b"1\r\nx", bad("1\r\nx"));
    fails(b"+1\nx", bad("+1\nx"));
    fails(b"HTTP/1.1 200 OK\r\n", bad("HTTP/1.1 200 OK\r\n"));
    fails(b"000000000000000000001\nx", bad("000000000000000000001"));
    // One more than u64 holds.
    fails(b"18446744073709551616\n", bad("18446744073709551616\n"));
}

#[test]
fn a_record_within_the_limit_passes_and_a_longer_one_fails_at_its_length() {
    let mut decoder = Decoder::new(1000);
    decoder.push(&encode(&[7; 1000]));
    assert_eq!(drain(&mut decoder).unwrap()[0].len(), 1000);
    fails(b"1001\n", RecordError::TooLong { length: 1001, limit: 1000 });
    fails(b"18446744073709551615\n", RecordError::TooLong { length: u64::MAX, limit: 1000 });
}

#[test]
fn an_early_end_is_told() {
    let end = |stream: &[u8]| {
        let mut decoder = Decoder::new(1000);
        decoder.push(stream);
        drain(&mut decoder).unwrap();
        decoder.finish()
    };
    assert_eq!(end(b""), Ok(()));
    assert_eq!(end(b"1\nx"), Ok(()));
    assert_eq!(end(b"1\nx12"), Err(RecordError::Truncated { missing: Missing::Length }));
    let error = end(b"10\n1234").unwrap_err();
    assert_eq!(error, RecordError::Truncated { missing: Missing::Bytes(6) });
    assert_eq!(error.to_string(), "stream ended inside a record: 6 bytes are missing");
}

proptest! {
    #[test]
    fn any_split_gives_the_same_records(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        piece in 1usize..30,
    ) {
        let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
        let mut decoder = Decoder::new(40);
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            decoder.push(piece);
            found.extend(drain(&mut decoder).unwrap());
        }
        prop_assert_eq!(found, records);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }
}
