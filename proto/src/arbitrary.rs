//! Arbitrary messages for the tests: valid bytes of any message, made along the descriptors.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

pub struct Descriptors {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

/// How a message is made.
#[derive(Clone, Copy)]
pub struct Options {
    /// Sets every field that has a default of its own, so that JSON, which writes those defaults
    /// for unset fields, gives back the same message.
    pub set_defaulted: bool,
    /// Leaves out the so-manyth required field met on the way.
    pub drop_required: Option<usize>,
}

/// Decisions, one byte each. When they run out every further one is 0, which means "as small as it
/// goes"; so proptest shrinks a message by cutting the tape.
pub struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn next_u64(&mut self) -> u64 {
        // Small and huge numbers alike.
        let bytes = usize::from(self.next() % 9);
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.next()))
    }
}

impl Descriptors {
    pub fn new() -> Self {
        let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("own descriptors");
        let mut all = Self { messages: BTreeMap::new(), enums: BTreeMap::new() };
        for file in set.file {
            let scope = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| all.add(message, &scope));
            for value in file.enum_type {
                all.enums.insert(format!("{scope}.{}", value.name()), value);
            }
        }
        all
    }

    fn add(&mut self, message: &DescriptorProto, scope: &str) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add(nested, &name));
        for value in &message.enum_type {
            self.enums.insert(format!("{name}.{}", value.name()), value.clone());
        }
        self.messages.insert(name, message.clone());
    }

    /// Bytes of a message called `name`, e.g. `.mezzo.v1.TaskInfo`, and the path of the required field
    /// that was left out, if one was.
    pub fn bytes(&self, name: &str, options: Options, tape: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut maker = Maker { all: self, options, tape: Tape::new(tape), dropped: None };
        let mut out = Vec::new();
        maker.message(name, "", 0, &mut out);
        (out, maker.dropped)
    }
}

struct Maker<'a> {
    all: &'a Descriptors,
    options: Options,
    tape: Tape<'a>,
    dropped: Option<String>,
}

impl Maker<'_> {
    fn message(&mut self, name: &str, path: &str, depth: usize, out: &mut Vec<u8>) {
        let all = self.all;
        let message = &all.messages[name];
        let mut oneofs_set = Vec::new();
        for field in &message.field {
            let path = match path {
                "" => field.name().to_owned(),
                _ => format!("{path}.{}", field.name()),
            };
            if let Some(index) = field.oneof_index {
                if oneofs_set.contains(&index) || self.tape.next().is_multiple_of(2) {
                    continue;
                }
                oneofs_set.push(index);
                self.value(field, &path, depth, out);
                continue;
            }
            match field.label() {
                Label::Required => {
                    match &mut self.options.drop_required {
                        Some(0) => {
                            self.options.drop_required = None;
                            self.dropped = Some(path);
                            continue;
                        }
                        Some(count) => *count -= 1,
                        None => {}
                    }
                    self.value(field, &path, depth, out);
                }
                Label::Optional => {
                    let must = self.options.set_defaulted && field.default_value.is_some();
                    if must || (self.wanted(field, depth) && self.tape.next() % 4 == 1) {
                        self.value(field, &path, depth, out);
                    }
                }
                Label::Repeated => {
                    if !self.wanted(field, depth) || self.tape.next() % 4 != 1 {
                        continue;
                    }
                    let count = usize::from(self.tape.next() % 3);
                    let map = all.messages.get(field.type_name()).is_some_and(is_map_entry);
                    for i in 0..count {
                        if map {
                            self.entry(field, &path, i, depth, out);
                        } else {
                            self.value(field, &format!("{path}[{i}]"), depth, out);
                        }
                    }
                }
            }
        }
    }

    /// Whether an optional field may be set so far down.
    fn wanted(&self, field: &FieldDescriptorProto, depth: usize) -> bool {
        depth < 8 || field.r#type() != Type::Message
    }

    fn entry(
        &mut self,
        field: &FieldDescriptorProto,
        path: &str,
        index: usize,
        depth: usize,
        out: &mut Vec<u8>,
    ) {
        let key = format!("{}{index}", self.text());
        let value = &self.all.messages[field.type_name()].field[1];
        let mut entry = Vec::new();
        prost::encoding::string::encode(1, &key, &mut entry);
        self.value(value, &format!("{path}[{key:?}]"), depth, &mut entry);
        length_delimited(field.number(), &entry, out);
    }

    fn value(&mut self, field: &FieldDescriptorProto, path: &str, depth: usize, out: &mut Vec<u8>) {
        let number = field.number();
        let mut varint = |value: u64| {
            encode_key(number as u32, WireType::Varint, out);
            encode_varint(value, out);
        };
        match field.r#type() {
            Type::Message => {
                let mut inner = Vec::new();
                self.message(field.type_name(), path, depth + 1, &mut inner);
                length_delimited(number, &inner, out);
            }
            Type::Enum => {
                let values = &self.all.enums[field.type_name()].value;
                let value = values[usize::from(self.tape.next()) % values.len()].number();
                varint(value as u64);
            }
            Type::Bool => varint(u64::from(self.tape.next() % 2)),
            Type::Int32 => varint(self.tape.next_u64() as i32 as u64),
            Type::Uint32 => varint(u64::from(self.tape.next_u64() as u32)),
            Type::Int64 | Type::Uint64 => varint(self.tape.next_u64()),
            Type::Double => {
                let value = match self.tape.next() {
                    0..=99 => self.tape.next_u64() as f64 / 1000.0,
                    100..=109 => f64::INFINITY,
                    110..=119 => f64::NEG_INFINITY,
                    _ => match f64::from_bits(self.tape.next_u64()) {
                        value if value.is_nan() => -0.0,
                        value => value,
                    },
                };
                encode_key(number as u32, WireType::SixtyFourBit, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Type::String => {
                let text = self.text();
                length_delimited(number, text.as_bytes(), out);
            }
            Type::Bytes => {
                let length = usize::from(self.tape.next() % 20);
                let bytes: Vec<u8> = (0..length).map(|_| self.tape.next()).collect();
                length_delimited(number, &bytes, out);
            }
            other => panic!("no field of the API has the type {other:?}"),
        }
    }

    fn text(&mut self) -> String {
        const CHARS: [char; 16] = [
            'a', 'B', '0', '.', '-', '/', '"', '\\', '\n', '\r', '\t', '\0', 'ß', '語', '\u{2028}',
            '😀',
        ];
        let length = usize::from(self.tape.next() % 6);
        (0..length).map(|_| CHARS[usize::from(self.tape.next()) % CHARS.len()]).collect()
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn length_delimited(number: i32, payload: &[u8], out: &mut Vec<u8>) {
    encode_key(number as u32, WireType::LengthDelimited, out);
    encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}
