//! What the committed object is, and what made it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::toolchain::{LINKER, Toolchain};
use crate::cargo;

const MANIFEST: &str = "agent-ebpf/object/manifest.json";

/// Digests are SHA-256 in hexadecimal.
pub struct Manifest {
    pub object: String,
    pub sources: String,
    rustc: String,
    llvm: String,
    bpf_linker: String,
}

impl Manifest {
    pub fn new(object: &[u8], sources: &str, toolchain: &Toolchain) -> Self {
        Manifest {
            object: digest(object),
            sources: sources.to_owned(),
            rustc: toolchain.release.clone(),
            llvm: toolchain.llvm.clone(),
            bpf_linker: LINKER.to_owned(),
        }
    }

    /// # Errors
    /// When it is missing or lacks a field.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string(path())
            .with_context(|| format!("cannot read {MANIFEST}; run `cargo xtask build-ebpf`"))?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{MANIFEST}: no JSON"))?;
        let field = |name: &str| {
            let text = value[name].as_str().with_context(|| format!("{MANIFEST} lacks {name}"))?;
            Ok::<_, anyhow::Error>(text.to_owned())
        };
        Ok(Manifest {
            object: field("object_sha256")?,
            sources: field("sources_sha256")?,
            rustc: field("rustc")?,
            llvm: field("llvm")?,
            bpf_linker: field("bpf_linker")?,
        })
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let value = json!({
            "object_sha256": self.object,
            "sources_sha256": self.sources,
            "rustc": self.rustc,
            "llvm": self.llvm,
            "bpf_linker": self.bpf_linker,
        });
        let text = serde_json::to_string_pretty(&value).context("cannot write JSON")? + "\n";
        std::fs::write(path(), text).with_context(|| format!("cannot write {MANIFEST}"))
    }

    /// Whether both were made by the same versions of all tools.
    pub fn same_tools(&self, other: &Self) -> bool {
        self.tools() == other.tools()
    }

    pub fn tools(&self) -> String {
        format!("rustc {}, LLVM {}, bpf-linker {}", self.rustc, self.llvm, self.bpf_linker)
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path() -> PathBuf {
    cargo::root().join(MANIFEST)
}
