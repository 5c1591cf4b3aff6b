//! Child `cargo` commands, all with the same environment.
//!
//! The environment matters: a build script runs again when `CC` changes, and RocksDB's takes long.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;

/// The repository's root.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// `cargo` at the repository's root, with the compilers that the host has.
pub fn command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()).envs(host::compilers());
    command
}

/// Runs to the end, output passed through.
///
/// # Errors
/// When the command cannot be started or does not succeed; the message names it.
pub fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and returns what it wrote to its standard output.
///
/// # Errors
/// When the command cannot be started, does not succeed, or writes no UTF-8.
pub fn read(mut command: Command) -> Result<String> {
    let shown = show(&command);
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` ended with {}: {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` wrote no UTF-8"))
}

/// Where built executables are: beside this one, which the same `cargo` has built.
///
/// # Errors
/// When the path of this executable is unknown.
pub fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this executable is")?;
    own.parent().map(Path::to_path_buf).context("this executable has no directory")
}

/// Where executables of the profile `release` are, in the same target directory.
///
/// # Errors
/// As [`binaries`].
pub fn released() -> Result<PathBuf> {
    let built = binaries()?;
    let target = built.parent().context("this executable is in no target directory")?;
    Ok(target.join("release"))
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut shown = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}
