//! Which task something belongs to.

use aya_ebpf::Global;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id,
};
use mezzo_agent_ebpf_common::Counters;

use crate::kernel::{
    CGROUP_ANCESTORS, CGROUP_LEVEL, CGROUP_NODE, CSS_SET_CGROUP, NODE_ID, Pointer, SOCK_CGROUP,
    TASK_CGROUPS,
};
use crate::maps::COUNTERS;

/// Depth of the tasks' cgroups in the v2 tree: the agent's own depth and one.
#[unsafe(no_mangle)]
pub static LEVEL: Global<u32> = Global::new(0);

/// The task of the running process; 0 where it is nobody's.
#[inline(always)]
pub fn of_current() -> u64 {
    // SAFETY: takes a number.
    unsafe { bpf_get_current_ancestor_cgroup_id(LEVEL.load() as i32) }
}

/// The task that made the socket of a packet; 0 where it is nobody's.
#[inline(always)]
pub fn of_packet(packet: *mut __sk_buff) -> u64 {
    // SAFETY: the packet is the program's own context.
    unsafe { bpf_skb_ancestor_cgroup_id(packet, LEVEL.load() as i32) }
}

/// The task that made a `struct sock`.
#[inline(always)]
pub fn of_socket(socket: Pointer) -> Option<u64> {
    of_cgroup(socket.follow(SOCK_CGROUP.load())?)
}

/// The task that a `struct task_struct` is in.
#[inline(always)]
pub fn of_thread(thread: Pointer) -> Option<u64> {
    of_cgroup(thread.follow(TASK_CGROUPS.load())?.follow(CSS_SET_CGROUP.load())?)
}

#[inline(always)]
fn of_cgroup(cgroup: Pointer) -> Option<u64> {
    let level = LEVEL.load();
    let depth: i32 = cgroup.read(CGROUP_LEVEL.load())?;
    if depth < level as i32 {
        return None;
    }
    let ancestor = cgroup.plus(u64::from(level) * 8).follow(CGROUP_ANCESTORS.load())?;
    ancestor.follow(CGROUP_NODE.load())?.read(NODE_ID.load())
}

/// This processor's counters of a task; `None` if the agent did not ask for them.
#[inline(always)]
pub fn counters(task: u64) -> Option<*mut Counters> {
    if task == 0 {
        return None;
    }
    COUNTERS.get_ptr_mut(task)
}

/// Adds to a counter that an interrupt on the same processor may add to as well, in one instruction.
///
/// # Safety
/// `counter` points into a value of a map.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: as the caller says; values of maps are aligned to 8 bytes.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) counter,
            amount = in(reg) amount,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: as the caller says. Only lints are ever built for another target.
    unsafe {
        *counter += amount;
    }
}
