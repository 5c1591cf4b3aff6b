//! Files that live in memory only.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::{fs::File, io};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A read-only program in memory, to be run by [`execute`](crate::execute). Not even root can change it.
pub fn executable_memfd(name: &CStr, program: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Since Linux 6.3 a memfd may be non-executable by default (vm.memfd_noexec); before, the flag
    // is unknown.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memfd = match memfd_create(name, flags | executable) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    fill(memfd, program)
}

/// Read-only bytes in memory: the receiver of the descriptor can rely on size and content.
pub fn sealed_memfd(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    fill(memfd_create(name, flags)?, bytes)
}

fn fill(memfd: OwnedFd, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn sealed_bytes_can_be_read_and_not_written() {
        let file = File::from(sealed_memfd(c"test", b"constant").expect("memfd"));
        let mut bytes = [0; 16];
        assert_eq!(file.read_at(&mut bytes, 0).expect("read"), 8);
        assert_eq!(&bytes[..8], b"constant");
        let error = file.write_at(b"x", 0).expect_err("sealed");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
