//! The kernel's own structures: where their fields lie, as the loader has found out.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: Global<u32> = Global::new(0);)*
    };
}

offsets! {
    TASK_RUN_DELAY;
    TASK_PID;
    TASK_TGID;
    TASK_COMM;
    TASK_EXIT_CODE;
    TASK_GROUP_LEADER;
    TASK_SIGNAL;
    TASK_CGROUPS;
    TASK_MM;
    SIGNAL_LIVE;
    SIGNAL_FLAGS;
    SIGNAL_GROUP_EXIT_CODE;
    CSS_SET_CGROUP;
    CGROUP_LEVEL;
    CGROUP_ANCESTORS;
    CGROUP_NODE;
    NODE_ID;
    SOCK_CGROUP;
    SOCK_NUMBER;
    BIO_OPERATION;
    BIO_SIZE;
    MM_TOTAL;
    /// Of the first of the counters for file, anonymous, swapped and shared pages.
    MM_COUNTS;
    /// From one of them to the next.
    MM_COUNT_STRIDE;
}

/// A place in the kernel's memory.
#[derive(Clone, Copy)]
pub struct Pointer(u64);

impl Pointer {
    #[inline(always)]
    pub fn new(address: u64) -> Option<Self> {
        (address != 0).then_some(Pointer(address))
    }

    /// The field at `offset`; `None` if it cannot be read.
    #[inline(always)]
    pub fn read<T>(self, offset: u32) -> Option<T> {
        let address = (self.0 + u64::from(offset)) as *const T;
        // SAFETY: the helper checks the address; T is a number or an array of bytes wherever this is called.
        unsafe { bpf_probe_read_kernel(address) }.ok()
    }

    /// What the pointer at `offset` points to.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Self> {
        self.read::<u64>(offset).and_then(Pointer::new)
    }

    #[inline(always)]
    pub fn plus(self, offset: u64) -> Self {
        Pointer(self.0 + offset)
    }
}
