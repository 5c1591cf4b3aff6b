//! The kernel's type information (BTF): where the fields of its structures lie.
//!
//! Format: Linux, `Documentation/bpf/btf.rst`. Only what is asked for is read; nothing is trusted to be in range.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
/// Structures within structures, at most: types could refer to themselves.
const MAX_DEPTH: usize = 16;

mod kind {
    pub const POINTER: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNCTION_PROTOTYPE: u32 = 13;
    pub const TYPE_TAG: u32 = 18;
}

/// All types of a kernel.
#[derive(Debug)]
pub struct KernelTypes {
    data: Vec<u8>,
    strings: usize,
    /// Where each type begins; number 0 is `void`.
    types: Vec<usize>,
    structs: HashMap<String, u32>,
    tracepoints: HashMap<String, u32>,
}

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    kind: u32,
    count: usize,
    /// Fields may be narrower than a byte, and say so in the high bits of their offset.
    bit_fields: bool,
    /// Size in bytes, or number of another type, as the kind says.
    rest: u32,
}

impl KernelTypes {
    /// Reads the content of `/sys/kernel/btf/vmlinux`; `None` if that is no type information for this machine.
    pub fn parse(data: Vec<u8>) -> Option<Self> {
        if half(&data, 0)? != MAGIC {
            return None;
        }
        let header = word(&data, 4)? as usize;
        let begin = header.checked_add(word(&data, 8)? as usize)?;
        let end = begin.checked_add(word(&data, 12)? as usize)?;
        let strings = header.checked_add(word(&data, 16)? as usize)?;
        let mut types = vec![0];
        let mut at = begin;
        while at < end {
            types.push(at);
            let info = word(&data, at + 4)?;
            at = at.checked_add(12 + extra(info >> 24 & 0x1f, (info & 0xffff) as usize)?)?;
        }
        let (structs, tracepoints) = (HashMap::new(), HashMap::new());
        let mut all = KernelTypes { data, strings, types, structs, tracepoints };
        for number in 1..all.types.len() as u32 {
            let Some(here) = all.get(number) else { continue };
            match here.kind {
                kind::STRUCT if here.count > 0 => {
                    if let Some(name) = all.name(here.at) {
                        all.structs.entry(name.to_owned()).or_insert(number);
                    }
                }
                kind::TYPEDEF => {
                    let name = all.name(here.at).and_then(|name| name.strip_prefix("btf_trace_"));
                    if let Some(name) = name {
                        all.tracepoints.entry(name.to_owned()).or_insert(number);
                    }
                }
                _ => {}
            }
        }
        Some(all)
    }

    /// Offset in bytes of a field, such as `task_struct.sched_info.run_delay`. Of an array, that of its first element.
    pub fn offset(&self, path: &str) -> Option<u32> {
        let (mut number, fields) = self.start(path)?;
        let mut offset = 0;
        for field in fields.split('.') {
            let (inner, next) = self.field(number, field, 0)?;
            offset += inner;
            number = next;
        }
        Some(offset)
    }

    /// Size in bytes of one element of the array at a path such as `mm_struct.rss_stat`.
    pub fn stride(&self, path: &str) -> Option<u32> {
        let (mut number, fields) = self.start(path)?;
        for field in fields.split('.') {
            number = self.field(number, field, 0)?.1;
        }
        let array = self.bare(number)?;
        if array.kind != kind::ARRAY {
            return None;
        }
        let element = self.bare(word(&self.data, array.at + 12)?)?;
        matches!(element.kind, kind::STRUCT | kind::UNION).then_some(element.rest)
    }

    /// Whether argument `index` of a tracepoint is a pointer to this structure.
    pub fn traces(&self, tracepoint: &str, index: usize, structure: &str) -> bool {
        self.argument(tracepoint, index).is_some_and(|name| name == structure)
    }

    fn argument(&self, tracepoint: &str, index: usize) -> Option<&str> {
        let pointer = self.bare(*self.tracepoints.get(tracepoint)?)?;
        let prototype = self.bare(pointer.rest)?;
        // The first argument of the kernel's function is the program's own data.
        let index = index + 1;
        if prototype.kind != kind::FUNCTION_PROTOTYPE || index >= prototype.count {
            return None;
        }
        let argument = self.bare(word(&self.data, prototype.at + 12 + index * 8 + 4)?)?;
        if argument.kind != kind::POINTER {
            return None;
        }
        self.name(self.bare(argument.rest)?.at)
    }

