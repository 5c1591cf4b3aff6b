//! Which task may bind which port.

/// What happens to a task that binds a port that is not its own.
pub mod policy {
    /// Nothing.
    pub const OFF: u32 = 0;
    /// It is counted and reported.
    pub const OBSERVE: u32 = 1;
    /// It is refused with EPERM as well.
    pub const ENFORCE: u32 = 2;
}

const WORDS: usize = 65536 / 64;

/// The ports of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
#[cfg_attr(feature = "bytes", derive(zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Ports {
    /// One of [`policy`].
    pub policy: u32,
    /// 1: `bind` without a port, and `listen` without `bind`, may get whichever port the kernel chooses.
    pub ephemeral: u32,
    /// One bit per port.
    pub allowed: [u64; WORDS],
}

impl Ports {
    pub const NONE: Ports = Ports { policy: policy::ENFORCE, ephemeral: 0, allowed: [0; WORDS] };

    #[inline(always)]
    pub fn allows(&self, port: u16) -> bool {
        // As a number of 16 bits, so that the verifier sees that it is in range.
        let word = usize::from(port >> 6);
        self.allowed[word] >> (port & 63) & 1 == 1
    }

    pub fn allow(&mut self, port: u16) {
        self.allowed[usize::from(port >> 6)] |= 1 << (port & 63);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_a_bit_of_its_own() {
        for port in [0, 1, 63, 64, 80, 31000, 65535] {
            let mut ports = Ports::NONE;
            ports.allow(port);
            let allowed = (0..=u16::MAX).filter(|port| ports.allows(*port));
            assert!(allowed.eq([port]), "{port}");
        }
    }
}
