//! A small disk of its own for a directory: an image of ext4, or of btrfs with a quota, on a loop device.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A file system on a loop device. Dropping it unmounts it, and the loop device goes with the last user.
pub struct Disk {
    image: TempDir,
    mounted: PathBuf,
}

impl Disk {
    /// Makes a file system of `mib` MiB and mounts it on `directory`, which is made.
    pub fn mount(directory: &Path, mib: u64) -> Result<Self> {
        fs::create_dir_all(directory).context("cannot make the mount point")?;
        let image = tempfile::Builder::new().prefix("mezzo-disk-").tempdir()?;
        let disk = Self { image, mounted: directory.to_owned() };
        File::create(disk.image())?.set_len(mib << 20)?;
        run(
            "mkfs.ext4",
            &["-q", "-F", "-E", "root_owner=0:0", &disk.image().display().to_string()],
        )?;
        disk.remount()?;
        Ok(disk)
    }

    /// Makes a btrfs of `mib` MiB with a quota of `quota_mib` MiB and mounts it on `directory`, which is made.
    pub fn with_quota(directory: &Path, mib: u64, quota_mib: u64) -> Result<Self> {
        fs::create_dir_all(directory).context("cannot make the mount point")?;
        let image = tempfile::Builder::new().prefix("mezzo-disk-").tempdir()?;
        let disk = Self { image, mounted: directory.to_owned() };
        File::create(disk.image())?.set_len(mib << 20)?;
        run("mkfs.btrfs", &["-q", "-f", &disk.image().display().to_string()])?;
        disk.remount()?;
        let mounted = directory.display().to_string();
        run("btrfs", &["quota", "enable", &mounted])?;
        run("btrfs", &["qgroup", "limit", &format!("{quota_mib}M"), &mounted])?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    fn image(&self) -> PathBuf {
        self.image.path().join("image")
    }

    /// Mounts it, again.
    pub fn remount(&self) -> Result<()> {
        let (image, mounted) = (self.image(), self.mounted.display().to_string());
        run("mount", &["-o", "loop", &image.display().to_string(), &mounted])
    }

    /// As when the disk is pulled: paths lead elsewhere, open files live on.
    pub fn vanish(&self) -> Result<()> {
        run("umount", &["-l", &self.mounted.display().to_string()])
    }

    /// What the kernel does after an error of the disk.
    pub fn abort(&self) -> Result<()> {
        run("mount", &["-o", "remount,abort", &self.mounted.display().to_string()])
    }

    /// Takes all space that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("cannot fill the disk")?;
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        // Blocks are taken when they are written out.
        file.sync_all().context("cannot fill the disk")
    }

    /// Gives back what [`Disk::fill`] took.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot free the disk")
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}: is it installed?"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {} failed: {errors}", arguments.join(" "));
    Ok(())
}
