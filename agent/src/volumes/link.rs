//! A task's volumes in its sandbox: symbolic links, as Mesos makes them without `filesystem/linux`.
//!
//! They are made before anything of the task's is in the sandbox, and without following anything that might be there all the
//! same. The volume belongs to the task's user from then on; a shared one to the user of its first task.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use mezzo_types::{Resources, validate_container_path};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::{VolumeError, place};
use crate::sandbox::Owner;

/// Why a task does not get a volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Place(#[from] VolumeError),
    #[error("the container path '{path}' of a volume {rule}")]
    Path { path: String, rule: &'static str },
    #[error("the persistent volume {path} cannot be used")]
    Volume {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the persistent volume cannot be put at '{path}' of the sandbox")]
    Link {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Puts every persistent volume among `resources` where it says in the sandbox. Blocks for a moment.
pub(crate) fn link(
    work_dir: &Path,
    sandbox: impl AsFd,
    resources: &Resources,
    owner: Owner,
) -> Result<(), LinkError> {
    for volume in resources.persistent_volumes().iter() {
        let mount = volume.disk.as_ref().and_then(|disk| disk.volume.as_ref());
        let Some(path) = mount.map(|mount| mount.container_path.as_str()) else { continue };
        if let Err(rule) = validate_container_path(path) {
            return Err(LinkError::Path { path: path.to_owned(), rule });
        }
        let target = place(work_dir, volume)?.path;
        give(&target, volume.shared, owner)
            .map_err(|source| LinkError::Volume { path: target.clone(), source })?;
        link_one(sandbox.as_fd(), path, &target, owner)
            .map_err(|source| LinkError::Link { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn give(volume: &Path, shared: bool, owner: Owner) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = File::from(open(volume, flags, Mode::empty())?);
    // Root may use it anyway. Whoever uses a shared one now must not lose it.
    let taken = shared && directory.metadata()?.uid() != 0;
    if owner.uid == 0 || taken {
        return Ok(());
    }
    fchown(&directory, Some(owner.uid), Some(owner.gid))
}

fn link_one(sandbox: impl AsFd, path: &str, target: &Path, owner: Owner) -> io::Result<()> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let Some(name) = parts.pop() else { return Err(Errno::EINVAL.into()) };
    let mut directory: Option<OwnedFd> = None;
    for part in parts {
        let inner = match &directory {
            Some(directory) => step(directory, part, owner)?,
            None => step(&sandbox, part, owner)?,
        };
        directory = Some(inner);
    }
    let directory = directory.as_ref().map_or(sandbox.as_fd(), AsFd::as_fd);
    match symlinkat(target, directory, name) {
        // Of an executor's container, which is given more while it runs.
        Err(Errno::EEXIST) if readlinkat(directory, name).is_ok_and(|old| old == *target) => Ok(()),
        made => Ok(made?),
    }
}

/// A directory in a directory, made if need be, never through a link.
fn step(directory: impl AsFd, name: &str, owner: Owner) -> io::Result<OwnedFd> {
    let made = match mkdirat(&directory, name, Mode::from_bits_truncate(0o750)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let inner = openat2(&directory, name, how)?;
    if made {
        fchown(&inner, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const NOBODY: Owner = Owner { uid: 65534, gid: 65534 };

    fn resources(id: &str, path: &str, shared: bool) -> Resources {
        let shared = if shared { r#""shared": {}, "# } else { "" };
        let json = format!(
            r#"[{{{shared}"name": "disk", "type": "SCALAR", "scalar": {{"value": 64}},
                "reservations": [{{"type": "DYNAMIC", "role": "web"}}],
                "disk": {{"persistence": {{"id": "{id}"}},
                    "volume": {{"mode": "RW", "container_path": "{path}"}}}}}}]"#
        );
        Resources::parse(&json, "*").unwrap()
    }

    struct Rig {
        work: tempfile::TempDir,
        sandbox: PathBuf,
    }

    impl Rig {
        fn new() -> Rig {
            let work = tempfile::tempdir().unwrap();
            let sandbox = work.path().join("sandbox");
            fs::create_dir(&sandbox).unwrap();
            fs::create_dir_all(work.path().join("volumes/roles/web/v")).unwrap();
            Rig { work, sandbox }
        }

        fn link(&self, resources: &Resources, owner: Owner) -> Result<(), LinkError> {
            link(self.work.path(), File::open(&self.sandbox).unwrap(), resources, owner)
        }
    }

    #[test]
    fn a_volume_is_where_it_says_and_belongs_to_the_user() {
        let rig = Rig::new();
        rig.link(&resources("v", "data", false), NOBODY).unwrap();
        let volume = rig.work.path().join("volumes/roles/web/v");
        assert_eq!(fs::read_link(rig.sandbox.join("data")).unwrap(), volume);
        assert_eq!(fs::metadata(&volume).unwrap().uid(), 65534);
        rig.link(&resources("v", "deep/er/data", false), NOBODY).unwrap();
        assert_eq!(fs::read_link(rig.sandbox.join("deep/er/data")).unwrap(), volume);
        assert_eq!(fs::metadata(rig.sandbox.join("deep/er")).unwrap().uid(), 65534);
    }

    #[test]
    fn a_shared_volume_keeps_its_first_user() {
        let rig = Rig::new();
        let volume = rig.work.path().join("volumes/roles/web/v");
        rig.link(&resources("v", "a", true), NOBODY).unwrap();
        rig.link(&resources("v", "b", true), Owner { uid: 1, gid: 1 }).unwrap();
        assert_eq!(fs::metadata(&volume).unwrap().uid(), 65534);
        rig.link(&resources("v", "c", false), Owner { uid: 1, gid: 1 }).unwrap();
        assert_eq!(fs::metadata(&volume).unwrap().uid(), 1);
    }

    #[test]
    fn nothing_leads_elsewhere() {
        let rig = Rig::new();
        symlink("/etc", rig.sandbox.join("out")).unwrap();
        fs::write(rig.sandbox.join("there"), "x").unwrap();
        for path in ["out/data", "there", "there/data", "/data", "../data", "a/../../b", "."] {
            rig.link(&resources("v", path, false), NOBODY).expect_err(path);
        }
        assert!(!Path::new("/etc/data").exists() && !rig.work.path().join("data").exists());
        // A link in the place of the volume is not followed either.
        let volume = rig.work.path().join("volumes/roles/web/v");
        fs::remove_dir(&volume).unwrap();
        symlink("/etc", &volume).unwrap();
        rig.link(&resources("v", "data", false), NOBODY).expect_err("a link");
        rig.link(&resources("w", "data", false), NOBODY).expect_err("missing");
    }
}
