//! What is known of a task, of the programs, and of a processor.

/// Denials that a task may have reported at once.
pub const DENIAL_BURST: u64 = 64;

/// One more denial is reported for every so many nanoseconds.
pub const DENIAL_INTERVAL_NS: u64 = 10_000_000;

/// In place of a process: the task ran before it was entered.
pub const UNKNOWN_PROCESS: u32 = u32::MAX;

/// State of one task that all processors share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Task {
    /// The process that called `exec` first, as the host numbers it; 0 before, [`UNKNOWN_PROCESS`] if nobody looked.
    pub first_process: u32,
    /// 1: only the devices in the map may be used.
    pub guard_devices: u32,
    /// Until when the reports of denials use up what the task may have reported, in `CLOCK_MONOTONIC` nanoseconds
    /// (the theoretical arrival time of the generic cell rate algorithm).
    pub reported_until_ns: u64,
}

/// Which programs work with these maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct About {
    /// SHA-256 of the object that the programs came from; zeros while they are being replaced.
    pub object: [u8; 32],
    /// Id of the cgroup that they are attached to.
    pub root: u64,
    /// [`LAYOUT`](crate::LAYOUT).
    pub layout: u32,
    /// Depth of the tasks' cgroups in the v2 tree.
    pub level: u32,
}

/// What can be switched while the programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Settings {
    /// 1: run-queue delays are also kept as histograms.
    pub delays: u32,
    /// Zero.
    pub reserved: u32,
}

/// What one processor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Running {
    /// Address of the present thread; 0 if unknown. Tells what is left of another program, or of before a pause.
    pub thread: u64,
    /// Since when it runs that thread.
    pub since_ns: u64,
    /// All that the thread had ever waited for a processor, before it got this one.
    pub waited_before_ns: u64,
}
