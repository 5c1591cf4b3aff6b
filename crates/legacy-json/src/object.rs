//! JSON objects, written field by field.

use mezzo_proto::json::{self, JsonMessage};

/// An object that is being written; [`end`](Object::end) closes it. Every method adds a field.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, first: true }
    }

    /// Goes on with an object that has fields already and was not closed.
    pub fn resume(out: &'a mut Vec<u8>) -> Self {
        Object { out, first: false }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// A field whose value `write` appends.
    pub fn field(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        text(self.out, name);
        self.out.push(b':');
        write(self.out);
        self
    }

    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.field(name, |out| text(out, value))
    }

    pub fn number(&mut self, name: &str, value: f64) -> &mut Self {
        self.field(name, |out| number(out, value))
    }

    pub fn integer(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        self.field(name, |out| out.extend_from_slice(value.to_string().as_bytes()))
    }

    pub fn boolean(&mut self, name: &str, value: bool) -> &mut Self {
        self.field(name, |out| out.extend_from_slice(if value { b"true" } else { b"false" }))
    }

    pub fn message<M: JsonMessage>(&mut self, name: &str, message: &M) -> &mut Self {
        self.field(name, |out| out.extend_from_slice(&json::to_vec(message)))
    }

    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        self.field(name, |out| object(out, write))
    }

    pub fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut Vec<u8>, T),
    ) -> &mut Self {
        self.field(name, |out| list(out, items, write))
    }
}

pub fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    let mut object = Object::begin(out);
    write(&mut object);
    object.end();
}

pub fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub fn text(out: &mut Vec<u8>, value: &str) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "a Vec takes every text");
}

/// `1` is written as `1.0`, as Mesos does: a tool may tell integers and doubles apart.
pub fn number(out: &mut Vec<u8>, value: f64) {
    // JSON has no infinity; no resource or time is that.
    let written = serde_json::to_writer(out, &if value.is_finite() { value } else { 0.0 });
    debug_assert!(written.is_ok(), "a Vec takes every number");
}
