//! Time on a processor, and time waiting for one.
//!
//! One program, at the switch from one thread to the next. The kernel itself adds up what each thread has waited;
//! the sum before the thread got the processor is kept until it leaves, so that the difference is this slice's delay.
//! Delays before a thread was moved to another processor's queue are missed.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use mezzo_agent_ebpf_common::delay_bucket;

use crate::kernel::TASK_RUN_DELAY;
use crate::maps::{DELAYS, RUNNING, SETTINGS};
use crate::scope;

/// `(bool preempted, struct task_struct *previous, struct task_struct *next, unsigned int previous_state)`
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let Some(running) = RUNNING.get_ptr_mut(0) else { return 0 };
    // SAFETY: the value is this processor's alone, and interrupts are off while threads are switched.
    let running = unsafe { &mut *running };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let task = scope::of_current();
    if running.thread == ctx.arg::<u64>(1)
        && let Some(counters) = scope::counters(task)
    {
        // SAFETY: as above; only this program changes these fields.
        let counters = unsafe { &mut *counters };
        let delay = waited(&ctx, 1).wrapping_sub(running.waited_before_ns);
        counters.on_cpu_ns += now - running.since_ns;
        counters.run_delay_ns += delay;
        let preempted = ctx.arg::<u64>(0) & 0xff != 0;
        if preempted || ctx.arg::<u32>(3) == 0 {
            counters.involuntary_switches += 1;
        } else {
            counters.voluntary_switches += 1;
        }
        if SETTINGS.get(0).is_some_and(|settings| settings.delays == 1)
            && let Some(delays) = DELAYS.get_ptr_mut(task)
        {
            // SAFETY: as above.
            let delays = unsafe { &mut *delays };
            let bucket = delay_bucket(delay);
            if bucket < delays.buckets.len() {
                delays.buckets[bucket] += 1;
            }
        }
    }
    running.thread = ctx.arg(2);
    running.since_ns = now;
    running.waited_before_ns = waited(&ctx, 2);
    0
}

/// What a thread has waited in its life: `sched_info.run_delay` of an argument.
#[inline(always)]
fn waited(ctx: &BtfTracePointContext, argument: usize) -> u64 {
    let thread: *const u8 = ctx.arg(argument);
    // SAFETY: the verifier knows the type behind this argument and checks the offset.
    unsafe { *thread.add(TASK_RUN_DELAY.load() as usize).cast::<u64>() }
}
