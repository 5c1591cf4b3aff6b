//! The tools that compile eBPF programs: a rustc whose sources of `core` are there, the LLVM that it was built
//! with, and a linker built with that LLVM.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, host};

/// Release of rustc that made the committed object. Of several compilers, this one is taken.
const RUSTC: &str = "1.96.0";
/// Release of bpf-linker. Another one makes another object.
pub const LINKER: &str = "0.13.0";
/// The LLVM that the packages which are installed on Debian bring.
const PACKAGED_LLVM: &str = "22";

/// Tools that fit together.
pub struct Toolchain {
    pub rustc: PathBuf,
    /// Release of rustc, such as "1.96.0".
    pub release: String,
    /// Version of the LLVM inside it, such as "22.1.8".
    pub llvm: String,
    /// The standard library's sources.
    pub library: PathBuf,
}

impl Toolchain {
    /// Finds the tools, in this order: `EBPF_RUSTC`, the compilers of rustup, that of the system; installs from Debian
    /// where none has its sources. Builds the linker once.
    ///
    /// # Errors
    /// When something is missing and cannot be installed.
    pub fn prepare() -> Result<Self> {
        if find().is_none() {
            host::prepare_rustc_with_sources()?;
        }
        let found = find().context(
            "no rustc has the sources of its library; install Debian's rustc-web and rust-web-src, or \
             `rustup component add rust-src`, or name a compiler in EBPF_RUSTC",
        )?;
        let major = found.llvm_major();
        if !found.llvm_prefix().join("bin/llvm-config").exists() {
            if major != PACKAGED_LLVM {
                bail!("{:?} is built with LLVM {major}; install llvm-{major}-dev", found.rustc);
            }
            host::prepare_llvm()?;
        }
        found.prepare_linker()?;
        Ok(found)
    }

    /// `PATH` with the linker in front.
    pub fn path(&self) -> Result<OsString> {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let first = std::iter::once(self.tools().join("bin"));
        std::env::join_paths(first.chain(std::env::split_paths(&old))).context("PATH is odd")
    }

    /// The program that strips objects, of the same LLVM.
    pub fn strip(&self) -> PathBuf {
        self.llvm_prefix().join("bin/llvm-strip")
    }

    fn prepare_linker(&self) -> Result<()> {
        let tools = self.tools();
        if tools.join("bin/bpf-linker").exists() {
            return Ok(());
        }
        // Apart from the workspace, whose compiler's settings are not for it.
        let mut install =
            cargo::command(["install", "bpf-linker", "--locked", "--no-default-features"]);
        install
            .args(["--version", LINKER, "--features"])
            .arg(format!("llvm-{}", self.llvm_major()));
        install.arg("--root").arg(&tools);
        install.arg("--target-dir").arg(cargo::root().join("target/ebpf/linker"));
        install.env("LLVM_PREFIX", self.llvm_prefix()).env_remove("RUSTFLAGS");
        cargo::run(install)
    }

    /// One directory per pair of versions, so that neither is taken for the other.
    fn tools(&self) -> PathBuf {
        let name = format!("target/ebpf/bpf-linker-{LINKER}-llvm-{}", self.llvm_major());
        cargo::root().join(name)
    }

    fn llvm_prefix(&self) -> PathBuf {
        PathBuf::from(format!("/usr/lib/llvm-{}", self.llvm_major()))
    }

    fn llvm_major(&self) -> &str {
        self.llvm.split('.').next().unwrap_or_default()
    }

    /// A compiler, if its sources are there.
    fn of(rustc: PathBuf) -> Option<Self> {
        let run = |arguments: &[&str]| {
            let output = Command::new(&rustc).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let library = Path::new(run(&["--print", "sysroot"])?.trim()).join("lib/rustlib/src/rust");
        // build-std reads this one.
        if !library.join("library/Cargo.lock").exists() {
            return None;
        }
        let version = run(&["-vV"])?;
        let field = |name: &str| {
            version.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let (release, llvm) = (field("release:")?, field("LLVM version:")?);
        Some(Toolchain { rustc, release, llvm, library })
    }
}

fn find() -> Option<Toolchain> {
    if let Some(named) = std::env::var_os("EBPF_RUSTC") {
        return Toolchain::of(named.into());
    }
    let found = Vec::from_iter(compilers().into_iter().filter_map(Toolchain::of));
    let pinned = found.iter().position(|toolchain| toolchain.release == RUSTC);
    found.into_iter().nth(pinned.unwrap_or(0))
}

/// Every rustc that may be there.
fn compilers() -> Vec<PathBuf> {
    let rustup = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup"));
    let toolchains = rustup.or_else(home).map(|rustup| rustup.join("toolchains"));
    let entries = toolchains.and_then(|path| std::fs::read_dir(path).ok()).into_iter().flatten();
    let mut found = Vec::from_iter(entries.flatten().map(|entry| entry.path().join("bin/rustc")));
    found.sort();
    found.push("/usr/bin/rustc".into());
    found.retain(|rustc| rustc.exists());
    found
}
