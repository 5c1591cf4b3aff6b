//! What a directory must hold to be this daemon's store.

/// Kind, format version and families of a store. A store remembers kind and version from its creation;
/// opening checks them, so that an agent never opens a master's directory, nor an old binary a new format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Who the store belongs to, such as `master`; one word of lowercase letters and `-`.
    pub kind: &'static str,
    /// Format that this binary writes. Raise it when an older binary could no longer read the result.
    pub version: u32,
    /// Names of the key spaces. Missing ones are created; ones that only the directory has are kept. New ones
    /// go to the end: a repair knows the old ones by their place.
    pub families: Vec<&'static str>,
}

impl Layout {
    pub fn new(
        kind: &'static str,
        version: u32,
        families: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        Self { kind, version, families: families.into_iter().collect() }
    }
}

/// Key of the format marker in RocksDB's default family, which nothing else uses.
/// Value: `<version in decimal> <kind>`, ASCII. Written once, synced, before anything else.
pub(crate) const FORMAT_KEY: &[u8] = b"mezzo.format";

/// Key of the owner: whatever [`Store::claim`](crate::Store::claim) was first given, UTF-8.
pub(crate) const OWNER_KEY: &[u8] = b"mezzo.owner";

/// Key of the mark that tells how far the log was synced before this write: the sequence number of the last
/// write that was on the disk, 8 bytes big-endian. Always the first change of its batch. Whoever finds it behind
/// a damaged place of the log knows whether something is lost that somebody relied on.
pub(crate) const SYNCED_KEY: &[u8] = b"mezzo.synced";

pub(crate) fn synced_value(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// The format marker as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub version: u32,
    pub kind: String,
}

impl Marker {
    pub fn of(layout: &Layout) -> Self {
        Self { version: layout.version, kind: layout.kind.to_owned() }
    }

    pub fn encode(&self) -> Vec<u8> {
        format!("{} {}", self.version, self.kind).into_bytes()
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let (version, kind) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Self { version: version.parse().ok()?, kind: kind.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_one_readable_line() {
        let marker = Marker::of(&Layout::new("master", 3, []));
        assert_eq!(marker.encode(), b"3 master");
        assert_eq!(Marker::decode(b"3 master"), Some(marker));
        for damaged in [&b""[..], b"3", b"x master", b"-1 master", b"\xff\xfe 1"] {
            assert_eq!(Marker::decode(damaged), None, "{damaged:?}");
        }
    }
}
