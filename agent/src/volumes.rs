//! Persistent volumes: directories that outlive tasks, frameworks and boots.
//!
//! | disk | where a volume lies |
//! |---|---|
//! | the agent's own | `<work_dir>/volumes/roles/<role>/<persistence id>` |
//! | PATH | the same below the disk's root |
//! | MOUNT | the root itself |
//!
//! As in Mesos a `/` in a role becomes a space, which no role contains. A volume that is destroyed is first moved to
//! `volumes/.removed` of its disk, in one step, and deleted there when there is time; what a crash leaves there the next agent
//! deletes. Nothing else ever deletes a volume's data.
//!
//! - `link`: a task's volumes in its sandbox.

mod link;
mod remover;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mezzo_types::{DiskKind, Resource, Resources};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

pub(crate) use self::link::link;
use self::remover::Remover;

/// Longest name of a directory on Linux's file systems, in bytes.
const NAME_MAX: usize = 255;
/// Below a disk's root, or on a MOUNT disk in it.
const REMOVED: &str = ".removed";
/// What `mkfs` leaves in the root of a file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Why a volume is not made, or not moved away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{volume} is no persistent volume on a disk of the agent")]
    NoVolume { volume: String },
    #[error("the {kind} disk of {volume} has no 'root'; name it in --resources")]
    NoRoot { volume: String, kind: &'static str },
    #[error("role '{role}' is too long to name a directory: {NAME_MAX} bytes are the most")]
    LongRole { role: String },
    #[error(
        "{path} is there already and holds files that belong to no volume of this agent; move them away and try again"
    )]
    Occupied { path: PathBuf },
    #[error("could not make {path}: {source}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not move {path} away: {source}")]
    Move {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The volumes of an agent.
#[derive(Debug)]
pub(crate) struct Volumes {
    work_dir: PathBuf,
    remover: Remover,
}

/// Where a volume lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// The directory that holds what was destroyed on the same disk.
    removed: PathBuf,
    /// The volume is a whole file system, whose root cannot be moved.
    mount: bool,
}

impl Volumes {
    /// `total` tells on which disks volumes may be: what was being deleted there is deleted on.
    pub(crate) fn start(work_dir: &Path, total: &Resources) -> Self {
        let remover = Remover::start();
        let mut disks = vec![work_dir.join("volumes").join(REMOVED)];
        for resource in total.iter() {
            let mut volume = resource.clone();
            volume.disk = volume.disk.map(|disk| disk.as_ref().clone().into());
            if let Some(removed) = removed_of_disk(work_dir, &volume) {
                disks.push(removed);
            }
        }
        disks.sort();
        disks.dedup();
        disks.into_iter().for_each(|removed| remover.remove(removed));
        Volumes { work_dir: work_dir.to_owned(), remover }
    }

    /// Makes the directories of new volumes, empty. What the disk was asked for is on it when this returns.
    ///
    /// # Errors
    /// One cannot be made; those that were made stay, empty.
    pub(crate) fn make(&self, volumes: &Resources) -> Result<(), VolumeError> {
        for volume in volumes.iter() {
            make(&place(&self.work_dir, volume)?)?;
        }
        Ok(())
    }

    /// Moves destroyed volumes away and has them deleted. One that is not there was moved before.
    pub(crate) fn remove(&self, volumes: &Resources) {
        for volume in volumes.iter() {
            let moved = place(&self.work_dir, volume).and_then(|place| {
                move_away(&place)?;
                Ok(place.removed)
            });
            match moved {
                Ok(removed) => self.remover.remove(removed),
                // It is no volume any more, and a new one of its name is refused until somebody has looked.
                Err(error) => {
                    tracing::error!(%volume, %error, "the data of a destroyed volume stays")
                }
            }
        }
    }
}