    fn start<'a>(&self, path: &'a str) -> Option<(u32, &'a str)> {
        let (structure, fields) = path.split_once('.')?;
        Some((*self.structs.get(structure)?, fields))
    }

    /// Offset and type of a field, looked for in unnamed structures within as well.
    fn field(&self, number: u32, name: &str, depth: usize) -> Option<(u32, u32)> {
        let mut within = self.bare(number)?;
        if within.kind == kind::ARRAY {
            within = self.bare(word(&self.data, within.at + 12)?)?;
        }
        if !matches!(within.kind, kind::STRUCT | kind::UNION) || depth > MAX_DEPTH {
            return None;
        }
        for index in 0..within.count {
            let at = within.at + 12 + index * 12;
            let (own, bits) = (word(&self.data, at + 4)?, word(&self.data, at + 8)?);
            let bits = if within.bit_fields { bits & 0xff_ffff } else { bits };
            match self.name(at)? {
                found if found == name => return (bits % 8 == 0).then_some((bits / 8, own)),
                "" => {
                    if let Some((inner, own)) = self.field(own, name, depth + 1) {
                        return Some((bits / 8 + inner, own));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// What is behind names and qualifiers.
    fn bare(&self, mut number: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let here = self.get(number)?;
            match here.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = here.rest;
                }
                _ => return Some(here),
            }
        }
        None
    }

    fn get(&self, number: u32) -> Option<Type> {
        let at = *self.types.get(number as usize).filter(|at| **at != 0)?;
        let info = word(&self.data, at + 4)?;
        Some(Type {
            at,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            rest: word(&self.data, at + 8)?,
        })
    }

    /// The name whose place in the table of strings stands at `at`.
    fn name(&self, at: usize) -> Option<&str> {
        let start = self.strings.checked_add(word(&self.data, at)? as usize)?;
        let rest = self.data.get(start..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

/// Bytes that follow the first twelve of a type.
fn extra(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        kind::ARRAY => 12,
        // Structure, union, section of data, enumeration of 64 bits.
        kind::STRUCT | kind::UNION | 15 | 19 => count * 12,
        // Enumeration, prototype.
        6 | kind::FUNCTION_PROTOTYPE => count * 8,
        0..=18 => 0,
        _ => return None,
    })
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn half(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::KernelTypes;

    /// `struct inner { int a; int b; }; struct outer { int x; struct { struct inner in[2]; }; }`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0inner\0a\0b\0outer\0x\0in\0";
        let at = |name: &[u8]| {
            let found = strings.windows(name.len() + 2).position(|window| {
                window[0] == 0 && window[name.len() + 1] == 0 && window[1..=name.len()] == *name
            });
            found.expect("a string") as u32 + 1
        };
        let types = [
            // 1: int
            vec![at(b"int"), 1 << 24, 4, 32],
            // 2: struct inner
            vec![at(b"inner"), 4 << 24 | 2, 8, at(b"a"), 1, 0, at(b"b"), 1, 32],
            // 3: array of two
            vec![0, 3 << 24, 0, 2, 1, 2],
            // 4: unnamed structure
            vec![0, 4 << 24 | 1, 16, at(b"in"), 3, 0],
            // 5: struct outer
            vec![at(b"outer"), 4 << 24 | 2, 20, at(b"x"), 1, 0, 0, 4, 32],
        ];
        let types: Vec<u8> = types.concat().iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut data = Vec::new();
        data.extend(0xeb9f_u16.to_ne_bytes());
        data.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            data.extend(word.to_ne_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn fields_are_found_through_unnamed_structures_and_arrays() {
        let types = KernelTypes::parse(sample()).expect("type information");
        assert_eq!(types.offset("inner.b"), Some(4));
        assert_eq!(types.offset("outer.in"), Some(4));
        assert_eq!(types.offset("outer.in.b"), Some(8));
        assert_eq!(types.stride("outer.in"), Some(8));
        assert_eq!(types.offset("outer.y"), None);
        assert_eq!(types.offset("none.x"), None);
    }

    #[test]
    fn whatever_is_cut_off_is_not_read() {
        let whole = sample();
        for length in 0..whole.len() {
            if let Some(types) = KernelTypes::parse(whole[..length].to_vec()) {
                let _ = types.offset("outer.in.b");
            }
        }
        assert!(KernelTypes::parse(Vec::new()).is_none());
        assert!(KernelTypes::parse(vec![0xff; 64]).is_none());
    }
}
