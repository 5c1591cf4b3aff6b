//! The programs, as they were built.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest, Sha256};

/// An eBPF object in ELF form.
#[derive(Clone)]
pub struct Object {
    bytes: Cow<'static, [u8]>,
    digest: [u8; 32],
}

impl Object {
    /// The committed object, that every build of the agent holds (`cargo xtask build-ebpf`).
    pub fn embedded() -> Self {
        let bytes: &[u8] =
            aya::include_bytes_aligned!("../../../agent-ebpf/object/mezzo-agent-ebpf.o");
        Self::of(Cow::Borrowed(bytes))
    }

    /// Another object with the same maps.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::of(Cow::Owned(bytes))
    }

    fn of(bytes: Cow<'static, [u8]>) -> Self {
        let digest = Sha256::digest(&bytes).into();
        Object { bytes, digest }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256. Objects with different digests are different versions.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "Object({start}…, {} bytes)", self.bytes.len())
    }
}