/// Where the volume lies, whether or not it is there.
///
/// # Errors
/// It has no place.
pub(crate) fn place(work_dir: &Path, volume: &Resource) -> Result<Place, VolumeError> {
    let no_volume = || VolumeError::NoVolume { volume: volume.to_string() };
    let id = volume.persistence_id().ok_or_else(no_volume)?;
    let role = volume.reservation_role().ok_or_else(no_volume)?;
    // Both were validated when the resource was read; nothing leads elsewhere by them.
    let role = role.replace('/', " ");
    if role.len() > NAME_MAX {
        return Err(VolumeError::LongRole { role });
    }
    let Some(root) = disk_root(work_dir, volume)? else {
        let volumes = work_dir.join("volumes");
        let path = volumes.join("roles").join(role).join(id);
        return Ok(Place { path, removed: volumes.join(REMOVED), mount: false });
    };
    match root {
        (root, DiskKind::Mount) => {
            Ok(Place { removed: root.join(REMOVED), path: root, mount: true })
        }
        (root, _) => {
            let volumes = root.join("volumes");
            let path = volumes.join("roles").join(role).join(id);
            Ok(Place { path, removed: volumes.join(REMOVED), mount: false })
        }
    }
}

/// The root of the disk that a resource is on; `None` for the agent's own.
fn disk_root(
    work_dir: &Path,
    resource: &Resource,
) -> Result<Option<(PathBuf, DiskKind)>, VolumeError> {
    let Some(source) = resource.disk.as_ref().and_then(|disk| disk.source.as_ref()) else {
        return Ok(None);
    };
    let kind = match source.kind {
        DiskKind::Path => "PATH",
        DiskKind::Mount => "MOUNT",
        DiskKind::Block | DiskKind::Raw => {
            return Err(VolumeError::NoVolume { volume: resource.to_string() });
        }
    };
    let root = source.root.as_deref();
    let root = root.ok_or_else(|| VolumeError::NoRoot { volume: resource.to_string(), kind })?;
    // A relative root is below the work directory (Mesos).
    Ok(Some((work_dir.join(root), source.kind)))
}

fn removed_of_disk(work_dir: &Path, resource: &Resource) -> Option<PathBuf> {
    let (root, kind) = disk_root(work_dir, resource).ok()??;
    Some(match kind {
        DiskKind::Mount => root.join(REMOVED),
        _ => root.join("volumes").join(REMOVED),
    })
}

fn make(place: &Place) -> Result<(), VolumeError> {
    let path = &place.path;
    let failed = |source| VolumeError::Make { path: path.clone(), source };
    if !place.mount {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        // Its user may do what it likes, its group may read, others may not.
        match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    // An empty one may be left of a volume that was about to be made when the agent stopped.
    if entries(path).map_err(failed)?.next().is_some() {
        return Err(VolumeError::Occupied { path: path.clone() });
    }
    // The names must not be lost with the power.
    let mut directory = Some(path.as_path());
    for _ in 0..4 {
        let Some(known) = directory else { break };
        sync(known).map_err(failed)?;
        directory = known.parent();
    }
    Ok(())
}

/// What somebody put into a volume.
fn entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<PathBuf>>> {
    // A link in the place of a volume is no volume.
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    let own = |path: &io::Result<PathBuf>| {
        let name = path.as_ref().ok().and_then(|path| path.file_name());
        !name.is_some_and(|name| name == REMOVED || name == LOST_AND_FOUND)
    };
    Ok(fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).filter(own))
}

