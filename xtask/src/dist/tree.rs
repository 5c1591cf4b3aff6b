//! The files of a package, as they will lie below `/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::cargo;

/// A directory that becomes a package.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn new(root: PathBuf) -> Result<Self> {
        make_directory(&root)?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, place: &str) -> PathBuf {
        self.root.join(place)
    }

    /// Writes a file with the mode that a package's files have, whatever the caller's mask.
    pub fn place(&self, place: &str, executable: bool, content: &[u8]) -> Result<PathBuf> {
        let path = self.path(place);
        let mut directory = self.root.clone();
        for part in Path::new(place).parent().into_iter().flat_map(Path::components) {
            directory.push(part);
            make_directory(&directory)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {path:?}"))?;
        set_mode(&path, if executable { 0o755 } else { 0o644 })?;
        Ok(path)
    }

    /// As Debian has its documentation: with gzip, without a time in it.
    pub fn compress(&self, place: &str, content: &[u8]) -> Result<()> {
        let path = self.place(place, false, content)?;
        let mut gzip = Command::new("gzip");
        gzip.args(["--best", "--no-name"]).arg(&path);
        cargo::run(gzip)
    }

    /// The `md5sums` of all files that are not dpkg's own.
    pub fn sums(&self) -> Result<String> {
        let mut files = Vec::new();
        collect(&self.root, &mut files)?;
        let names = files.iter().filter_map(|path| path.strip_prefix(&self.root).ok());
        let mut names: Vec<&Path> = names.filter(|name| !name.starts_with("DEBIAN")).collect();
        names.sort_unstable();
        let mut sums = Command::new("md5sum");
        sums.args(names).current_dir(&self.root).stdin(Stdio::null());
        cargo::read(sums)
    }

    /// Size of the installed files, each rounded up to a kilobyte.
    pub fn kilobytes(&self) -> Result<u64> {
        let mut files = Vec::new();
        collect(&self.root, &mut files)?;
        let size = |path: &PathBuf| fs::metadata(path).map(|meta| meta.len().div_ceil(1024));
        let sizes = files.iter().map(size).collect::<std::io::Result<Vec<_>>>();
        Ok(sizes.context("cannot measure the package")?.into_iter().sum())
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {directory:?}"))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {directory:?}"))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<()> {
    if !path.is_dir() {
        fs::create_dir(path).with_context(|| format!("cannot make {path:?}"))?;
    }
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).with_context(|| format!("cannot set the mode of {path:?}"))
}
