//! All maps. They outlive the agent: each is pinned under its name.
//!
//! Entries for tasks are made by the agent alone, so that no task can fill a map.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use mezzo_agent_ebpf_common::{About, Counters, Delays, DeviceKey, Ports, Running, Settings, Task};

/// Unless the loader says otherwise.
const TASKS_MAX: u32 = 4096;
const DEVICES_MAX: u32 = 65_536;
/// Reports of denials are dropped, and counted, when the agent does not fetch them in time. Power of two.
const DENIALS_BYTES: u32 = 256 * 1024;
/// The ends of containers and out-of-memory kills have a buffer that no flood of denials can fill. Power of two.
const ENDINGS_BYTES: u32 = 256 * 1024;

#[map]
pub static TASKS: HashMap<u64, Task> = HashMap::pinned(TASKS_MAX, BPF_F_NO_PREALLOC);

#[map]
pub static COUNTERS: PerCpuHashMap<u64, Counters> =
    PerCpuHashMap::pinned(TASKS_MAX, BPF_F_NO_PREALLOC);

#[map]
pub static DELAYS: PerCpuHashMap<u64, Delays> = PerCpuHashMap::pinned(TASKS_MAX, BPF_F_NO_PREALLOC);

#[map]
pub static PORTS: HashMap<u64, Ports> = HashMap::pinned(TASKS_MAX, BPF_F_NO_PREALLOC);

#[map]
pub static DEVICES: HashMap<DeviceKey, u32> = HashMap::pinned(DEVICES_MAX, BPF_F_NO_PREALLOC);

#[map]
pub static ABOUT: Array<About> = Array::pinned(1, 0);

#[map]
pub static SETTINGS: Array<Settings> = Array::pinned(1, 0);

#[map]
pub static RUNNING: PerCpuArray<Running> = PerCpuArray::pinned(1, 0);

/// Events that found no room, by processor: of `DENIALS`, of `ENDINGS`.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::pinned(2, 0);

#[map]
pub static DENIALS: RingBuf = RingBuf::pinned(DENIALS_BYTES, 0);

#[map]
pub static ENDINGS: RingBuf = RingBuf::pinned(ENDINGS_BYTES, 0);
