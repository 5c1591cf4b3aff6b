//! The pinned maps, opened.

use std::time::Duration;

use mezzo_agent_ebpf_common::{Counters, Delays, DeviceKey, Ports, Settings, Task};
use mezzo_agent_sys::BpfMap;
use nix::libc;
use zerocopy::IntoBytes;

use crate::error::{AdmitError, OpenError, ReadError};
use crate::pins::Pins;

/// Entries come out of a small stock that the kernel refills behind our backs, out of other memory that it extends in its own time: a
/// burst finds it empty for some milliseconds, on a machine with plenty of memory. Half a second for an entry, then there is none.
const MEMORY_PAUSES: [Duration; 9] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
    Duration::from_millis(32),
    Duration::from_millis(64),
    Duration::from_millis(128),
    Duration::from_millis(256),
];

/// A map and its name.
#[derive(Debug)]
pub(crate) struct Named {
    pub name: &'static str,
    pub map: BpfMap,
}

#[derive(Debug)]
pub(crate) struct Maps {
    pub tasks: Named,
    pub counters: Named,
    pub delays: Named,
    pub ports: Named,
    pub devices: Named,
    pub settings: Named,
    pub lost: Named,
}

impl Maps {
    pub fn open(pins: &Pins) -> Result<Self, OpenError> {
        let open = |name| {
            let path = pins.map(name);
            let map = BpfMap::open(&path).map_err(|source| OpenError::Pin {
                action: "open",
                path,
                source,
            })?;
            Ok::<_, OpenError>(Named { name, map })
        };
        Ok(Maps {
            tasks: open("TASKS")?,
            counters: open("COUNTERS")?,
            delays: open("DELAYS")?,
            ports: open("PORTS")?,
            devices: open("DEVICES")?,
            settings: open("SETTINGS")?,
            lost: open("LOST")?,
        })
    }

    /// Enters a task, unless it is there: its counters begin at zero.
    pub fn count(&self, task: u64) -> Result<(), AdmitError> {
        let key = task.as_bytes();
        self.counters.add(key, Counters::default().as_bytes())?;
        self.delays.add(key, Delays::default().as_bytes())
    }

    pub fn guard_ports(&self, task: u64, ports: &Ports) -> Result<(), AdmitError> {
        self.ports.set(task.as_bytes(), ports.as_bytes())
    }

    pub fn allow_device(&self, key: &DeviceKey, access: u32) -> Result<(), AdmitError> {
        self.devices.set(key.as_bytes(), access.as_bytes())
    }

    /// What the kernel has written of a task stays; of a new one, this is the first process.
    pub fn guard_devices(&self, task: u64, guard: bool, first: u32) -> Result<(), AdmitError> {
        let key = task.as_bytes();
        let old = self.tasks.map.get(key).map_err(|source| self.tasks.failed(source))?;
        let old = old.and_then(|bytes| zerocopy::FromBytes::read_from_bytes(&bytes[..]).ok());
        let new = Task { first_process: first, ..Task::default() };
        let state = Task { guard_devices: u32::from(guard), ..old.unwrap_or(new) };
        self.tasks.set(key, state.as_bytes())
    }

    pub fn configure(&self, settings: Settings) -> Result<(), AdmitError> {
        self.settings.set(0u32.as_bytes(), settings.as_bytes())
    }
}

/// Makes every processor begin anew, after a pause of the program that watches them.
pub(crate) fn forget_running(pins: &Pins) -> std::io::Result<()> {
    let map = BpfMap::open(&pins.map("RUNNING"))?;
    map.set(0u32.as_bytes(), &vec![0; map.value_length() * map.copies()])
}

impl Named {
    /// Makes or replaces an entry. Maps with values per processor: the same value for all of them.
    fn set(&self, key: &[u8], value: &[u8]) -> Result<(), AdmitError> {
        let mut values = Vec::with_capacity(self.map.value_length() * self.map.copies());
        for _ in 0..self.map.copies() {
            values.extend_from_slice(value);
        }
        let mut pauses = MEMORY_PAUSES.into_iter();
        loop {
            match (self.map.set(key, &values), pauses.next()) {
                (Err(error), Some(pause)) if error.raw_os_error() == Some(libc::ENOMEM) => {
                    std::thread::sleep(pause);
                }
                (outcome, _) => return outcome.map_err(|source| self.failed(source)),
            }
        }
    }

    fn add(&self, key: &[u8], value: &[u8]) -> Result<(), AdmitError> {
        let old = self.map.get(key).map_err(|source| self.failed(source))?;
        if old.is_some() { Ok(()) } else { self.set(key, value) }
    }

    fn failed(&self, source: std::io::Error) -> AdmitError {
        if source.raw_os_error() == Some(libc::E2BIG) {
            AdmitError::Full { map: self.name, capacity: self.map.max_entries() }
        } else {
            AdmitError::Map { map: self.name, source }
        }
    }

    pub fn unreadable(&self, source: std::io::Error) -> ReadError {
        ReadError { map: self.name, source }
    }

    /// Removes an entry; whether there was one.
    pub fn remove(&self, key: &[u8]) -> Result<bool, ReadError> {
        self.map.remove(key).map_err(|source| self.unreadable(source))
    }
}
