use bytes::Bytes;
use mezzo_proto::recordio::{Decoder, RecordError, encode};

/// Longest record.
const LIMIT: usize = 4096;

/// However a stream is cut, the same records come out, and they go in again.
pub(super) fn recordio(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = decode([stream]);
    let cut = decode(stream.chunks(usize::from(*cut) + 1));
    assert_eq!(whole, cut, "the pieces in which a stream comes make a difference");
    let (records, _) = whole;
    let again: Vec<Bytes> = records.iter().map(|record| encode(record)).collect();
    let (same, end) = decode(again.iter().map(|record| &record[..]));
    assert_eq!((same, end), (records, Ok(())));
}

type Decoded = (Vec<Bytes>, Result<(), RecordError>);

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(LIMIT);
    let mut records = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_record() {
                Ok(Some(record)) => {
                    assert!(record.len() <= LIMIT, "longer than the limit");
                    records.push(record);
                }
                Ok(None) => break,
                // How much of bad bytes is shown depends on what has come.
                Err(RecordError::BadLength { .. }) => {
                    return (records, Err(RecordError::BadLength { got: String::new() }));
                }
                Err(error) => return (records, Err(error)),
            }
        }
    }
    (records, decoder.finish())
}
