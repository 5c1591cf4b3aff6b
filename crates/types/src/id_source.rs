//! Identifiers from a seed: the same seed gives the same ids, so that a run can be replayed.

use std::fmt;

/// A 16-byte identifier in the layout of a version 4 UUID.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid16(pub [u8; 16]);

impl Uuid16 {
    /// Reads the 16 bytes of a message field; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Uuid16> {
        bytes.try_into().ok().map(Uuid16)
    }

    /// Reads the hyphenated text form (either case).
    pub fn parse(text: &str) -> Option<Uuid16> {
        let text = text.as_bytes();
        if text.len() != 36 || [8, 13, 18, 23].iter().any(|&at| text[at] != b'-') {
            return None;
        }
        let mut digits = text.iter().filter(|&&byte| byte != b'-');
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let high = char::from(*digits.next()?).to_digit(16)?;
            let low = char::from(*digits.next()?).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        digits.next().is_none().then_some(Uuid16(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Uuid16> for Vec<u8> {
    fn from(uuid: Uuid16) -> Self {
        uuid.0.to_vec()
    }
}

/// A deterministic generator (xoroshiro128++). It has no entropy of its own: whoever needs ids
/// that are unique in the world seeds it from the operating system, once, in the shell.
#[derive(Clone, Debug)]
pub struct IdSource {
    state: [u64; 2],
}

impl IdSource {
    /// Any seed will do, zero included: it is stirred first.
    pub fn new(seed: [u64; 2]) -> Self {
        let mut stir = seed[0];
        let first = split_mix(&mut stir);
        let mut stir = seed[1] ^ first;
        let second = split_mix(&mut stir);
        // The one state the generator cannot leave.
        let state = if (first, second) == (0, 0) { [1, 0] } else { [first, second] };
        IdSource { state }
    }

    pub fn next_u64(&mut self) -> u64 {
        let [a, mut b] = self.state;
        let result = a.wrapping_add(b).rotate_left(17).wrapping_add(a);
        b ^= a;
        self.state = [a.rotate_left(49) ^ b ^ (b << 21), b.rotate_left(28)];
        result
    }

    /// 122 bits of the sequence and the marks of a version 4 UUID.
    pub fn next_uuid(&mut self) -> Uuid16 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid16(bytes)
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn same_seed_same_ids_and_different_seeds_differ() {
        let take = |seed| {
            let mut source = IdSource::new(seed);
            (0..1000).map(|_| source.next_uuid()).collect::<Vec<_>>()
        };
        assert_eq!(take([1, 2]), take([1, 2]));
        let all: BTreeSet<_> =
            [[0, 0], [1, 2], [2, 1], [0, 1]].into_iter().flat_map(take).collect();
        assert_eq!(all.len(), 4000);
    }

    #[test]
    fn uuids_have_version_and_variant_and_their_text_reads_back() {
        let mut source = IdSource::new([7, 7]);
        for _ in 0..1000 {
            let uuid = source.next_uuid();
            let text = uuid.to_string();
            assert_eq!(text.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&text.as_bytes()[19]));
            assert_eq!(Uuid16::parse(&text), Some(uuid));
            assert_eq!(Uuid16::from_slice(uuid.as_bytes()), Some(uuid));
        }
        assert_eq!(Uuid16::parse("0123"), None);
        assert_eq!(Uuid16::parse("g0000000-0000-4000-8000-000000000000"), None);
        assert_eq!(Uuid16::parse("-0000000-0000-4000-8000-000000000000"), None);
        assert_eq!(Uuid16::from_slice(b"short"), None);
    }
}
