//! The books, opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mezzo_agent_ebpf_common::{Counters, Delays, DeviceKey, EVERY_TASK, Settings, UNKNOWN_PROCESS};
use mezzo_agent_sys::bpf_link_info;
use zerocopy::{FromBytes, IntoBytes};

use crate::about;
use crate::error::{AdmitError, OpenError, ReadError};
use crate::events::{Events, Lost};
use crate::feature::{Feature, PROGRAMS, Place, State, Status, TakeOver};
use crate::grant::{Devices, Grant, SAFE_DEVICES};
use crate::host::{self, Root, TaskId};
use crate::load::Loaded;
use crate::maps::{Maps, Named};
use crate::object::Object;
use crate::pins::Pins;
use crate::usage::{self, Usage};

/// Tasks at a time, unless told otherwise. Those that are there take memory, some 9 KiB and 0.5 KiB per processor each; those that
/// could be, 16 bytes in each of a few tables.
pub const CAPACITY: u32 = 16384;

/// What the books are opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's cgroup in the v2 tree; tasks are its children.
    pub root: PathBuf,
    /// A directory of this agent's own in a bpffs, such as `/sys/fs/bpf/mezzo/<agent id>`; made if it is not there.
    pub pins: PathBuf,
    /// Tasks at a time. Of no effect on maps that are taken over.
    pub capacity: u32,
    /// Keep run-queue delays as histograms too.
    pub delays: bool,
    /// The programs.
    pub object: Object,
    /// The kernel's type information.
    pub kernel_types: PathBuf,
}

impl Options {
    pub fn new(root: impl Into<PathBuf>, pins: impl Into<PathBuf>) -> Self {
        Options {
            root: root.into(),
            pins: pins.into(),
            capacity: CAPACITY,
            delays: true,
            object: Object::embedded(),
            kernel_types: "/sys/kernel/btf/vmlinux".into(),
        }
    }
}

/// A task and what it may.
pub type Admission = (TaskId, Grant);

/// What the kernel keeps and guards for this agent. It goes on doing so when this is dropped.
#[derive(Debug)]
pub struct Accounting {
    pins: Pins,
    maps: Maps,
    state: State,
    /// Entries of tasks in the map of devices, which cannot be asked for by task.
    devices: Mutex<HashMap<u64, Vec<DeviceKey>>>,
}

impl Accounting {
    /// Takes over what an earlier agent has left, or loads and attaches the programs, after entering the tasks that run already.
    /// Tasks in the maps that are not among `running` stay there: see [`tasks`](Self::tasks).
    ///
    /// # Errors
    /// When nothing works on this host. What does not work by itself is in [`state`](Self::state).
    pub fn open(options: &Options, running: &[Admission]) -> Result<Self, OpenError> {
        let missing = host::missing_capabilities().map_err(OpenError::Capabilities)?;
        if !missing.is_empty() {
            return Err(OpenError::NotPermitted { missing });
        }
        let root = Root::open(&options.root)?;
        let pins = Pins::open(&options.pins)?;
        let before = about::read(&pins);
        let complete = before == Some(about::of(&root, Some(&options.object)))
            && PROGRAMS
                .iter()
                .all(|program| is_attached(program.place, program.name, &pins, &root));
        if complete {
            return Self::reuse(options, pins, running);
        }
        let elsewhere =
            before.is_some_and(|before| (before.root, before.level) != (root.id, root.level));
        if elsewhere {
            // Its cgroup is gone, and all tasks with it.
            pins.clear()?;
        }
        let load = || {
            let (types, capacity) = (&options.kernel_types, options.capacity);
            Loaded::load(&options.object, &root, &pins, types, capacity)
        };
        let mut loaded = load()?;
        about::write(&pins, &root, None)?;
        let mut accounting = Self::with_maps(options, pins, running)?;
        let failures = loaded.attach(&root, &accounting.pins);
        about::write(&accounting.pins, &root, Some(&options.object))?;
        let other_layout = accounting.pins.clear_other_layouts()?;
        accounting.state = State {
            take_over: match (before, elsewhere || other_layout) {
                (_, true) => TakeOver::Renewed,
                (Some(_), false) => TakeOver::Replaced,
                (None, false) => TakeOver::Fresh,
            },
            features: statuses(&failures),
        };
        Ok(accounting)
    }

    fn reuse(options: &Options, pins: Pins, running: &[Admission]) -> Result<Self, OpenError> {
        let mut accounting = Self::with_maps(options, pins, running)?;
        accounting.pins.clear_other_layouts()?;
        accounting.state.take_over = TakeOver::Reused;
        Ok(accounting)
    }

