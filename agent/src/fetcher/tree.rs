//! Writing below one directory and nowhere else.
//!
//! Every path is resolved by the kernel with `RESOLVE_BENEATH`: whatever symbolic links lie in the
//! sandbox (an archive may have just put them there), nothing outside is opened, made or changed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::error::FetchFault;
use crate::sandbox::Owner;

/// Mode bits that survive: permissions, and neither setuid, setgid nor sticky.
const PERMISSIONS: u32 = 0o777;

/// A sandbox to write into.
pub(super) struct Tree {
    root: OwnedFd,
    owner: Option<Owner>,
}

impl Tree {
    pub(super) fn open(path: &Path, owner: Option<Owner>) -> Result<Tree, FetchFault> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).map_err(|errno| fault("open", path, errno))?;
        Ok(Tree { root, owner })
    }

    /// A new, empty file, readable and writable, in place of whatever file or link had its name.
    /// Directories on the way are made.
    pub(super) fn create_file(&self, path: &Path) -> Result<File, FetchFault> {
        let (parent, name) = self.parent(path)?;
        remove(&parent, name, path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let how = beneath(flags).mode(Mode::from_bits_truncate(0o600));
        let file = openat2(&parent, name, how).map_err(|errno| fault("create", path, errno))?;
        Ok(File::from(file))
    }

    /// Gives a written file its owner, its permissions and its time.
    pub(super) fn finish_file(
        &self,
        file: &File,
        mode: u32,
        modified: Option<SystemTime>,
    ) -> Result<(), FetchFault> {
        let path = Path::new("the file");
        if let Some(owner) = self.owner {
            fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
                .map_err(|errno| fault("give away", path, errno))?;
        }
        // After the change of owner, which clears bits.
        fchmod(file, Mode::from_bits_truncate(mode & PERMISSIONS))
            .map_err(|errno| fault("set the permissions of", path, errno))?;
        if let Some(modified) = modified {
            file.set_modified(modified).map_err(|source| FetchFault::Sandbox {
                step: "set the time of",
                path: path.display().to_string(),
                source,
            })?;
        }
        Ok(())
    }

    /// Makes a directory, or sets the permissions of the one that is there. Its owner can always
    /// enter it and write to it: the rest of an archive has to go in.
    pub(super) fn make_directory(&self, path: &Path, mode: u32) -> Result<(), FetchFault> {
        if path.as_os_str().is_empty() {
            // The sandbox itself, which is not the archive's to change.
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        // A link in its place is not followed but replaced.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let directory = match openat2(&parent, name, beneath(flags)) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => self.make(&parent, name, path)?,
            Err(Errno::ENOTDIR) => {
                remove(&parent, name, path)?;
                self.make(&parent, name, path)?
            }
            Err(errno) => return Err(fault("open", path, errno)),
        };
        // A handle from O_PATH cannot be changed; one to read from can.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let directory =
            openat2(&directory, ".", beneath(flags)).map_err(|errno| fault("open", path, errno))?;
        fchmod(&directory, Mode::from_bits_truncate((mode | 0o700) & PERMISSIONS))
            .map_err(|errno| fault("set the permissions of", path, errno))
    }

    /// A symbolic link. It may point anywhere: it is the task's, and is followed with the task's
    /// permissions.
    pub(super) fn make_symlink(&self, path: &Path, target: &[u8]) -> Result<(), FetchFault> {
        let (parent, name) = self.parent(path)?;
        remove(&parent, name, path)?;
        symlinkat(OsStr::from_bytes(target), &parent, name)
            .map_err(|errno| fault("make the link", path, errno))?;
        self.give(&parent, name, path)
    }

    /// Another name for a file in the sandbox.
    pub(super) fn make_hard_link(&self, path: &Path, existing: &Path) -> Result<(), FetchFault> {
        let (from_parent, from_name) = self.parent(existing)?;
        let (parent, name) = self.parent(path)?;
        if path != existing {
            remove(&parent, name, path)?;
        }
        linkat(&from_parent, from_name, &parent, name, AtFlags::empty())
            .map_err(|errno| fault("make the link", path, errno))
    }

    /// The directory that `path` is in, made if need be, and the last component.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), FetchFault> {
        let name = path.file_name().ok_or_else(|| fault("name", path, Errno::EINVAL))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.directory(parent)?, name))
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd, FetchFault> {
        let whole = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match self.enter(&self.root, whole) {
            Ok(directory) => return Ok(directory),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fault("open", path, errno)),
        }
        // Some component is missing: go down one by one. Each step starts at the root, so that
        // links within the sandbox keep working.
        let mut so_far = PathBuf::new();
        let mut at =
            self.enter(&self.root, Path::new(".")).map_err(|errno| fault("open", path, errno))?;
        for component in path.components() {
            so_far.push(component);
            at = match self.enter(&self.root, &so_far) {
                Ok(next) => next,
                Err(Errno::ENOENT) => self.make(&at, component.as_os_str(), &so_far)?,
                Err(errno) => return Err(fault("open", &so_far, errno)),
            };
        }
        Ok(at)
    }

    fn enter(&self, at: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
        openat2(at, path, beneath(OFlag::O_PATH | OFlag::O_DIRECTORY))
    }

    fn make(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<OwnedFd, FetchFault> {
        let failed = |errno| fault("make the directory", path, errno);
        mkdirat(parent, name, Mode::from_bits_truncate(0o755)).map_err(failed)?;
        self.give(parent, name, path)?;
        self.enter(parent, Path::new(name)).map_err(failed)
    }

    /// Gives a name to the owner, without following it.
    fn give(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), FetchFault> {
        let Some(owner) = self.owner else {
            return Ok(());
        };
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| fault("give away", path, errno))
    }
}

fn beneath(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// Removes the file or link of that name, if there is one.
fn remove(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<(), FetchFault> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(fault("replace", path, errno)),
    }
}

fn fault(step: &'static str, path: &Path, errno: Errno) -> FetchFault {
    let path = path.display().to_string();
    match errno {
        // How the kernel says that RESOLVE_BENEATH was violated.
        Errno::EXDEV => FetchFault::LedOut { path },
        errno => FetchFault::Sandbox { step, path, source: io::Error::from(errno) },
    }
}

/// A relative path that stays where it is put, without `.` components; empty for `.` itself. The
/// error completes a sentence about the path.
pub(super) fn confined(path: &[u8]) -> Result<PathBuf, &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.contains(&0) {
        return Err("has a NUL character");
    }
    let mut clean = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("has `..` in it"),
            Component::RootDir | Component::Prefix(_) => return Err("is an absolute path"),
        }
    }
    Ok(clean)
}
