//! One container's control groups.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mezzo_agent_accounting::Device;
use mezzo_agent_sys::PidFd;
use nix::libc;
use tokio::io::Interest;

use super::tree::Plane;
use super::{
    CgroupError, Controller, CpuLimits, MemoryLimits, OomReport, OomWatch, Usage, Version, devices,
    files, limits, oom, usage,
};

/// How often a kill is repeated for processes that were forked while the first one went round (v1 only: v2 kills as one act).
const KILL_ROUNDS: usize = 64;
/// How long one wait for emptiness lasts before the kill is repeated.
const KILL_ROUND: Duration = Duration::from_millis(500);
/// A directory may be busy for a moment after its last process left.
const REMOVE_PAUSES_MS: [u64; 9] = [0, 1, 1, 2, 4, 8, 16, 64, 256];

/// Handle to the groups of one container; cheap to clone. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct ContainerCgroup {
    id: String,
    planes: Arc<[Plane]>,
}

impl ContainerCgroup {
    pub(super) fn new(id: &str, planes: Vec<Plane>) -> Self {
        ContainerCgroup { id: id.to_owned(), planes: planes.into() }
    }

    pub(super) fn planes(&self) -> &[Plane] {
        &self.planes
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The container's directories, one per hierarchy.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.planes.iter().map(|plane| plane.dir.as_path())
    }

    fn plane(&self, controller: Controller) -> Result<&Plane, CgroupError> {
        self.planes
            .iter()
            .find(|plane| plane.controllers.contains(&controller))
            .ok_or(CgroupError::MissingController { controller })
    }

    /// Its directory in the v2 tree.
    pub fn unified(&self) -> Option<&Path> {
        self.unified_plane().map(|plane| plane.dir.as_path())
    }

    fn unified_plane(&self) -> Option<&Plane> {
        self.planes.iter().find(|plane| plane.version == Version::V2)
    }

    pub fn set_cpu(&self, limits: &CpuLimits) -> Result<(), CgroupError> {
        let plane = self.plane(Controller::Cpu)?;
        limits::set_cpu(&plane.dir, plane.version, limits)
    }

    pub fn set_memory(&self, limits: &MemoryLimits) -> Result<(), CgroupError> {
        let plane = self.plane(Controller::Memory)?;
        limits::set_memory(&plane.dir, plane.version, limits)
    }

    /// The hard limit now in force; `None` when there is none.
    pub fn memory_limit(&self) -> Result<Option<u64>, CgroupError> {
        let plane = self.plane(Controller::Memory)?;
        let file = match plane.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let bytes = files::read_number(&plane.dir.join(file))?;
        Ok((bytes < 1 << 62).then_some(bytes))
    }

    /// Most processes and threads at a time; `None` lifts the limit.
    pub fn set_pids(&self, limit: Option<u64>) -> Result<(), CgroupError> {
        let plane = self.plane(Controller::Pids)?;
        limits::set_pids(&plane.dir, plane.version, limit)
    }

    /// Denies it all devices but the harmless ones and these. Before any process is in it; where [`Cgroups::guard_devices`] said that
    /// it works.
    ///
    /// [`Cgroups::guard_devices`]: super::Cgroups::guard_devices
    pub fn set_devices(&self, allowed: &[Device]) -> Result<(), CgroupError> {
        devices::set(&self.plane(Controller::Devices)?.dir, allowed)
    }

    /// The `cgroup.procs` file of each hierarchy, open for writing: whoever writes "0" to all of them has entered.
    pub fn procs_files(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        self.planes
            .iter()
            .map(|plane| {
                let path = plane.dir.join("cgroup.procs");
                fs::OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map(OwnedFd::from)
                    .map_err(|source| CgroupError::OpenProcs { path, source })
            })
            .collect()
    }

    /// The only directory, opened, on machines where one is all: a process can be created in it.
    pub fn unified_directory(&self) -> Result<Option<OwnedFd>, CgroupError> {
        match &*self.planes {
            [plane] if plane.version == Version::V2 => File::open(&plane.dir)
                .map(|file| Some(file.into()))
                .map_err(|source| CgroupError::OpenProcs { path: plane.dir.clone(), source }),
            _ => Ok(None),
        }
    }

