//! Compiles `mezzo-init` and leaves it where the launcher embeds it.
//!
//! It is not a cargo target of its own because a program without `std` needs `panic = "abort"`, and
//! cargo chooses the panic strategy for a whole profile: the tests and every daemon would have to
//! share it. So the compiler that cargo uses is called directly, with the flags that make a
//! static program of a few kilobytes.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| {
        std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for build scripts"))
    };
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    assert!(
        architecture == "x86_64" || architecture == "aarch64",
        "mezzo-init knows x86_64 and aarch64, not {}: add init/{}.rs",
        architecture.display(),
        architecture.display(),
    );
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("init/main.rs");
    let output = PathBuf::from(variable("OUT_DIR")).join("mezzo-init");

    let mut compiler = Command::new(variable("RUSTC"));
    compiler
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "mezzo_init"])
        .arg("--target")
        .arg(variable("TARGET"))
        .args(["-D", "warnings"]);
    for option in [
        "panic=abort",
        "opt-level=s",
        "codegen-units=1",
        "lto=fat",
        "embed-bitcode=yes",
        "debuginfo=0",
        "overflow-checks=off",
        "strip=symbols",
        "force-unwind-tables=no",
        "relocation-model=static",
        "link-arg=-nostartfiles",
        "link-arg=-static",
        // One small segment for headers, text and constants: fewer pages per process.
        "link-arg=-Wl,-z,noseparate-code,-z,norelro,-z,noexecstack,--build-id=none",
    ] {
        compiler.args(["-C", option]);
    }
    if let Some(linker) = std::env::var_os("RUSTC_LINKER") {
        compiler.arg("-C").arg(format!("linker={}", linker.display()));
    }
    let status = compiler.arg("-o").arg(&output).arg(&source).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{compiler:?} ended with {status}"),
        Err(error) => panic!("cannot run {compiler:?}: {error}"),
    }
}
