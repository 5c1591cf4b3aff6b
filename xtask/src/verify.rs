//! Everything that reads the sources and runs none of them.

use anyhow::Result;

use crate::steps::Steps;
use crate::{cargo, ebpf, host, law};

/// `cargo xtask verify`.
///
/// # Errors
/// When a step fails.
pub fn run() -> Result<()> {
    host::prepare_to_build()?;
    let mut steps = Steps::default();
    all(&mut steps);
    steps.finish()
}

/// The cheap ones first.
pub fn all(steps: &mut Steps) {
    steps.run("format", || {
        cargo::run(cargo::command(["fmt", "--all", "--check"]))?;
        let ebpf = ["fmt", "--manifest-path", "agent-ebpf/Cargo.toml", "--check"];
        cargo::run(cargo::command(ebpf))
    });
    steps.run("law", law::run);
    steps.run("ebpf", ebpf::verify);
    steps.run("lints", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        cargo::run(cargo::command(arguments))
    });
    steps.run("documentation", || {
        let mut doc = cargo::command(["doc", "--workspace", "--no-deps", "--quiet"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        cargo::run(doc)
    });
}

/// `cargo xtask fix`: what `verify` would complain about and a machine can mend.
///
/// # Errors
/// When one of the tools fails.
pub fn fix() -> Result<()> {
    host::prepare_to_build()?;
    let arguments = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty"];
    cargo::run(cargo::command(arguments))?;
    cargo::run(cargo::command(["fmt", "--all"]))
}
