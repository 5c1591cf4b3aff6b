//! Out-of-memory kills.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use mezzo_agent_ebpf_common::{Event, kind};

use crate::kernel::{MM_COUNT_STRIDE, MM_COUNTS, MM_TOTAL, Pointer, TASK_COMM, TASK_MM, TASK_TGID};
use crate::{report, scope};

/// Order of the counters of a process' pages.
const FILE: u64 = 0;
const ANONYMOUS: u64 = 1;
const SHARED: u64 = 3;

/// `(struct task_struct *, uid_t)`, since Linux 6.9; before, the tracepoint names a number only, and the loader
/// leaves this program out.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(ctx: RawTracePointContext) -> i32 {
    let Some(victim) = Pointer::new(ctx.arg(0)) else { return 0 };
    let task = scope::of_thread(victim).unwrap_or(0);
    let Some(counters) = scope::counters(task) else { return 0 };
    // SAFETY: a value of a map.
    unsafe { scope::add(&raw mut (*counters).oom_kills, 1) };
    let memory = victim.follow(TASK_MM.load());
    let pages = |counter: u64| {
        let at = memory.map(|memory| memory.plus(counter * u64::from(MM_COUNT_STRIDE.load())));
        let pages: i64 = at.and_then(|counter| counter.read(MM_COUNTS.load())).unwrap_or(0);
        // The kernel's count lags behind by a few pages per processor.
        if pages < 0 { 0 } else { pages as u64 }
    };
    let total: u64 = memory.and_then(|memory| memory.read(MM_TOTAL.load())).unwrap_or(0);
    report::ending(&Event {
        task,
        time_ns: report::now(),
        kind: kind::OOM_KILL,
        process: victim.read(TASK_TGID.load()).unwrap_or(0),
        command: victim.read(TASK_COMM.load()).unwrap_or([0; 16]),
        enforced: 1,
        values: [pages(ANONYMOUS), pages(FILE), pages(SHARED), total],
    });
    0
}
