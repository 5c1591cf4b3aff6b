//! Messages that could be meant: made along the descriptors, with the ids and values that the world knows.
//!
//! A call that is added to the `.proto` files is made from then on without a line here. Where a message has a
//! `type` and a field of that name, as calls and operations have, the two mostly fit.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Decisions, one byte each; at its end every further one is 0, the smallest.
pub(super) struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// From 0 to `end - 1`; 0 where `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    /// True so many times out of 256; never at the end of the tape.
    fn chance(&mut self, of_256: u16) -> bool {
        let byte = u16::from(self.byte());
        byte != 0 && byte <= of_256
    }

    fn number(&mut self) -> u64 {
        let bytes = self.below(9);
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }
}

/// What the world knows: mostly taken where it fits.
#[derive(Default)]
pub(super) struct Known {
    /// Encoded messages, by full name.
    pub(super) messages: BTreeMap<&'static str, Vec<Vec<u8>>>,
    /// Texts and bytes, by the name of the field.
    pub(super) texts: BTreeMap<&'static str, Vec<Vec<u8>>>,
}

/// Deeper than this, optional messages are left out.
const DEPTH: usize = 7;
/// Of 256: how often something known is taken where there is such.
const MOSTLY: u16 = 224;

struct Descriptors {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(mezzo_proto::FILE_DESCRIPTOR_SET);
    let mut all = Descriptors { messages: BTreeMap::new(), enums: BTreeMap::new() };
    for file in set.expect("own descriptors").file {
        let scope = format!(".{}", file.package());
        file.message_type.iter().for_each(|message| all.add(message, &scope));
        for value in file.enum_type {
            all.enums.insert(format!("{scope}.{}", value.name()), value);
        }
    }
    all
});

impl Descriptors {
    fn add(&mut self, message: &DescriptorProto, scope: &str) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add(nested, &name));
        for value in &message.enum_type {
            self.enums.insert(format!("{name}.{}", value.name()), value.clone());
        }
        self.messages.insert(name, message.clone());
    }
}

/// A message of the full name `name`, such as `.mezzo.v1.scheduler.Call`.
pub(super) fn message(name: &str, known: &Known, tape: &mut Tape<'_>) -> Vec<u8> {
    let optional = [0, 24, 128][tape.below(3)];
    let mut out = Vec::new();
    Maker { known, optional }.message(name, 0, tape, &mut out);
    out
}

struct Maker<'a> {
    known: &'a Known,
    /// Of 256: how often an optional field is set.
    optional: u16,
}

impl Maker<'_> {
    fn message(&self, name: &str, depth: usize, tape: &mut Tape<'_>, out: &mut Vec<u8>) {
        let message = &DESCRIPTORS.messages[name];
        let kind = self.kind(message, tape);
        let mut oneofs = Vec::new();
        for field in &message.field {
            if let Some(index) = field.oneof_index {
                // One of each, most often.
                if oneofs.contains(&index) || !tape.chance(64) {
                    continue;
                }
                oneofs.push(index);
            }
            let body = kind.as_ref().map(|(_, name)| name == field.name());
            match (&kind, field.name()) {
                (Some((number, _)), "type") => {
                    encode_key(field.number() as u32, WireType::Varint, out);
                    encode_varint(*number as u64, out);
                    continue;
                }
                _ if self.left_out(name, field, depth, body, tape) => continue,
                _ => {}
            }
            let count = match field.label() {
                Label::Repeated => 1 + tape.below(2),
                _ => 1,
            };
            for _ in 0..count {
                self.field(field, depth, tape, out);
            }
        }
    }

    /// The type of a message that has one, and the field that belongs to it.
    fn kind(&self, message: &DescriptorProto, tape: &mut Tape<'_>) -> Option<(i32, String)> {
        let field = message.field.iter().find(|field| field.name() == "type")?;
        let values = &DESCRIPTORS.enums.get(field.type_name())?.value;
        let value = &values[tape.below(values.len())];
        Some((value.number(), value.name().to_lowercase()))
    }

    fn left_out(
        &self,
        of: &str,
        field: &FieldDescriptorProto,
        depth: usize,
        body: Option<bool>,
        tape: &mut Tape<'_>,
    ) -> bool {
        if field.label() == Label::Required {
            return false;
        }
        let usual = match (of, field.name(), body) {
            (_, _, Some(true)) => Some(MOSTLY),
            (
                _,
                "framework_id" | "agent_id" | "offer_ids" | "operations" | "task_infos" | "uuid",
                _,
            ) => Some(MOSTLY),
            (".mezzo.v1.TaskInfo", "command", _) => Some(192),
            (".mezzo.v1.TaskInfo", "executor", _) => Some(64),
            (_, "resources" | "value" | "tasks", _) => Some(192),
            // A body that belongs to another type.
            (_, _, Some(false)) if field.r#type() == Type::Message && depth == 0 => Some(4),
            _ => None,
        };
        let too_deep = depth >= DEPTH && field.r#type() == Type::Message;
        too_deep || field.oneof_index.is_none() && !tape.chance(usual.unwrap_or(self.optional))
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        depth: usize,
        tape: &mut Tape<'_>,
        out: &mut Vec<u8>,
    ) {
        let number = field.number();
        let mut varint = |value: u64| {
            encode_key(number as u32, WireType::Varint, out);
            encode_varint(value, out);
        };
        match field.r#type() {
            Type::Message => {
                let inner = match self.known.messages.get(field.type_name()) {
                    Some(known) if !known.is_empty() && tape.chance(MOSTLY) => {
                        known[tape.below(known.len())].clone()
                    }
                    _ => {
                        let mut inner = Vec::new();
                        self.message(field.type_name(), depth + 1, tape, &mut inner);
                        inner
                    }
                };
                length_delimited(number, &inner, out);
            }
            Type::Enum => {
                let values = &DESCRIPTORS.enums[field.type_name()].value;
                varint(values[tape.below(values.len())].number() as u64);
            }
            Type::Bool => varint(u64::from(tape.byte() % 2)),
            Type::Int32 => varint(tape.number() as i32 as u64),
            Type::Uint32 => varint(u64::from(tape.number() as u32)),
            Type::Int64 | Type::Uint64 => varint(tape.number()),
            Type::Double => {
                let value = match tape.byte() {
                    0..=200 => f64::from(tape.byte()) / 8.0,
                    201..=210 => f64::INFINITY,
                    211..=220 => -1.0,
                    _ => f64::from_bits(tape.number()),
                };
                encode_key(number as u32, WireType::SixtyFourBit, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            _ => length_delimited(number, &self.text(field, tape), out),
        }
    }

    fn text(&self, field: &FieldDescriptorProto, tape: &mut Tape<'_>) -> Vec<u8> {
        if let Some(known) = self.known.texts.get(field.name())
            && !known.is_empty()
            && tape.chance(MOSTLY)
        {
            return known[tape.below(known.len())].clone();
        }
        const TEXTS: [&str; 16] = [
            "", "a", "web", "web/x", "*", "..", ".", "/", "a b", "\n", "\0", "ß", "😀", "root",
            "nobody", "0",
        ];
        TEXTS[tape.below(TEXTS.len())].as_bytes().to_vec()
    }
}

fn length_delimited(number: i32, payload: &[u8], out: &mut Vec<u8>) {
    encode_key(number as u32, WireType::LengthDelimited, out);
    encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}
