//! What a task may.

use mezzo_agent_ebpf_common::{ANY_MINOR, DeviceKey, Ports, access, device_kind, policy};

/// What happens when a task binds a port that is not its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortPolicy {
    /// Nothing, nor is it counted.
    #[default]
    Off,
    /// It is counted and reported.
    Observe,
    /// It is refused with EPERM as well; nothing arrives at listeners that never called `bind`.
    Enforce,
}

/// The ports that a task may bind, TCP and UDP, IPv4 and IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRule {
    pub policy: PortPolicy,
    /// Whether `bind` without a port, and `listen` without `bind`, may get a port that the kernel chooses.
    pub ephemeral: bool,
    /// First and last of each range.
    pub ranges: Vec<(u16, u16)>,
}

impl PortRule {
    pub(crate) fn record(&self) -> Ports {
        let mut record = Ports {
            policy: match self.policy {
                PortPolicy::Off => policy::OFF,
                PortPolicy::Observe => policy::OBSERVE,
                PortPolicy::Enforce => policy::ENFORCE,
            },
            ephemeral: u32::from(self.ephemeral),
            ..Ports::NONE
        };
        for (first, last) in &self.ranges {
            for port in *first..=*last {
                record.allow(port);
            }
        }
        record
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    Block,
    Character,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    /// Make nodes of it.
    pub mknod: bool,
}

impl Access {
    pub const ALL: Access = Access { read: true, write: true, mknod: true };
    pub const READ_WRITE: Access = Access { read: true, write: true, mknod: false };
    pub const READ: Access = Access { read: true, write: false, mknod: false };

    pub(crate) fn bits(self) -> u32 {
        let bit = |allowed, bit| if allowed { bit } else { 0 };
        bit(self.read, access::READ)
            | bit(self.write, access::WRITE)
            | bit(self.mknod, access::MKNOD)
    }
}

/// A device, by its numbers: what its node is called means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    pub kind: DeviceKind,
    pub major: u32,
    /// `None` for all of them.
    pub minor: Option<u32>,
    pub access: Access,
}

impl Device {
    pub const fn character(major: u32, minor: u32, access: Access) -> Self {
        Device { kind: DeviceKind::Character, major, minor: Some(minor), access }
    }

    pub(crate) fn key(&self, task: u64) -> DeviceKey {
        let kind = match self.kind {
            DeviceKind::Block => device_kind::BLOCK,
            DeviceKind::Character => device_kind::CHARACTER,
        };
        let minor = self.minor.unwrap_or(ANY_MINOR);
        DeviceKey { task, kind, major: self.major, minor, reserved: 0 }
    }
}

/// What every program may need and none can do harm with: null, zero, full, random, urandom, tty, ptmx and pseudo terminals.
/// Their numbers are the kernel's own (Linux, `Documentation/admin-guide/devices.txt`).
pub const SAFE_DEVICES: [Device; 8] = [
    Device::character(1, 3, Access::ALL),
    Device::character(1, 5, Access::ALL),
    Device::character(1, 7, Access::ALL),
    Device::character(1, 8, Access::ALL),
    Device::character(1, 9, Access::ALL),
    Device::character(5, 0, Access::ALL),
    Device::character(5, 2, Access::ALL),
    Device { kind: DeviceKind::Character, major: 136, minor: None, access: Access::ALL },
];

/// The devices that a task may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// As the rest of the system lets it.
    #[default]
    Unguarded,
    /// [`SAFE_DEVICES`] and these, nothing else.
    Only(Vec<Device>),
}

/// All that a task may. The default restrains nothing: the task is counted only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub ports: PortRule,
    pub devices: Devices,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_becomes_bits() {
        let rule = PortRule {
            policy: PortPolicy::Enforce,
            ephemeral: false,
            ranges: vec![(31000, 31002), (65535, 65535)],
        };
        let record = rule.record();
        let allowed = (0..=u16::MAX).filter(|port| record.allows(*port));
        assert!(allowed.eq([31000, 31001, 31002, 65535]));
        assert_eq!((record.policy, record.ephemeral), (policy::ENFORCE, 0));
    }
}
