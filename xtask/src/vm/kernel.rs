//! Debian's kernel, from its package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Depends on the newest kernel for virtual machines, which has their drivers and few others.
const NEWEST: &str = "linux-image-cloud-amd64";
/// What the machine needs before it has its root file system, from its module or within the kernel.
const DRIVERS: [&str; 5] = ["virtio_pci", "virtio_console", "virtio_blk", "virtiofs", "overlay"];

/// An unpacked kernel.
pub struct Kernel {
    /// Such as "6.1.0-56-cloud-amd64".
    pub release: String,
    pub image: PathBuf,
    /// Its `lib/modules/RELEASE`.
    pub modules: PathBuf,
    /// [`DRIVERS`] and what they need, in the order in which they can be inserted.
    pub drivers: Vec<PathBuf>,
}

impl Kernel {
    /// The kernel below `target/vm/kernel`; one that is there is taken, so that the network is needed once.
    ///
    /// # Errors
    /// When it cannot be downloaded or unpacked.
    pub fn prepare() -> Result<Self> {
        let root = cargo::root().join("target/vm/kernel");
        if !root.join("complete").exists() {
            unpack(&root)?;
        }
        let modules = root.join("lib/modules");
        let mut releases = std::fs::read_dir(&modules)
            .with_context(|| format!("cannot list {modules:?}"))?
            .flatten();
        let release = releases.next().context("the kernel's package has no modules")?.file_name();
        let release = release.to_string_lossy().into_owned();
        let modules = modules.join(&release);
        let mut drivers = Vec::new();
        for name in DRIVERS {
            for driver in inserted(&root, &release, name)? {
                if !drivers.contains(&driver) {
                    drivers.push(driver);
                }
            }
        }
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        Ok(Kernel { release, image, modules, drivers })
    }
}

fn unpack(root: &Path) -> Result<()> {
    // What an earlier attempt left, if any.
    if root.exists() {
        std::fs::remove_dir_all(root).with_context(|| format!("cannot remove {root:?}"))?;
    }
    std::fs::create_dir_all(root).with_context(|| format!("cannot make {root:?}"))?;
    let mut depends = Command::new("apt-cache");
    depends.args(["depends", NEWEST]);
    let depends = cargo::read(depends)?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| {
        format!("the package lists have no {NEWEST}; run `apt-get update`, and see that the sources are Debian's")
    })?;
    let mut download = Command::new("apt-get");
    // Not as another user, who may not write below `target`.
    download.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", package]);
    cargo::run({
        download.current_dir(root);
        download
    })?;
    let entries = std::fs::read_dir(root).with_context(|| format!("cannot list {root:?}"))?;
    let mut archives = entries.flatten().map(|entry| entry.path());
    let archive = archives
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("`apt-get download {package}` left no package"))?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(&archive).arg(root);
    cargo::run(unpack)?;
    let modules = root.join("lib/modules");
    for entry in
        std::fs::read_dir(&modules).with_context(|| format!("cannot list {modules:?}"))?.flatten()
    {
        // What installing would do: which module needs which.
        let mut depmod = Command::new("/sbin/depmod");
        depmod.arg("-b").arg(root).arg(entry.file_name());
        cargo::run(depmod)?;
    }
    std::fs::remove_file(&archive).with_context(|| format!("cannot remove {archive:?}"))?;
    std::fs::write(root.join("complete"), package).context("cannot write below target/vm")
}

/// The module's file, after those that it needs; none for what is within the kernel.
fn inserted(root: &Path, release: &str, name: &str) -> Result<Vec<PathBuf>> {
    let mut modprobe = Command::new("/sbin/modprobe");
    modprobe.arg("-d").arg(root).args(["-S", release, "--show-depends", name]);
    let mut files = Vec::new();
    for line in cargo::read(modprobe)?.lines() {
        let Some(path) = line.strip_prefix("insmod ") else { continue };
        let path = PathBuf::from(path.trim());
        if path.extension().is_none_or(|extension| extension != "ko") {
            bail!("{path:?} is compressed, which busybox's insmod does not read");
        }
        files.push(path);
    }
    Ok(files)
}
