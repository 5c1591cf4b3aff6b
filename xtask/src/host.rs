//! What the machine must have, installed when missing.
//!
//! Rust itself is there, or this would not run. The rest are Debian packages; each is asked for by
//! what it brings, so that a machine that has it by other means is left alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::vm;

struct Need {
    package: &'static str,
    reason: &'static str,
    present: fn() -> bool,
}

const TO_BUILD: &[Need] = &[
    Need { package: "g++", reason: "compiles RocksDB", present: || on_path("c++") },
    Need {
        package: "ccache",
        reason: "keeps RocksDB's objects, so that it is compiled once per machine",
        present: || on_path("ccache"),
    },
    Need {
        package: "libclang-dev",
        reason: "reads RocksDB's C header for its Rust bindings",
        present: has_libclang,
    },
    Need {
        package: "make",
        reason: "compiles jemalloc, and libbpf for tests",
        present: || on_path("make"),
    },
    Need {
        package: "pkg-config",
        reason: "tells where libbpf's libraries are",
        present: || on_path("pkg-config"),
    },
    Need {
        package: "libelf-dev",
        reason: "is what libbpf reads objects with",
        present: || Path::new("/usr/include/libelf.h").exists(),
    },
    Need {
        package: "zlib1g-dev",
        reason: "is what libbpf reads compressed objects with",
        present: || Path::new("/usr/include/zlib.h").exists(),
    },
    Need {
        package: "protobuf-compiler",
        reason: "compiles the raft crate's messages",
        present: || on_path("protoc"),
    },
];

const TO_TEST: &[Need] = &[
    Need {
        package: "python3-venv",
        reason: "runs pymesos, the client that the tests did not write",
        present: || succeeds("python3", &["-c", "import venv, ensurepip"]),
    },
    Need {
        package: "systemd",
        reason: "starts the packaged daemons, in a container of its own",
        present: || Path::new("/lib/systemd/systemd").exists() && on_path("systemd-analyze"),
    },
    Need {
        package: "iproute2",
        reason: "makes the wires between hosts that tests cut and count on",
        present: || on_path("ip"),
    },
    Need {
        package: "e2fsprogs",
        reason: "makes the small disks that tests fill and break",
        present: || on_path("mkfs.ext4"),
    },
    Need {
        package: "btrfs-progs",
        reason: "makes the disk whose quota a test uses up",
        present: || on_path("mkfs.btrfs"),
    },
    Need {
        package: "python3-dev",
        reason: "compiles a dependency of pymesos",
        present: || succeeds("python3", &["-c", PYTHON_HEADER]),
    },
];

const TO_PACKAGE: &[Need] = &[
    Need {
        package: "dpkg-dev",
        reason: "says which packages the binaries' libraries are in",
        present: || on_path("dpkg-shlibdeps"),
    },
    Need { package: "binutils", reason: "strips the binaries", present: || on_path("strip") },
];

const TO_BENCH: &[Need] = &[Need {
    package: "crun",
    reason: "is the rival that launches are compared with",
    present: || on_path("crun"),
}];

/// Of the virtual machine that tests run in.
const MACHINE: &[Need] = &[
    Need {
        package: "qemu-system-x86",
        reason: "is the virtual machine",
        present: || on_path("qemu-system-x86_64"),
    },
    Need {
        package: "qemu-system-common",
        reason: "serves it this machine's files",
        present: || vm::file_server().is_some(),
    },
    Need {
        package: "seabios",
        reason: "starts it",
        present: || Path::new("/usr/share/seabios/bios-256k.bin").exists(),
    },
    Need {
        package: "busybox-static",
        reason: "is its first program",
        present: || Path::new("/bin/busybox").exists(),
    },
    Need {
        package: "kmod",
        reason: "says which drivers its kernel needs",
        present: || Path::new("/sbin/modprobe").exists(),
    },
    Need {
        package: "e2fsprogs",
        reason: "makes its disk",
        present: || Path::new("/sbin/mkfs.ext4").exists(),
    },
];

/// Asked for where no compiler has its sources.
const RUSTC_WITH_SOURCES: &[Need] = &[
    Need {
        package: "rustc-web",
        reason: "compiles eBPF programs",
        present: || Path::new("/usr/bin/rustc").exists(),
    },
    Need {
        package: "rust-web-src",
        reason: "is the library that eBPF programs are compiled with",
        present: || Path::new("/usr/lib/rustlib/src/rust/library/Cargo.lock").exists(),
    },
];

const LLVM: &[Need] = &[Need {
    package: "llvm-22-dev",
    reason: "is what the linker of eBPF programs is built with",
    present: || Path::new("/usr/lib/llvm-22/bin/llvm-config").exists(),
}];

