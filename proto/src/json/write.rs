//! Messages to JSON text.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::generated::{JsonEnum, JsonMessage};

/// One value of a list, a map or a field.
pub trait WriteValue {
    fn write(&self, out: &mut Vec<u8>);
}

pub(super) fn message<M: JsonMessage>(message: &M, out: &mut Vec<u8>) {
    out.push(b'{');
    message.write_fields(&mut Fields { out, first: true });
    out.push(b'}');
}

/// The inside of an object that is being written.
pub struct Fields<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Fields<'_> {
    /// `name` is a proto identifier and needs no escape.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub fn value<T: WriteValue + ?Sized>(&mut self, name: &str, value: &T) {
        value.write(self.name(name));
    }

    /// For a default given by the schema: `&str` or a number or a bool by value.
    pub fn text_or_number<T: WriteValue>(&mut self, name: &str, value: T) {
        value.write(self.name(name));
    }

    pub fn optional<T: WriteValue>(&mut self, name: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.value(name, value);
        }
    }

    /// A proto3 scalar: its default is no value.
    pub fn implicit<T: WriteValue + Default + PartialEq>(&mut self, name: &str, value: &T) {
        if *value != T::default() {
            self.value(name, value);
        }
    }

    pub fn repeated<T: WriteValue>(&mut self, name: &str, values: &[T]) {
        if values.is_empty() {
            return;
        }
        let out = self.name(name);
        list(out, values, |value, out| value.write(out));
    }

    pub fn map<T: WriteValue>(&mut self, name: &str, values: &BTreeMap<String, T>) {
        if values.is_empty() {
            return;
        }
        let out = self.name(name);
        out.push(b'{');
        for (i, (key, value)) in values.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            key.write(out);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }

    /// A number that this release has no name for is left out, as Mesos drops it on arrival.
    pub fn number_of<E: JsonEnum>(&mut self, name: &str, number: i32) {
        if let Some(value) = E::name(number) {
            self.value(name, value);
        }
    }

    pub fn numbers_of<E: JsonEnum>(&mut self, name: &str, numbers: &[i32]) {
        let names: Vec<&str> = numbers.iter().filter_map(|number| E::name(*number)).collect();
        self.repeated(name, &names);
    }
}

fn list<T>(out: &mut Vec<u8>, values: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(value, out);
    }
    out.push(b']');
}

impl<M: JsonMessage> WriteValue for M {
    fn write(&self, out: &mut Vec<u8>) {
        message(self, out);
    }
}

impl WriteValue for str {
    fn write(&self, out: &mut Vec<u8>) {
        scalar(self, out);
    }
}

impl WriteValue for &str {
    fn write(&self, out: &mut Vec<u8>) {
        scalar(*self, out);
    }
}

impl WriteValue for String {
    fn write(&self, out: &mut Vec<u8>) {
        scalar(self.as_str(), out);
    }
}

impl WriteValue for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        scalar(STANDARD.encode(self).as_str(), out);
    }
}

impl WriteValue for f64 {
    fn write(&self, out: &mut Vec<u8>) {
        if self.is_finite() {
            scalar(self, out);
        } else if self.is_nan() {
            // Mesos has no rule and ends itself. No valid message holds one.
            scalar("NaN", out);
        } else {
            scalar(if *self > 0.0 { "Infinity" } else { "-Infinity" }, out);
        }
    }
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl WriteValue for $type {
            fn write(&self, out: &mut Vec<u8>) {
                scalar(self, out);
            }
        }
    )*};
}

plain!(bool, i32, i64, u32, u64);

fn scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "a Vec takes every scalar");
}
