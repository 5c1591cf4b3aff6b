//! Generates the tables of required fields that `decode_checked` walks.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::schema::{Cardinality, Kind, Message, Schema};

pub fn generate(schema: &Schema) -> String {
    let demanding = demanding(schema);
    let mut out = String::new();
    for message in schema.messages.values() {
        let _ = writeln!(
            out,
            "impl Required for {} {{ const SHAPE: &'static Shape = &{}; }}",
            message.rust,
            constant(message)
        );
        let _ = writeln!(out, "static {}: Shape = Shape {{ fields: &[", constant(message));
        for field in &message.fields {
            let required = field.label == Cardinality::Required;
            let inner = match &field.kind {
                Kind::Message(name) if demanding.contains(name.as_str()) => {
                    let inner = constant(&schema.messages[name]);
                    match field.label {
                        Cardinality::Map => format!("Inner::MapOf(&{inner})"),
                        Cardinality::Repeated => format!("Inner::Each(&{inner})"),
                        _ => format!("Inner::One(&{inner})"),
                    }
                }
                // A value that this release cannot name counts as none, as in Mesos.
                Kind::Enum(name) if required => {
                    format!("Inner::Enum({}::is_valid)", schema.enums[name].rust)
                }
                _ => "Inner::Opaque".to_owned(),
            };
            // Everything else needs no look at all.
            if required || inner != "Inner::Opaque" {
                let _ = writeln!(
                    out,
                    "FieldShape {{ number: {}, name: {:?}, required: {required}, inner: {inner} }},",
                    field.number, field.name
                );
            }
        }
        out.push_str("] };\n");
    }
    out
}

/// Messages that have a required field somewhere below.
fn demanding(schema: &Schema) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for message in schema.messages.values() {
            let demands = message.fields.iter().any(|field| {
                field.label == Cardinality::Required
                    || matches!(&field.kind, Kind::Message(name) if found.contains(name.as_str()))
            });
            if demands {
                found.insert(message.name.as_str());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn constant(message: &Message) -> String {
    message.name.replace('.', "_").to_uppercase()
}
