//! Generates the JSON mapping of every message of the v1 API.

use std::fmt::Write;

use crate::schema::{Cardinality, Field, Kind, Message, Schema};

pub fn generate(schema: &Schema) -> String {
    let mut out = String::new();
    let ours = |name: &str| name.starts_with("mezzo.v1.");
    for value in schema.enums.values().filter(|e| ours(&e.name)) {
        let rust = &value.rust;
        let _ = write!(
            out,
            "impl JsonEnum for {rust} {{
                const NAMES: &'static [&'static str] = &{:?};
                fn number(name: &str) -> Option<i32> {{ Self::from_str_name(name).map(|v| v as i32) }}
                fn name(number: i32) -> Option<&'static str> {{ Self::try_from(number).ok().map(|v| v.as_str_name()) }}
            }}\n",
            value.values
        );
    }
    for message in schema.messages.values().filter(|m| ours(&m.name)) {
        implement(&mut out, schema, message);
    }
    out
}

fn implement(out: &mut String, schema: &Schema, message: &Message) {
    let required: Vec<&str> = message
        .fields
        .iter()
        .filter(|f| f.label == Cardinality::Required)
        .map(|f| f.name.as_str())
        .collect();
    let _ = write!(
        out,
        "#[allow(deprecated, unused_variables)]
        impl JsonMessage for {} {{
            const REQUIRED: &'static [&'static str] = &{required:?};
            fn write_fields(&self, out: &mut Fields<'_>) {{\n",
        message.rust
    );
    for field in &message.fields {
        write_field(out, schema, field);
    }
    out.push_str(
        "}
        fn read_field(&mut self, name: &str, value: &Json<'_>, at: &mut Context) -> Result<(), JsonError> {
            match name {\n",
    );
    for field in &message.fields {
        read_field(out, schema, field);
    }
    out.push_str("_ => Ok(()),\n}\n}\n}\n");
}

fn enum_type(schema: &Schema, kind: &Kind) -> Option<String> {
    match kind {
        Kind::Enum(name) => Some(schema.enums[name].rust.clone()),
        _ => None,
    }
}

fn write_field(out: &mut String, schema: &Schema, field: &Field) {
    let Field { name, ident, .. } = field;
    let of = enum_type(schema, &field.kind);
    if let Some(oneof) = &field.oneof {
        let call = match &of {
            Some(of) => format!("out.number_of::<{of}>({name:?}, *value)"),
            None => format!("out.value({name:?}, value)"),
        };
        let _ = writeln!(
            out,
            "if let Some({}::{ident}(value)) = &self.{} {{ {call}; }}",
            oneof.rust, oneof.ident
        );
        return;
    }
    // A field with a default of its own is written even when unset, as Mesos does.
    let always = field.has_default && !field.deprecated && field.label == Cardinality::Optional;
    let _ = match (field.label, &of) {
        (Cardinality::Required | Cardinality::Implicit, Some(of)) => {
            writeln!(out, "out.number_of::<{of}>({name:?}, self.{ident});")
        }
        (Cardinality::Required, None) => writeln!(out, "out.value({name:?}, &self.{ident});"),
        (Cardinality::Implicit, None) => writeln!(out, "out.implicit({name:?}, &self.{ident});"),
        (Cardinality::Optional, Some(of)) if always => {
            writeln!(out, "out.number_of::<{of}>({name:?}, self.{ident}() as i32);")
        }
        (Cardinality::Optional, None) if always => {
            writeln!(out, "out.text_or_number({name:?}, self.{ident}());")
        }
        (Cardinality::Optional, Some(of)) => writeln!(
            out,
            "if let Some(number) = self.{ident} {{ out.number_of::<{of}>({name:?}, number); }}"
        ),
        (Cardinality::Optional, None) => writeln!(out, "out.optional({name:?}, &self.{ident});"),
        (Cardinality::Repeated, Some(of)) => {
            writeln!(out, "out.numbers_of::<{of}>({name:?}, &self.{ident});")
        }
        (Cardinality::Repeated, None) => writeln!(out, "out.repeated({name:?}, &self.{ident});"),
        (Cardinality::Map, Some(_)) => panic!("map of enums: {name}"),
        (Cardinality::Map, None) => writeln!(out, "out.map({name:?}, &self.{ident});"),
    };
}

fn read_field(out: &mut String, schema: &Schema, field: &Field) {
    let Field { name, ident, .. } = field;
    let of = enum_type(schema, &field.kind);
    if let Some(oneof) = &field.oneof {
        let variant = format!("{}::{ident}", oneof.rust);
        let _ = match &of {
            Some(of) => writeln!(
                out,
                "{name:?} => read::oneof_enum::<_, {of}>(&mut self.{}, {variant}, value),",
                oneof.ident
            ),
            None => writeln!(
                out,
                "{name:?} => read::oneof(&mut self.{}, {variant}, value, at),",
                oneof.ident
            ),
        };
        return;
    }
    let _ = match (field.label, &of) {
        (Cardinality::Required | Cardinality::Implicit, Some(of)) => {
            writeln!(out, "{name:?} => read::required_enum::<{of}>(&mut self.{ident}, value),")
        }
        (Cardinality::Optional, Some(of)) => {
            writeln!(out, "{name:?} => read::optional_enum::<{of}>(&mut self.{ident}, value),")
        }
        (Cardinality::Repeated, Some(of)) => {
            writeln!(out, "{name:?} => read::repeated_enum::<{of}>(&mut self.{ident}, value),")
        }
        (Cardinality::Required | Cardinality::Implicit, None) => {
            writeln!(out, "{name:?} => read::required(&mut self.{ident}, value, at),")
        }
        (Cardinality::Optional, None) => {
            writeln!(out, "{name:?} => read::optional(&mut self.{ident}, value, at),")
        }
        (Cardinality::Repeated, None) => {
            writeln!(out, "{name:?} => read::repeated(&mut self.{ident}, value, at),")
        }
        (Cardinality::Map, _) => {
            writeln!(out, "{name:?} => read::map(&mut self.{ident}, value, at),")
        }
    };
}
