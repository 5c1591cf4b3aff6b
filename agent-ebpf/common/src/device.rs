//! Which task may use which device.

/// Kinds of device nodes, as the kernel numbers them.
pub mod device_kind {
    pub const BLOCK: u32 = 1;
    pub const CHARACTER: u32 = 2;
}

/// What is done with a device, as the kernel numbers it; a set of bits.
pub mod access {
    pub const MKNOD: u32 = 1;
    pub const READ: u32 = 2;
    pub const WRITE: u32 = 4;
}

/// In place of a minor number: all minor numbers.
pub const ANY_MINOR: u32 = u32::MAX;

/// In place of a task's id: every task. No cgroup has this id.
pub const EVERY_TASK: u64 = 0;

/// Key of the map of devices; the value is the allowed access, a set of [`access`] bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct DeviceKey {
    /// A task, or [`EVERY_TASK`].
    pub task: u64,
    /// One of [`device_kind`].
    pub kind: u32,
    pub major: u32,
    /// A minor number, or [`ANY_MINOR`].
    pub minor: u32,
    /// Zero.
    pub reserved: u32,
}
