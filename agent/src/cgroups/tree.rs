//! The agent's root in every hierarchy.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::fcntl::{Flock, FlockArg};

use super::{CgroupError, ContainerCgroup, Controller, Facts, Hierarchy, Version, files};

/// A group beside the containers' that holds the launcher.
const LAUNCHER: &str = "launcher";

/// One directory of a group, in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) dir: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
}

/// The agent's control groups. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroups {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Normalized: parts joined by '/', without a leading one.
    root: String,
    planes: Vec<Plane>,
    /// v1's controller of devices, where no plane has it.
    devices: Option<Hierarchy>,
    /// Its plane, from when it is used on.
    devices_plane: OnceLock<Plane>,
    /// Held for as long as this agent uses the root; the kernel drops it when the agent ends, however it ends.
    _lock: Flock<File>,
}

impl Inner {
    fn planes(&self) -> impl Iterator<Item = &Plane> {
        self.planes.iter().chain(self.devices_plane.get())
    }
}

/// Whether it is v1's, with the controller of devices.
fn has_devices(hierarchy: &Hierarchy) -> bool {
    hierarchy.version == Version::V1 && hierarchy.controllers.contains(&Controller::Devices)
}

impl Cgroups {
    /// Creates the root (a relative path such as `mezzo`) in each hierarchy that carries one of the `needed` controllers, and in
    /// the v2 tree wherever there is one. Fails when another agent uses the same root.
    pub fn open(facts: &Facts, root: &str, needed: &[Controller]) -> Result<Self, CgroupError> {
        let bad_root = || CgroupError::BadRoot { root: root.to_owned() };
        let parts: Vec<&str> = root.split('/').filter(|part| !part.is_empty()).collect();
        let bad_part = |part: &&str| {
            matches!(*part, "." | "..") || part.len() > 255 || part.chars().any(char::is_control)
        };
        if parts.is_empty() || parts.iter().any(bad_part) {
            return Err(bad_root());
        }

        let mut needed: BTreeSet<Controller> = needed.iter().copied().collect();
        if let Some(cpu) = facts.hierarchy_of(Controller::Cpu)
            && needed.contains(&Controller::Cpu)
        {
            // v1 limits and counts processor time with two controllers, v2 with one.
            match cpu.version {
                Version::V1 => needed.insert(Controller::Cpuacct),
                Version::V2 => needed.remove(&Controller::Cpuacct),
            };
        }
        for controller in &needed {
            if facts.hierarchy_of(*controller).is_none() {
                return Err(CgroupError::MissingController { controller: *controller });
            }
        }

        let mut planes = Vec::new();
        for hierarchy in &facts.hierarchies {
            let mut controllers: Vec<Controller> = hierarchy
                .controllers
                .iter()
                .copied()
                .filter(|controller| needed.contains(controller))
                .collect();
            if controllers.is_empty() && hierarchy.version == Version::V1 {
                continue;
            }
            if has_devices(hierarchy) && !controllers.contains(&Controller::Devices) {
                controllers.push(Controller::Devices);
            }
            planes.push(open_plane(hierarchy, &parts, controllers)?);
        }
        // Facts hold one hierarchy at least, but with nothing needed it may be one that is of no use.
        let first = planes
            .first()
            .ok_or(CgroupError::MissingController { controller: Controller::Memory })?;
        let lock = lock(&first.dir)?;
        let mut rest = facts.hierarchies.iter().filter(|hierarchy| has_devices(hierarchy));
        let devices = rest
            .find(|_| !planes.iter().any(|plane| plane.controllers.contains(&Controller::Devices)));
        let root = parts.join("/");
        // An earlier run of the agent used it: its containers are there too.
        let used = devices.is_some_and(|devices| devices.mount_point.join(&root).is_dir());
        let inner = Inner {
            root,
            planes,
            devices: devices.cloned(),
            devices_plane: OnceLock::new(),
            _lock: lock,
        };
        let cgroups = Cgroups { inner: Arc::new(inner) };
        if used {
            cgroups.guard_devices()?;
        }
        Ok(cgroups)
    }

    /// Puts containers that are made from now on into v1's controller of devices too. Whether this machine has it.
    pub fn guard_devices(&self) -> Result<bool, CgroupError> {
        if self.inner.planes().any(|plane| plane.controllers.contains(&Controller::Devices)) {
            return Ok(true);
        }
        let Some(hierarchy) = &self.inner.devices else { return Ok(false) };
        let parts: Vec<&str> = self.inner.root.split('/').collect();
        let plane = open_plane(hierarchy, &parts, vec![Controller::Devices])?;
        // Whoever came first made the same.
        let _ = self.inner.devices_plane.set(plane);
        Ok(true)
    }