    /// Opens the pinned maps, and enters what must be there before programs are.
    fn with_maps(options: &Options, pins: Pins, running: &[Admission]) -> Result<Self, OpenError> {
        let maps = Maps::open(&pins)?;
        let features = statuses(&BTreeMap::new());
        let state = State { take_over: TakeOver::Fresh, features };
        let mut devices = HashMap::<u64, Vec<DeviceKey>>::new();
        let entries = maps.devices.map.for_each(|key, _| {
            if let Ok(key) = DeviceKey::read_from_bytes(key)
                && key.task != EVERY_TASK
            {
                devices.entry(key.task).or_default().push(key);
            }
        });
        entries.map_err(|source| OpenError::Pin {
            action: "read",
            path: pins.map("DEVICES"),
            source,
        })?;
        let accounting = Accounting { pins, maps, state, devices: Mutex::new(devices) };
        for device in &SAFE_DEVICES {
            let key = device.key(EVERY_TASK);
            accounting.maps.allow_device(&key, device.access.bits()).map_err(OpenError::Admit)?;
        }
        accounting.keep_delays(options.delays).map_err(OpenError::Admit)?;
        for (task, grant) in running {
            accounting.enter(*task, grant, UNKNOWN_PROCESS).map_err(OpenError::Admit)?;
        }
        Ok(accounting)
    }

    /// What works on this host, and what was found here.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Tasks that there is room for: maps that were taken over may have been made for another number than was asked for.
    pub fn capacity(&self) -> u32 {
        self.maps.counters.map.max_entries()
    }

    /// Enters a task, before any process is in its cgroup; or changes what a task may, whose counters go on.
    ///
    /// # Errors
    /// When a map is full, or the kernel refuses. A new task is not in any map then.
    pub fn admit(&self, task: TaskId, grant: &Grant) -> Result<(), AdmitError> {
        let known = self.maps.counters.map.get(task.0.as_bytes()).ok().flatten().is_some();
        let outcome = self.enter(task, grant, 0);
        if outcome.is_err() && !known {
            // It was never entered whole; the first error is the one to tell.
            let _ = self.remove(task);
        }
        outcome
    }

    /// A new task has this first process; 0 if it is still to come.
    fn enter(&self, task: TaskId, grant: &Grant, first: u32) -> Result<(), AdmitError> {
        self.maps.count(task.0)?;
        let granted: &[_] = match &grant.devices {
            Devices::Unguarded => &[],
            Devices::Only(devices) => devices,
        };
        let mut all = self.devices();
        let keys = Vec::from_iter(granted.iter().map(|device| device.key(task.0)));
        let stale = Vec::from_iter(
            all.get(&task.0).into_iter().flatten().filter(|key| !keys.contains(key)).copied(),
        );
        // Known before they are there, so that a failure on the way leaves nothing behind.
        all.entry(task.0).or_default().extend(&keys);
        for (device, key) in granted.iter().zip(&keys) {
            self.maps.allow_device(key, device.access.bits())?;
        }
        for key in stale {
            let removed = self.maps.devices.remove(key.as_bytes());
            removed.map_err(|error| AdmitError::Map { map: error.map, source: error.source })?;
        }
        if keys.is_empty() {
            all.remove(&task.0);
        } else {
            all.insert(task.0, keys);
        }
        drop(all);
        self.maps.guard_ports(task.0, &grant.ports.record())?;
        self.maps.guard_devices(task.0, matches!(grant.devices, Devices::Only(_)), first)
    }

    /// Forgets a task, after its last process is gone; what it has used, `None` if it was not there.
    ///
    /// # Errors
    /// When the kernel refuses; the task may be asked for again.
    pub fn remove(&self, task: TaskId) -> Result<Option<Usage>, ReadError> {
        let usage = self.usage(task)?;
        let key = task.0.as_bytes();
        let keys = self.devices().remove(&task.0).unwrap_or_default();
        for key in keys {
            self.maps.devices.remove(key.as_bytes())?;
        }
        let maps = &self.maps;
        for map in [&maps.tasks, &maps.ports, &maps.delays, &maps.counters] {
            map.remove(key)?;
        }
        Ok(usage)
    }

