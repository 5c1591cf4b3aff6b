//! What is reported once, as it happens.

/// Kinds of events, with the meaning of [`Event::values`].
pub mod kind {
    /// A port was refused: `[one of denial, protocol number, port or 0, address family]`.
    pub const PORT_DENIED: u32 = 1;
    /// A device was refused: `[kind, major, minor, access]`.
    pub const DEVICE_DENIED: u32 = 2;
    /// The kernel killed a process for lack of memory; the process of the event is the victim:
    /// `[anonymous, file, shared memory, total virtual]`, all in pages.
    pub const OOM_KILL: u32 = 3;
    /// The first process of a container ended: `[wait status, 0, 0, 0]`.
    pub const FIRST_EXIT: u32 = 4;
}

/// How a port was to be used.
pub mod denial {
    /// By `bind` with this port.
    pub const BIND: u64 = 1;
    /// By `bind` without a port: the kernel chose this one.
    pub const BIND_EPHEMERAL: u64 = 2;
    /// By `listen` on a socket that was never bound; the kernel had not chosen a port yet.
    pub const LISTEN: u64 = 3;
}

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Event {
    /// The task's cgroup.
    pub task: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// The process, as the host numbers it.
    pub process: u32,
    /// Name of its program, padded with zeros.
    pub command: [u8; 16],
    /// Whether it was prevented (1) or only seen (0).
    pub enforced: u64,
    /// As [`kind`] says.
    pub values: [u64; 4],
}