fn move_away(place: &Place) -> Result<(), VolumeError> {
    let path = &place.path;
    let failed = |source: io::Error| VolumeError::Move { path: path.clone(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    fs::create_dir_all(&place.removed).map_err(failed)?;
    if place.mount {
        for entry in entries(path).map_err(failed)? {
            rename_into(&entry.map_err(failed)?, &place.removed).map_err(failed)?;
        }
    } else {
        rename_into(path, &place.removed).map_err(failed)?;
    }
    // Neither may come back with the power.
    sync(&place.removed).and_then(|()| path.parent().map_or(Ok(()), sync)).map_err(failed)
}

/// Moves a file into a directory of the same disk under a name that is free, in one step.
fn rename_into(path: &Path, directory: &Path) -> io::Result<()> {
    for number in 0_u64.. {
        let to = directory.join(number.to_string());
        match renameat2(AT_FDCWD, path, AT_FDCWD, &to, RenameFlags::RENAME_NOREPLACE) {
            // As many as are being deleted.
            Err(Errno::EEXIST) => {}
            done => return done.map_err(io::Error::from),
        }
    }
    Err(Errno::EEXIST.into())
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use mezzo_proto::v1;

    use super::*;

    fn volume(role: &str, id: &str, source: &str) -> Resource {
        let json = format!(
            r#"[{{"name": "disk", "type": "SCALAR", "scalar": {{"value": 64}},
                "reservations": [{{"type": "DYNAMIC", "role": "{role}"}}],
                "disk": {{{source} "persistence": {{"id": "{id}"}},
                    "volume": {{"mode": "RW", "container_path": "data"}}}}}}]"#
        );
        let read: Vec<v1::Resource> = mezzo_types::Resources::parse(&json, "*").unwrap().to_proto();
        Resource::from_proto(&read[0]).unwrap()
    }

    fn deleted(path: &Path) {
        let removed = || path.read_dir().map_or(0, Iterator::count);
        for _ in 0..10_000 {
            if removed() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("{} is left in {path:?}", removed());
    }

    #[test]
    fn a_volume_is_made_empty_and_goes_with_all_that_is_in_it() {
        let work = tempfile::tempdir().unwrap();
        let volumes = Volumes::start(work.path(), &Resources::new());
        let one = Resources::from(volume("eng/web", "v-1", ""));
        volumes.make(&one).unwrap();
        let path = work.path().join("volumes/roles/eng web/v-1");
        assert!(path.is_dir());
        volumes.make(&one).unwrap();
        fs::write(path.join("data"), "mine").unwrap();
        let error = volumes.make(&one).unwrap_err().to_string();
        assert!(error.contains("holds files that belong to no volume"), "{error}");
        assert_eq!(fs::read(path.join("data")).unwrap(), b"mine", "nothing is deleted for it");
        volumes.remove(&one);
        assert!(!path.exists());
        volumes.make(&one).unwrap();
        assert_eq!(path.read_dir().unwrap().count(), 0);
        deleted(&work.path().join("volumes/.removed"));
        // Once more is no fault.
        volumes.remove(&one);
        volumes.remove(&one);
    }

    #[test]
    fn what_a_crash_left_is_deleted_by_the_next_agent() {
        let work = tempfile::tempdir().unwrap();
        let removed = work.path().join("volumes/.removed");
        fs::create_dir_all(removed.join("7/deep")).unwrap();
        let _volumes = Volumes::start(work.path(), &Resources::new());
        deleted(&removed);
    }

    #[test]
    fn other_disks_have_volumes_of_their_own() {
        let work = tempfile::tempdir().unwrap();
        let disk = tempfile::tempdir().unwrap();
        let root = disk.path().display();
        let volumes = Volumes::start(work.path(), &Resources::new());
        let source = format!(r#""source": {{"type": "PATH", "path": {{"root": "{root}"}}}},"#);
        let path = Resources::from(volume("web", "v", &source));
        volumes.make(&path).unwrap();
        assert!(disk.path().join("volumes/roles/web/v").is_dir());
        volumes.remove(&path);
        assert!(!disk.path().join("volumes/roles/web/v").exists());

        let disk = tempfile::tempdir().unwrap();
        let root = disk.path().display();
        let source = format!(r#""source": {{"type": "MOUNT", "mount": {{"root": "{root}"}}}},"#);
        let mount = Resources::from(volume("web", "v", &source));
        fs::create_dir(disk.path().join("lost+found")).unwrap();
        volumes.make(&mount).unwrap();
        fs::write(disk.path().join("data"), "mine").unwrap();
        assert!(volumes.make(&mount).is_err(), "it is occupied");
        volumes.remove(&mount);
        deleted(&disk.path().join(".removed"));
        assert!(disk.path().join("lost+found").exists() && !disk.path().join("data").exists());
        let none = r#""source": {"type": "PATH"},"#;
        let error = volumes.make(&volume("web", "v", none).into()).unwrap_err().to_string();
        assert!(error.contains("has no 'root'"), "{error}");
    }

    #[test]
    fn a_link_in_the_place_of_a_volume_is_none() {
        let work = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("precious"), "x").unwrap();
        let volumes = Volumes::start(work.path(), &Resources::new());
        let roles = work.path().join("volumes/roles/web");
        fs::create_dir_all(&roles).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), roles.join("v")).unwrap();
        let one = Resources::from(volume("web", "v", ""));
        assert!(volumes.make(&one).is_err());
        volumes.remove(&one);
        deleted(&work.path().join("volumes/.removed"));
        assert!(elsewhere.path().join("precious").exists(), "links are removed, not followed");
    }
}
