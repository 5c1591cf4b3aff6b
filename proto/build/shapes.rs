//! Generates the tables of required and repeated fields that `decode_checked` walks.

use std::fmt::Write;

use crate::schema::{Cardinality, Field, Kind, Message, Schema};

pub fn generate(schema: &Schema) -> String {
    let mut out = String::new();
    for message in schema.messages.values() {
        let _ = writeln!(
            out,
            "impl Required for {} {{ const SHAPE: &'static Shape = &{}; }}",
            message.rust,
            constant(message)
        );
        let _ = writeln!(out, "static {}: Shape = Shape {{ fields: &[", constant(message));
        let mut fields: Vec<&Field> = message.fields.iter().collect();
        // The walk looks fields up by bisection.
        fields.sort_by_key(|field| field.number);
        for field in fields {
            let required = field.label == Cardinality::Required;
            let inner = match &field.kind {
                Kind::Message(name) if schema.messages.contains_key(name) => {
                    let inner = constant(&schema.messages[name]);
                    match field.label {
                        Cardinality::Map => format!("Inner::MapOf(&{inner})"),
                        Cardinality::Repeated => format!("Inner::Each(&{inner})"),
                        _ => format!("Inner::One(&{inner})"),
                    }
                }
                Kind::Scalar | Kind::Enum(_) if field.label == Cardinality::Repeated => {
                    "Inner::Numbers".to_owned()
                }
                // A value that this release cannot name counts as none, as in Mesos.
                Kind::Enum(name) if required => {
                    format!("Inner::Enum({}::is_valid)", schema.enums[name].rust)
                }
                _ => "Inner::Opaque".to_owned(),
            };
            let element = element(schema, message, field);
            // Everything else needs no look at all.
            if required || element != "0" || inner != "Inner::Opaque" {
                let _ = writeln!(
                    out,
                    "FieldShape {{ number: {}, name: {:?}, required: {required}, inner: {inner}, element: {element} }},",
                    field.number, field.name
                );
            }
        }
        out.push_str("] };\n");
    }
    out
}

/// Bytes of memory that one value takes besides its own bytes and outside of the message that holds it.
fn element(schema: &Schema, message: &Message, field: &Field) -> String {
    let size = |name: &String| match schema.messages.get(name) {
        Some(message) => format!("std::mem::size_of::<{}>()", message.rust),
        // Google's: a few numbers.
        None => "64".to_owned(),
    };
    match (field.label, &field.kind) {
        (Cardinality::Repeated, Kind::Message(name)) => size(name),
        // A node of a tree, half full.
        (Cardinality::Map, Kind::Message(name)) => format!("2 * {} + 64", size(name)),
        (Cardinality::Map, _) => "128".to_owned(),
        (Cardinality::Repeated, Kind::Text) => "std::mem::size_of::<bytes::Bytes>()".to_owned(),
        (Cardinality::Repeated, Kind::Scalar | Kind::Enum(_)) => "8".to_owned(),
        // A message within itself lies in a box.
        (_, Kind::Message(name)) if field.boxed || *name == message.name => size(name),
        _ => "0".to_owned(),
    }
}

fn constant(message: &Message) -> String {
    message.name.replace('.', "_").to_uppercase()
}