    /// All that its controllers count.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        let mut reading = Usage::default();
        for plane in &*self.planes {
            for controller in &plane.controllers {
                match controller {
                    Controller::Cpu => usage::read_cpu(&plane.dir, plane.version, &mut reading)?,
                    Controller::Cpuacct => usage::read_cpuacct(&plane.dir, &mut reading)?,
                    Controller::Memory => {
                        usage::read_memory(&plane.dir, plane.version, &mut reading)?;
                    }
                    Controller::Pids => usage::read_pids(&plane.dir, &mut reading)?,
                    Controller::Devices => {}
                }
            }
        }
        Ok(reading)
    }

    /// Fills in what is known about processor time.
    pub fn read_cpu(&self, reading: &mut Usage) -> Result<(), CgroupError> {
        let plane = self.plane(Controller::Cpu)?;
        usage::read_cpu(&plane.dir, plane.version, reading)?;
        match plane.version {
            Version::V1 => usage::read_cpuacct(&self.plane(Controller::Cpuacct)?.dir, reading),
            Version::V2 => Ok(()),
        }
    }

    /// Fills in what is known about memory.
    pub fn read_memory(&self, reading: &mut Usage) -> Result<(), CgroupError> {
        let plane = self.plane(Controller::Memory)?;
        usage::read_memory(&plane.dir, plane.version, reading)
    }

    /// Fills in the number of processes and threads.
    pub fn read_pids(&self, reading: &mut Usage) -> Result<(), CgroupError> {
        usage::read_pids(&self.plane(Controller::Pids)?.dir, reading)
    }

    /// A watch on out-of-memory kills. Needs a tokio runtime.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        let plane = self.plane(Controller::Memory)?;
        OomWatch::open(&plane.dir, plane.version)
    }

    /// Out-of-memory kills so far.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let plane = self.plane(Controller::Memory)?;
        oom::kills(&plane.dir, plane.version)
    }

    pub fn oom_report(&self) -> Result<OomReport, CgroupError> {
        let plane = self.plane(Controller::Memory)?;
        OomReport::read(&plane.dir, plane.version, &self.id)
    }

    /// Whether any process is in it (zombies do not count).
    pub fn populated(&self) -> Result<bool, CgroupError> {
        match self.unified_plane() {
            Some(plane) => match fs::read_to_string(plane.dir.join("cgroup.events")) {
                Ok(events) => Ok(files::keyed(&events, "populated") != 0),
                Err(e) if gone(&e) => Ok(false),
                Err(source) => Err(CgroupError::Read { path: plane.dir.clone(), source }),
            },
            None => Ok(!self.pids()?.is_empty()),
        }
    }

    /// Processes in any of its hierarchies, and in groups that they made below.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        for plane in &*self.planes {
            collect_pids(&plane.dir, &mut pids)
                .map_err(|source| CgroupError::Read { path: plane.dir.clone(), source })?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends SIGKILL to every process in it: in one act where `cgroup.kill` exists (Linux 5.14), else one by one.
    /// The group must not be used again afterwards.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(plane) = self.unified_plane() {
            let path = plane.dir.join("cgroup.kill");
            match files::write_io(&path, "1") {
                Ok(()) => return self.kill_strays(),
                Err(e) if gone(&e) => {}
                Err(source) => return Err(CgroupError::Kill { path, source }),
            }
        }
        self.kill_listed(&self.pids()?)
    }

    /// On hybrid machines a process can be in the v1 groups alone, if it left the v2 group or died while it entered.
    fn kill_strays(&self) -> Result<(), CgroupError> {
        for plane in self.planes.iter().filter(|plane| plane.version == Version::V1) {
            let mut pids = Vec::new();
            collect_pids(&plane.dir, &mut pids)
                .map_err(|source| CgroupError::Read { path: plane.dir.clone(), source })?;
            self.kill_listed(&pids)?;
        }
        Ok(())
    }

    fn kill_listed(&self, pids: &[i32]) -> Result<(), CgroupError> {
        for (pid, pidfd) in pids.iter().filter_map(|pid| Some((pid, PidFd::open(*pid).ok()?))) {
            // A number may have been given to another process since it was listed; the descriptor now pins the process, so a
            // second look decides.
            if !self.pids()?.contains(pid) {
                continue;
            }
            match pidfd.signal(libc::SIGKILL) {
                Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                    let path = self.planes[0].dir.clone();
                    return Err(CgroupError::Kill { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until no process is in it, told by the kernel: by `cgroup.events` where the v2 tree is mounted, else by the
    /// processes' own descriptors. Returns whether it is empty; false after `limit`.
    pub async fn wait_empty(&self, limit: Duration) -> Result<bool, CgroupError> {
        match tokio::time::timeout(limit, self.until_empty()).await {
            Ok(ended) => ended.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    async fn until_empty(&self) -> Result<(), CgroupError> {
        if let Some(plane) = self.unified_plane() {
            let path = plane.dir.join("cgroup.events");
            let failed = |source: io::Error| CgroupError::Watch { path: path.clone(), source };
            match File::open(&path) {
                Ok(file) => {
                    let mut events = files::watch(file, Interest::PRIORITY).map_err(failed)?;
                    loop {
                        match oom::reread(events.get_mut()) {
                            Ok(text) if files::keyed(&text, "populated") == 0 => break,
                            Ok(_) => {}
                            Err(e) if gone(&e) => break,
                            Err(e) => return Err(failed(e)),
                        }
                        events.ready(Interest::PRIORITY).await.map_err(failed)?.clear_ready();
                    }
                }
                Err(e) if gone(&e) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        // v1 only, or strays in v1: wait for each process that is still listed.
        loop {
            let pids = match self.unified_plane() {
                Some(_) => self.v1_pids()?,
                None => self.pids()?,
            };
            let Some(pidfd) = pids.iter().find_map(|pid| PidFd::open(*pid).ok()) else {
                return Ok(());
            };
            let path = || self.planes[0].dir.clone();
            let process = files::watch(pidfd, Interest::READABLE)
                .map_err(|source| CgroupError::Watch { path: path(), source })?;
            let _ = process
                .readable()
                .await
                .map_err(|source| CgroupError::Watch { path: path(), source })?;
        }
    }

    fn v1_pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        for plane in self.planes.iter().filter(|plane| plane.version == Version::V1) {
            collect_pids(&plane.dir, &mut pids)
                .map_err(|source| CgroupError::Read { path: plane.dir.clone(), source })?;
        }
        Ok(pids)
    }

    /// Removes the group, and groups that its processes made below, from every hierarchy. It must be empty.
    pub async fn remove(&self) -> Result<(), CgroupError> {
        for plane in &*self.planes {
            let mut last = None;
            for pause in REMOVE_PAUSES_MS {
                if pause > 0 {
                    // Busy although empty: wait for the kernel's word first, then a breath for v1, which gives none.
                    self.wait_empty(KILL_ROUND).await?;
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                match remove_tree(&plane.dir) {
                    Ok(()) => {
                        last = None;
                        break;
                    }
                    Err(e) => last = Some(e),
                }
                if !matches!(&last, Some(e) if e.kind() == io::ErrorKind::ResourceBusy) {
                    break;
                }
            }
            if let Some(source) = last {
                return Err(CgroupError::Remove { path: plane.dir.clone(), source });
            }
        }
        Ok(())
    }

    /// Kills everything in it, waits until it is empty and removes it. Gives up after about half a minute, which only a process stuck
    /// in the kernel can cause; calling it again goes on.
    pub async fn destroy(&self) -> Result<(), CgroupError> {
        let begun = Instant::now();
        for _ in 0..KILL_ROUNDS {
            if self.populated()? || !self.v1_pids()?.is_empty() {
                self.kill()?;
            }
            if self.wait_empty(KILL_ROUND).await? {
                return self.remove().await;
            }
        }
        Err(CgroupError::StillPopulated {
            path: self.planes[0].dir.clone(),
            pids: self.pids()?,
            waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// The group's directory was removed, before the call (ENOENT) or during it (ENODEV).
fn gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(files::pids(&text)),
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    for child in children(dir)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(e) if gone(&e) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
            let below = children(dir)?;
            if below.is_empty() {
                return Err(e);
            }
            for child in below {
                remove_tree(&child)?;
            }
            fs::remove_dir(dir)
        }
        Err(e) => Err(e),
    }
}

fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
