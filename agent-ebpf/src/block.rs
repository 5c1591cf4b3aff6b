//! Block I/O of the task that asks for it.
//!
//! Reads and direct writes are exact. A buffered write is the task's if the task itself waits for it (`fsync`);
//! what the kernel writes back later is nobody's. Each layer of stacked devices (LVM, dm-crypt, RAID) counts.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::kernel::{BIO_OPERATION, BIO_SIZE, Pointer};
use crate::scope;

const READ: u32 = 0;
const WRITE: u32 = 1;

/// `(struct bio *)`
#[raw_tracepoint(tracepoint = "block_bio_queue")]
pub fn bio_queue(ctx: RawTracePointContext) -> i32 {
    let Some(counters) = scope::counters(scope::of_current()) else { return 0 };
    let Some(bio) = Pointer::new(ctx.arg(0)) else { return 0 };
    let Some(operation) = bio.read::<u32>(BIO_OPERATION.load()) else { return 0 };
    let Some(size) = bio.read::<u32>(BIO_SIZE.load()) else { return 0 };
    // SAFETY: a value of a map.
    unsafe {
        let (bytes, operations) = match operation & 0xff {
            READ => (&raw mut (*counters).read_bytes, &raw mut (*counters).read_operations),
            WRITE => (&raw mut (*counters).written_bytes, &raw mut (*counters).write_operations),
            _ => return 0,
        };
        scope::add(bytes, u64::from(size));
        scope::add(operations, 1);
    }
    0
}