    /// What one task has used so far; `None` if it is not there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn usage(&self, task: TaskId) -> Result<Option<Usage>, ReadError> {
        let (counters, delays) = (&self.maps.counters, &self.maps.delays);
        let read = counters.map.get(task.0.as_bytes());
        let Some(bytes) = read.map_err(|source| counters.unreadable(source))? else {
            return Ok(None);
        };
        let read = delays.map.get(task.0.as_bytes()).map_err(|source| delays.unreadable(source))?;
        Ok(Some(Usage {
            counters: usage::sum(&bytes, counters.map.copies()).unwrap_or_default(),
            delays: read
                .and_then(|bytes| usage::sum(&bytes, delays.map.copies()))
                .unwrap_or_default(),
        }))
    }

    /// What all tasks have used so far, in a few system calls, in no order.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn snapshot(&self) -> Result<Vec<(TaskId, Counters)>, ReadError> {
        entries(&self.maps.counters)
    }

    /// The histograms of run-queue delays of all tasks, likewise.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delays(&self) -> Result<Vec<(TaskId, Delays)>, ReadError> {
        entries(&self.maps.delays)
    }

    /// All tasks in the maps. Those that an agent does not know after its start have ended while it was away, or belong to
    /// launches that it never began: [`remove`](Self::remove) them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tasks(&self) -> Result<Vec<TaskId>, ReadError> {
        let mut all = BTreeSet::new();
        // A task that was entered or removed in part is in some of them only.
        for map in [&self.maps.counters, &self.maps.delays, &self.maps.ports, &self.maps.tasks] {
            let read = map.map.for_each(|key, _| {
                all.extend(u64::read_from_bytes(key).ok().map(TaskId));
            });
            read.map_err(|source| map.unreadable(source))?;
        }
        all.extend(self.devices().keys().copied().map(TaskId));
        Ok(all.into_iter().collect())
    }

    /// The stream of events, for one reader.
    ///
    /// # Errors
    /// When the buffers cannot be mapped.
    pub fn events(&self) -> Result<Events, OpenError> {
        Events::open(&self.pins)
    }

    /// How many events found no room.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lost(&self) -> Result<Lost, ReadError> {
        let map = &self.maps.lost;
        let read = |index: u32| {
            let values = map.map.get(index.as_bytes()).map_err(|source| map.unreadable(source))?;
            let sum = values.and_then(|values| usage::sum::<u64>(&values, map.map.copies()));
            Ok(sum.unwrap_or_default())
        };
        Ok(Lost { denials: read(0)?, endings: read(1)? })
    }

    /// Switches the histograms of run-queue delays, for all tasks.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_delays(&self, keep: bool) -> Result<(), AdmitError> {
        self.maps.configure(Settings { delays: u32::from(keep), reserved: 0 })
    }

    /// Detaches everything and forgets it: for an agent that leaves the host for good.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn discard(&self) -> Result<(), OpenError> {
        self.pins.remove()
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<u64, Vec<DeviceKey>>> {
        // Nothing panics while it is held; if something did, the map would still say what is to be removed.
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All entries of a map with one record of counters per task and processor, added up.
fn entries<T: FromBytes + IntoBytes + Default>(map: &Named) -> Result<Vec<(TaskId, T)>, ReadError> {
    let copies = map.map.copies();
    let mut all = Vec::new();
    let read = map.map.for_each(|key, values| {
        if let (Ok(task), Some(sum)) = (u64::read_from_bytes(key), usage::sum(values, copies)) {
            all.push((TaskId(task), sum));
        }
    });
    read.map_err(|source| map.unreadable(source))?;
    Ok(all)
}

/// Detaches and forgets everything that is pinned in the directory of one agent; nothing where there is none.
///
/// # Errors
/// When a pin cannot be removed.
pub fn discard(pins: &Path) -> Result<(), OpenError> {
    if pins.is_dir() && host::is_bpffs(pins) { Pins::open(pins)?.remove() } else { Ok(()) }
}

/// Detaches what agents have left whose cgroups are gone, and with them all that they counted and guarded. `agents` is a directory of
/// directories of pins, one per agent; `own` is left alone.
///
/// # Errors
/// When a pin cannot be removed.
pub fn discard_orphans(agents: &Path, own: &Path) -> Result<(), OpenError> {
    let Ok(entries) = std::fs::read_dir(agents) else { return Ok(()) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path != own && path.is_dir() {
            Pins::remove_orphan(&path)?;
        }
    }
    Ok(())
}

/// Whether a program's link is pinned and still holds.
fn is_attached(place: Place, program: &str, pins: &Pins, root: &Root) -> bool {
    let Some((link, _)) = pins.link(program) else { return false };
    match (place, bpf_link_info(link.as_fd())) {
        (Place::Cgroup(_), Ok(info)) => info.cgroup == root.id,
        (_, info) => info.is_ok(),
    }
}

/// What works when these programs do not.
fn statuses(failures: &BTreeMap<&'static str, String>) -> BTreeMap<Feature, Status> {
    let status = |feature: Feature| {
        let reason = feature.programs().iter().find_map(|program| failures.get(program));
        reason.map_or(Status::On, |reason| Status::Off(reason.clone()))
    };
    Feature::ALL.into_iter().map(|feature| (feature, status(feature))).collect()
}
