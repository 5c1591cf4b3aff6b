//! Generates how each message of a gRPC method is decoded.

use std::collections::BTreeSet;
use std::fmt::Write;

use prost_types::FileDescriptorSet;

use crate::schema::Schema;

pub fn generate(schema: &Schema, set: &FileDescriptorSet) -> String {
    let services = set.file.iter().flat_map(|file| &file.service);
    let methods: Vec<_> = services.flat_map(|service| &service.method).collect();
    let taken: BTreeSet<&str> = methods.iter().map(|method| method.input_type()).collect();
    let given = methods.iter().map(|method| method.output_type());
    let given: BTreeSet<&str> = given.filter(|name| !taken.contains(name)).collect();
    let mut out = String::new();
    for (names, decode) in [(taken, "decode_checked(bytes)"), (given, "Ok(Self::decode(bytes)?)")] {
        for name in names {
            let rust = &schema.messages[name.trim_start_matches('.')].rust;
            let _ = writeln!(
                out,
                "impl FromWire for {rust} {{
                    fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError> {{ {decode} }}
                }}"
            );
        }
    }
    out
}
