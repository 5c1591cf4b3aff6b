//! The descriptors as the generators want them: flat, with the Rust names that prost will choose.

use std::collections::BTreeMap;

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

pub struct Schema {
    pub messages: BTreeMap<String, Message>,
    pub enums: BTreeMap<String, Enum>,
}

pub struct Message {
    /// Full name, e.g. `mezzo.v1.Offer.Operation`.
    pub name: String,
    /// Path of the Rust type, e.g. `crate::v1::offer::Operation`.
    pub rust: String,
    pub fields: Vec<Field>,
}

pub struct Enum {
    pub name: String,
    pub rust: String,
    pub values: Vec<String>,
}

pub struct Field {
    pub name: String,
    /// The Rust field, or of a oneof the variant.
    pub ident: String,
    pub number: i32,
    pub kind: Kind,
    pub label: Cardinality,
    pub has_default: bool,
    pub deprecated: bool,
    pub oneof: Option<Oneof>,
    /// The message lies in a box.
    pub boxed: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// A number or a bool.
    Scalar,
    /// A string or bytes.
    Text,
    /// Full name of the enum.
    Enum(String),
    /// Full name of the message.
    Message(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    Required,
    Optional,
    /// proto3 without `optional`: unset and default are one.
    Implicit,
    Repeated,
    /// A map; `kind` is that of its values.
    Map,
}

pub struct Oneof {
    pub ident: String,
    /// Path of the Rust enum.
    pub rust: String,
}

impl Schema {
    /// `boxed`: fields whose messages lie in boxes.
    pub fn new(set: &FileDescriptorSet, boxed: &[&str]) -> Self {
        let mut schema = Self { messages: BTreeMap::new(), enums: BTreeMap::new() };
        for file in set.file.iter().filter(|f| f.package().starts_with("mezzo.")) {
            let module = format!("crate::{}", file.package()["mezzo.".len()..].replace('.', "::"));
            let proto3 = file.syntax() == "proto3";
            for message in &file.message_type {
                schema.add_message(message, file.package(), &module, proto3);
            }
            for value in &file.enum_type {
                schema.add_enum(value, file.package(), &module);
            }
        }
        for path in boxed {
            schema.put_in_box(path);
        }
        schema
    }

    /// `Message.field`, or `Message.oneof.field`.
    fn put_in_box(&mut self, path: &str) {
        let (scope, name) = path.rsplit_once('.').unwrap_or_default();
        let message = match self.messages.contains_key(scope) {
            true => scope,
            false => scope.rsplit_once('.').unwrap_or_default().0,
        };
        let fields = self.messages.get_mut(message).map(|message| &mut message.fields);
        let field = fields.and_then(|fields| fields.iter_mut().find(|field| field.name == name));
        field.unwrap_or_else(|| panic!("to be boxed, but not there: {path}")).boxed = true;
    }

    fn add_message(&mut self, proto: &DescriptorProto, scope: &str, module: &str, proto3: bool) {
        let name = format!("{scope}.{}", proto.name());
        let inner = format!("{module}::{}", snake(proto.name()));
        for value in &proto.enum_type {
            self.add_enum(value, &name, &inner);
        }
        let mut map_values = BTreeMap::new();
        for nested in &proto.nested_type {
            if nested.options.as_ref().is_some_and(|o| o.map_entry()) {
                map_values.insert(format!("{name}.{}", nested.name()), kind(&nested.field[1]));
            } else {
                self.add_message(nested, &name, &inner, proto3);
            }
        }
        let fields = proto.field.iter().map(|field| {
            let oneof = field.oneof_index.filter(|_| !field.proto3_optional()).map(|index| {
                let oneof = proto.oneof_decl[index as usize].name();
                Oneof { ident: snake(oneof), rust: format!("{inner}::{}", camel(oneof)) }
            });
            let mut kind = kind(field);
            let mut label = match field.label() {
                Label::Required => Cardinality::Required,
                Label::Repeated => Cardinality::Repeated,
                Label::Optional
                    if proto3 && !field.proto3_optional() && field.r#type() != Type::Message =>
                {
                    Cardinality::Implicit
                }
                Label::Optional => Cardinality::Optional,
            };
            if let Kind::Message(entry) = &kind
                && let Some(value) = map_values.get(entry)
            {
                kind = value.clone();
                label = Cardinality::Map;
            }
            Field {
                name: field.name().to_owned(),
                ident: if oneof.is_some() { camel(field.name()) } else { snake(field.name()) },
                number: field.number(),
                kind,
                label,
                has_default: field.default_value.is_some(),
                deprecated: field.options.as_ref().is_some_and(|o| o.deprecated()),
                oneof,
                boxed: false,
            }
        });
        let fields = fields.collect();
        let rust = format!("{module}::{}", camel(proto.name()));
        self.messages.insert(name.clone(), Message { name, rust, fields });
    }

    fn add_enum(&mut self, proto: &EnumDescriptorProto, scope: &str, module: &str) {
        let name = format!("{scope}.{}", proto.name());
        let rust = format!("{module}::{}", camel(proto.name()));
        let values = proto.value.iter().map(|v| v.name().to_owned()).collect();
        self.enums.insert(name.clone(), Enum { name, rust, values });
    }
}

fn kind(field: &FieldDescriptorProto) -> Kind {
    let name = || field.type_name().trim_start_matches('.').to_owned();
    match field.r#type() {
        Type::Message => Kind::Message(name()),
        Type::Enum => Kind::Enum(name()),
        Type::String | Type::Bytes => Kind::Text,
        Type::Group => panic!("groups are not supported: {}", field.name()),
        _ => Kind::Scalar,
    }
}

/// Names as prost chooses them; a keyword of Rust is written raw.
fn snake(name: &str) -> String {
    const KEYWORDS: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do",
        "dyn", "else", "enum", "false", "final", "fn", "for", "if", "impl", "in", "let", "loop",
        "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
        "static", "struct", "trait", "true", "type", "typeof", "union", "unsafe", "use", "virtual",
        "where", "while", "yield",
    ];
    let ident = name.to_snake_case();
    if KEYWORDS.contains(&ident.as_str()) { format!("r#{ident}") } else { ident }
}

fn camel(name: &str) -> String {
    name.to_upper_camel_case()
}
