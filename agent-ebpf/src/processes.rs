//! Processes that begin, change their program, and end.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use mezzo_agent_ebpf_common::{Event, kind};

use crate::kernel::{
    Pointer, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, SIGNAL_LIVE, TASK_EXIT_CODE, TASK_GROUP_LEADER,
    TASK_PID, TASK_SIGNAL, TASK_TGID,
};
use crate::maps::TASKS;
use crate::{report, scope};

/// All threads of the process end, with the code that the group has.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `(struct task_struct *parent, struct task_struct *child)`
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn fork(ctx: RawTracePointContext) -> i32 {
    let Some(counters) = scope::counters(scope::of_current()) else { return 0 };
    let Some(child) = Pointer::new(ctx.arg(1)) else { return 0 };
    let thread: Option<u32> = child.read(TASK_PID.load());
    if thread == child.read(TASK_TGID.load()) {
        // SAFETY: a value of a map.
        unsafe { scope::add(&raw mut (*counters).forks, 1) };
    }
    0
}

/// `(struct task_struct *, pid_t, struct linux_binprm *)`
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn exec(_ctx: RawTracePointContext) -> i32 {
    let task = scope::of_current();
    let Some(counters) = scope::counters(task) else { return 0 };
    // SAFETY: values of maps.
    unsafe {
        scope::add(&raw mut (*counters).execs, 1);
        if let Some(state) = TASKS.get_ptr_mut(task)
            && (*state).first_process == 0
        {
            // Nothing is in a new container but the process that is about to become its first.
            (*state).first_process = report::current_process();
        }
    }
    0
}

/// `(struct task_struct *, …)`
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn exit(ctx: RawTracePointContext) -> i32 {
    let task = scope::of_current();
    let Some(counters) = scope::counters(task) else { return 0 };
    let Some(status) = Pointer::new(ctx.arg(0)).and_then(ended_process) else { return 0 };
    // SAFETY: values of maps.
    unsafe {
        scope::add(&raw mut (*counters).exits, 1);
        let process = report::current_process();
        if let Some(state) = TASKS.get_ptr(task)
            && (*state).first_process == process
        {
            report::ending(&Event {
                task,
                time_ns: report::now(),
                kind: kind::FIRST_EXIT,
                process,
                command: report::current_command(),
                enforced: 0,
                values: [u64::from(status), 0, 0, 0],
            });
        }
    }
    0
}

/// The wait status of the process whose last thread ends; `None` while others go on.
#[inline(always)]
fn ended_process(thread: Pointer) -> Option<u32> {
    let signal = thread.follow(TASK_SIGNAL.load())?;
    let others: i32 = signal.read(SIGNAL_LIVE.load())?;
    if others != 0 {
        return None;
    }
    let flags: u32 = signal.read(SIGNAL_FLAGS.load())?;
    if flags & SIGNAL_GROUP_EXIT != 0 {
        signal.read(SIGNAL_GROUP_EXIT_CODE.load())
    } else {
        thread.follow(TASK_GROUP_LEADER.load())?.read(TASK_EXIT_CODE.load())
    }
}