/// Fails where Python's C header is missing.
const PYTHON_HEADER: &str =
    "import os, sysconfig; open(os.path.join(sysconfig.get_paths()['include'], 'Python.h'))";

/// Installs what building needs.
///
/// # Errors
/// When something is missing and cannot be installed; says what and how to install it by hand.
pub fn prepare_to_build() -> Result<()> {
    prepare(TO_BUILD)
}

/// Installs what building, packaging and testing need.
///
/// # Errors
/// As [`prepare_to_build`].
pub fn prepare_to_test() -> Result<()> {
    prepare(TO_BUILD)?;
    prepare(TO_PACKAGE)?;
    prepare(TO_TEST)
}

/// Installs what building and packaging need.
///
/// # Errors
/// As [`prepare_to_build`].
pub fn prepare_to_package() -> Result<()> {
    prepare(TO_BUILD)?;
    prepare(TO_PACKAGE)
}

/// Installs what building and measuring need.
///
/// # Errors
/// As [`prepare_to_build`].
pub fn prepare_to_bench() -> Result<()> {
    prepare(TO_BUILD)?;
    prepare(TO_BENCH)
}

/// Installs what the virtual machine needs.
///
/// # Errors
/// As [`prepare_to_build`]; and on another processor than x86-64, whose kernel is not Debian's cloud kernel of it.
pub fn prepare_machine() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the virtual machine is one with an x86-64 processor, and so are the programs in it");
    }
    prepare(MACHINE)
}

/// Installs a rustc that can compile eBPF programs.
///
/// # Errors
/// As [`prepare_to_build`].
pub fn prepare_rustc_with_sources() -> Result<()> {
    prepare(RUSTC_WITH_SOURCES)
}

/// Installs the LLVM of that rustc.
///
/// # Errors
/// As [`prepare_to_build`].
pub fn prepare_llvm() -> Result<()> {
    prepare(LLVM)
}

/// `CC` and `CXX` through ccache, where it exists and the caller has not chosen otherwise.
pub fn compilers() -> Vec<(&'static str, OsString)> {
    if !on_path("ccache") {
        return Vec::new();
    }
    let unset = |(name, _): &(&str, &str)| std::env::var_os(name).is_none();
    let ours = [("CC", "ccache cc"), ("CXX", "ccache c++")];
    ours.into_iter().filter(unset).map(|(name, value)| (name, value.into())).collect()
}

fn prepare(needs: &[Need]) -> Result<()> {
    let missing = Vec::from_iter(needs.iter().filter(|need| !(need.present)()));
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} ({})", need.package, need.reason);
    }
    let packages = Vec::from_iter(missing.iter().map(|need| need.package));
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !on_path("apt-get") {
        bail!("this system has no apt-get; install by its own means what `{by_hand}` would");
    }
    // Package lists may be older than the packages: a fresh image often has none at all.
    apt(&["update"]).with_context(|| format!("cannot install; try `{by_hand}` as root"))?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install).with_context(|| format!("cannot install; try `{by_hand}` as root"))?;
    if let Some(still) = missing.iter().find(|need| !(need.present)()) {
        bail!("installed {}, but what it brings is still not found", still.package);
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "apt-get"]);
        sudo
    };
    command.args(arguments).arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    crate::cargo::run(command)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Where clang-sys looks, in short: its variable, Debian's LLVM directories, the library path.
fn has_libclang() -> bool {
    if let Some(directory) = std::env::var_os("LIBCLANG_PATH") {
        return holds_libclang(&PathBuf::from(directory));
    }
    let in_llvm = || {
        let entries = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        entries.map(|entry| entry.path().join("lib")).any(|directory| holds_libclang(&directory))
    };
    let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    libraries.iter().any(|directory| holds_libclang(Path::new(directory))) || in_llvm()
}

fn holds_libclang(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| is_libclang(&name.to_string_lossy()))
}

/// The C interface, `libclang.so`, `libclang-14.so.1` and the like. The C++ one beside it,
/// `libclang-cpp.so.14`, comes with tools that need no `libclang` and is of no use to bindgen.
fn is_libclang(name: &str) -> bool {
    let versioned = name.starts_with("libclang-") && !name.starts_with("libclang-cpp");
    name.starts_with("libclang.so") || (versioned && name.contains(".so"))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn tells_the_c_interface_from_the_other_libraries_of_clang() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so", "libclang-14.so.13"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so", "libclang-cpp.so.14", "libclang-14.a", "libLLVM-14.so"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
