//! Events for the agent.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::maps::RingBuf;
use mezzo_agent_ebpf_common::{Counters, DENIAL_BURST, DENIAL_INTERVAL_NS, Event};

use crate::maps::{DENIALS, ENDINGS, LOST, TASKS};
use crate::scope;

const DENIALS_LOST: u32 = 0;
const ENDINGS_LOST: u32 = 1;

/// The running process, as the host numbers it.
#[inline(always)]
pub fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
pub fn current_command() -> [u8; 16] {
    bpf_get_current_comm().unwrap_or([0; 16])
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Reports the end of something.
#[inline(always)]
pub fn ending(event: &Event) {
    send(&ENDINGS, ENDINGS_LOST, event);
}

/// Reports that the running process was denied something, unless the task has had too many reports of late.
///
/// # Safety
/// `counters` is a value of a map.
#[inline(always)]
pub unsafe fn denial(
    task: u64,
    counters: *mut Counters,
    kind: u32,
    enforced: bool,
    values: [u64; 4],
) {
    let time_ns = now();
    let Some(state) = TASKS.get_ptr_mut(task) else { return };
    // SAFETY: values of maps. Two processors may both take the last place: one report more.
    unsafe {
        let until = (*state).reported_until_ns;
        let until = if until > time_ns { until } else { time_ns };
        if until - time_ns > DENIAL_BURST * DENIAL_INTERVAL_NS {
            scope::add(&raw mut (*counters).unreported_denials, 1);
            return;
        }
        (*state).reported_until_ns = until + DENIAL_INTERVAL_NS;
    }
    let event = Event {
        task,
        time_ns,
        kind,
        process: current_process(),
        command: current_command(),
        enforced: u64::from(enforced),
        values,
    };
    send(&DENIALS, DENIALS_LOST, &event);
}

#[inline(always)]
fn send(buffer: &RingBuf, lost: u32, event: &Event) {
    if buffer.output::<Event>(event, 0).is_err()
        && let Some(lost) = LOST.get_ptr_mut(lost)
    {
        // SAFETY: a value of a map.
        unsafe { scope::add(lost, 1) };
    }
}
