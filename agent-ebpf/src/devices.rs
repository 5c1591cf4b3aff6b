//! Which devices a task may open or make nodes of: none but those listed for it, or for every task.

use aya_ebpf::macros::cgroup_device;
use aya_ebpf::programs::DeviceContext;
use mezzo_agent_ebpf_common::{ANY_MINOR, DeviceKey, EVERY_TASK, kind};

use crate::maps::{DEVICES, TASKS};
use crate::{report, scope};

const REFUSE: i32 = 0;
const ALLOW: i32 = 1;

#[cgroup_device]
pub fn device(ctx: DeviceContext) -> i32 {
    let task = scope::of_current();
    if task == 0 {
        return ALLOW;
    }
    let Some(state) = TASKS.get_ptr(task) else { return ALLOW };
    // SAFETY: a value of a map; the context, which the verifier checks.
    let (wanted, device_kind, major, minor) = unsafe {
        if (*state).guard_devices != 1 {
            return ALLOW;
        }
        let asked = &*ctx.device;
        (asked.access_type >> 16, asked.access_type & 0xffff, asked.major, asked.minor)
    };
    let allowed = |task: u64, minor: u32| {
        let key = DeviceKey { task, kind: device_kind, major, minor, reserved: 0 };
        // SAFETY: entries are not freed while a program runs.
        unsafe { DEVICES.get(key) }.is_some_and(|access| access & wanted == wanted)
    };
    if allowed(EVERY_TASK, minor)
        || allowed(task, minor)
        || allowed(EVERY_TASK, ANY_MINOR)
        || allowed(task, ANY_MINOR)
    {
        return ALLOW;
    }
    if let Some(counters) = scope::counters(task) {
        let values =
            [u64::from(device_kind), u64::from(major), u64::from(minor), u64::from(wanted)];
        // SAFETY: a value of a map.
        unsafe {
            scope::add(&raw mut (*counters).device_denials, 1);
            report::denial(task, counters, kind::DEVICE_DENIED, true, values);
        }
    }
    REFUSE
}
