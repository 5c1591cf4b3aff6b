//! The eBPF object: built by `cargo xtask build-ebpf`, committed, embedded by every ordinary build.
//!
//! The object is a function of its sources and of the tools, not of the machine: paths are mapped away, and what
//! is left of debug information is what the kernel reads. So whoever has the same tools gets the same bytes.

mod manifest;
mod toolchain;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::manifest::{Manifest, digest};
use self::toolchain::Toolchain;
use crate::cargo;

/// Where the programs are, from the repository's root.
const SOURCES: &str = "agent-ebpf";
const OBJECT: &str = "agent-ebpf/object/mezzo-agent-ebpf.o";
const TARGET: &str = "bpfel-unknown-none";

/// What the compiler is told, apart from paths. Part of the digest of the sources.
const FLAGS: &[&str] = &[
    // The same for every host: the programs read no registers.
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
];

/// Builds the object and writes it with its manifest.
///
/// # Errors
/// When tools are missing and cannot be installed, or the programs do not compile.
pub fn build() -> Result<()> {
    let toolchain = Toolchain::prepare()?;
    let object = compile(&toolchain)?;
    let manifest = Manifest::new(&object, &sources()?, &toolchain);
    let path = cargo::root().join(OBJECT);
    std::fs::write(&path, &object).with_context(|| format!("cannot write {path:?}"))?;
    manifest.write()?;
    println!("{OBJECT}: {} bytes, sha256 {}", object.len(), manifest.object);
    Ok(())
}

/// Builds the object and compares it with the committed one: with the same tools it is the same, with others it must
/// load and pass the tests.
///
/// # Errors
/// When it is not, or does not; and as [`build`].
pub fn check() -> Result<()> {
    verify()?;
    let committed = Manifest::read()?;
    let toolchain = Toolchain::prepare()?;
    let object = compile(&toolchain)?;
    let built = Manifest::new(&object, &sources()?, &toolchain);
    if built.same_tools(&committed) {
        if built.object != committed.object {
            bail!(
                "the tools are those of the manifest, but the object differs (sha256 {}, committed {}); \
                 run `cargo xtask build-ebpf` and commit what it writes",
                built.object,
                committed.object
            );
        }
        println!("the committed object is what its sources and tools make");
        return Ok(());
    }
    println!(
        "built by {}, committed by {}: tested instead of compared",
        built.tools(),
        committed.tools()
    );
    let path = cargo::root().join("target/ebpf/fresh.o");
    std::fs::write(&path, &object).with_context(|| format!("cannot write {path:?}"))?;
    let mut test =
        cargo::command(["test", "--workspace", "--locked", "--examples", "--test", "kernel"]);
    test.env("MEZZO_EBPF_OBJECT", &path);
    cargo::run(test)
}

/// Whether the committed object belongs to the sources beside it. Needs no tools.
///
/// # Errors
/// When one of them was changed without the other.
pub fn verify() -> Result<()> {
    let manifest = Manifest::read()?;
    let path = cargo::root().join(OBJECT);
    let object = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
    if digest(&object) != manifest.object {
        bail!("{OBJECT} is not what its manifest says; run `cargo xtask build-ebpf`");
    }
    if sources()? != manifest.sources {
        bail!("{SOURCES} was changed after the object was built; run `cargo xtask build-ebpf`");
    }
    Ok(())
}

/// Digest of all that the object is made of: names and contents of files, and [`FLAGS`].
fn sources() -> Result<String> {
    let root = cargo::root().join(SOURCES);
    let mut files = Vec::new();
    for name in ["Cargo.toml", "Cargo.lock", "common/Cargo.toml"] {
        files.push(root.join(name));
    }
    list(&root.join("src"), &mut files)?;
    list(&root.join("common/src"), &mut files)?;
    files.sort();
    let mut all = Vec::new();
    for path in &files {
        let content = std::fs::read(path).with_context(|| format!("cannot read {path:?}"))?;
        let name = path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
        all.extend_from_slice(format!("{name} {}\n", digest(&content)).as_bytes());
    }
    all.extend_from_slice(FLAGS.join(" ").as_bytes());
    Ok(digest(&all))
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot list {directory:?}"))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {directory:?}"))?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The stripped object.
fn compile(toolchain: &Toolchain) -> Result<Vec<u8>> {
    let sources = cargo::root().join(SOURCES);
    let target = cargo::root().join("target/ebpf/build");
    // Before the flags: they name the directory that this may make.
    let mut fetch = cargo::command(["fetch", "--locked"]);
    fetch.current_dir(&sources);
    cargo::run(fetch)?;

    let mut build =
        cargo::command(["build", "--locked", "--release", "-Zbuild-std=core", "--target"]);
    build.arg(TARGET).arg("--target-dir").arg(&target).current_dir(&sources);
    // build-std is for nightly compilers, or those that are told to be one: this child only.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", &toolchain.rustc);
    build.env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain)?).env("PATH", toolchain.path()?);
    for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        build.env_remove(name);
    }
    cargo::run(build)?;

    let built = target.join(TARGET).join("release/mezzo-agent-ebpf");
    let stripped = cargo::root().join("target/ebpf/stripped.o");
    let mut strip = Command::new(toolchain.strip());
    strip.arg("-g").arg("-o").arg(&stripped).arg(&built);
    cargo::run(strip)?;
    std::fs::read(&stripped).with_context(|| format!("cannot read {stripped:?}"))
}

/// [`FLAGS`], and what makes paths of this machine those of no machine.
fn flags(toolchain: &Toolchain) -> Result<OsString> {
    let mut flags = Vec::from_iter(FLAGS.iter().map(OsString::from));
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    remap(&toolchain.library, "/rust");
    if let Ok(real) = toolchain.library.canonicalize() {
        remap(&real, "/rust");
    }
    for registry in registries()? {
        remap(&registry, "/registry");
    }
    remap(cargo::root(), "/mezzo");
    Ok(flags.join(&OsString::from("\u{1f}")))
}

/// Where cargo unpacks what it downloads: one directory per registry.
fn registries() -> Result<Vec<PathBuf>> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
                .join(".cargo")
        }
    };
    let sources = home.join("registry/src");
    let entries =
        std::fs::read_dir(&sources).with_context(|| format!("cannot list {sources:?}"))?;
    let mut found = Vec::from_iter(entries.flatten().map(|entry| entry.path()));
    found.sort();
    Ok(found)
}
