//! A look at protobuf bytes field by field, where a decoded message no longer shows what was there.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// What a field holds on the wire.
pub enum Wire<'a> {
    Varint(u64),
    /// A string, bytes, a message or a packed list.
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of an encoded message in the order in which they were written.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), prost::DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Wire<'a>), prost::DecodeError> {
        let (number, kind) = decode_key(&mut self.0)?;
        let start = self.0;
        let wire = match kind {
            WireType::Varint => Wire::Varint(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                skip_field(kind, number, &mut self.0, DecodeContext::default())?;
                let whole = &start[..start.len() - self.0.len()];
                let mut payload = whole;
                decode_varint(&mut payload)?;
                Wire::Bytes(payload)
            }
            _ => {
                skip_field(kind, number, &mut self.0, DecodeContext::default())?;
                Wire::Fixed
            }
        };
        Ok((number, wire))
    }
}