    /// A new group for a container, in every hierarchy. It has no limits and no processes yet.
    pub fn create(&self, id: &str) -> Result<ContainerCgroup, CgroupError> {
        check_name(id)?;
        let group = self.group(id);
        for (made, plane) in group.planes().iter().enumerate() {
            let created = fs::create_dir(&plane.dir).map_err(|source| {
                if source.kind() == io::ErrorKind::AlreadyExists {
                    CgroupError::NotFresh { path: plane.dir.clone() }
                } else {
                    CgroupError::Create { path: plane.dir.clone(), source }
                }
            });
            if let Err(e) = created {
                for plane in &group.planes()[..made] {
                    // Made a moment ago and empty; if even this fails, recovery finds it as an orphan.
                    let _ = fs::remove_dir(&plane.dir);
                }
                return Err(e);
            }
        }
        Ok(group)
    }

    /// The group of a container that was created earlier, by this agent or the one before it; `None` if no hierarchy has it.
    pub fn find(&self, id: &str) -> Result<Option<ContainerCgroup>, CgroupError> {
        check_name(id)?;
        let group = self.group(id);
        Ok(group.planes().iter().any(|plane| plane.dir.is_dir()).then_some(group))
    }

    /// Ids of all containers that have a group in any hierarchy, sorted.
    pub fn list(&self) -> Result<Vec<String>, CgroupError> {
        let mut ids = BTreeSet::new();
        for plane in self.inner.planes() {
            let failed = |source| CgroupError::Read { path: plane.dir.clone(), source };
            for entry in fs::read_dir(&plane.dir).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if !entry.file_type().map_err(failed)?.is_dir() {
                    continue;
                }
                // A name that we could not have given is not ours to touch.
                if let Ok(name) = entry.file_name().into_string()
                    && check_name(&name).is_ok()
                {
                    ids.insert(name);
                }
            }
        }
        Ok(ids.into_iter().collect())
    }

    /// The launcher's own group beside the containers', which is never limited nor killed; made if it is not there.
    pub fn launcher(&self) -> Result<ContainerCgroup, CgroupError> {
        let group = self.group(LAUNCHER);
        for plane in group.planes() {
            match fs::create_dir(&plane.dir) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(CgroupError::Create { path: plane.dir.clone(), source });
                }
                _ => {}
            }
        }
        Ok(group)
    }

    /// The root's name, as it is below each mount point.
    pub fn root(&self) -> &str {
        &self.inner.root
    }

    /// The root in the v2 tree; `None` on a machine without one.
    pub fn unified_root(&self) -> Option<&Path> {
        let mut planes = self.inner.planes.iter();
        planes.find(|plane| plane.version == Version::V2).map(|plane| plane.dir.as_path())
    }

    /// The path of a container's group below each mount point, with a leading '/'; what a record keeps.
    pub fn path_of(&self, id: &str) -> String {
        format!("/{}/{id}", self.inner.root)
    }

    /// Removes the root and the launcher's group where nothing uses them any more; what is in use stays.
    pub fn remove_unused(&self) {
        for plane in self.inner.planes() {
            let _ = fs::remove_dir(plane.dir.join(LAUNCHER));
            let _ = fs::remove_dir(&plane.dir);
        }
    }

    fn group(&self, id: &str) -> ContainerCgroup {
        let planes = self
            .inner
            .planes()
            .map(|plane| Plane { dir: plane.dir.join(id), ..plane.clone() })
            .collect();
        ContainerCgroup::new(id, planes)
    }
}

/// Makes the root in one hierarchy. On v2 each directory on the way must pass the controllers on to its children.
fn open_plane(
    hierarchy: &Hierarchy,
    parts: &[&str],
    controllers: Vec<Controller>,
) -> Result<Plane, CgroupError> {
    let mut dir = hierarchy.mount_point.clone();
    for part in parts {
        delegate(&dir, hierarchy.version, &controllers)?;
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CgroupError::Create { path: dir, source });
            }
            _ => {}
        }
    }
    delegate(&dir, hierarchy.version, &controllers)?;
    Ok(Plane { dir, version: hierarchy.version, controllers })
}

fn delegate(dir: &Path, version: Version, controllers: &[Controller]) -> Result<(), CgroupError> {
    if version == Version::V1 || controllers.is_empty() {
        return Ok(());
    }
    let path = dir.join("cgroup.subtree_control");
    let enabled = files::read(&path)?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|controller| !enabled.split_whitespace().any(|name| name == controller.name()))
        .map(|controller| format!("+{controller}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let controllers = missing.join(" ");
    files::write_io(&path, &controllers).map_err(|source| CgroupError::Enable {
        controllers,
        path,
        source,
    })
}

fn lock(dir: &Path) -> Result<Flock<File>, CgroupError> {
    let failed = |source| CgroupError::Read { path: dir.to_owned(), source };
    let file = File::open(dir).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => CgroupError::RootInUse { path: dir.to_owned() },
        errno => failed(errno.into()),
    })
}

/// Ids are chosen by the master, but become path names here: only harmless ones pass.
fn check_name(id: &str) -> Result<(), CgroupError> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty()
        || id.len() > 255
        || id.starts_with('.')
        || id == LAUNCHER
        || !id.chars().all(harmless)
    {
        return Err(CgroupError::BadName { id: id.to_owned() });
    }
    Ok(())
}
