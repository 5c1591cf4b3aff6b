//! The flags that keep even root from removing a file.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes a file or directory mutable again that `chattr +i` or `+a` protects. Whether it was protected.
pub fn clear_protection(file: impl AsFd) -> io::Result<bool> {
    let fd = file.as_fd().as_raw_fd();
    let mut flags: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int (whatever the request's number
    // says: the flags are 32 bits on every file system).
    if unsafe { libc::ioctl(fd, libc::FS_IOC_GETFLAGS, &raw mut flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let protected = FS_IMMUTABLE | FS_APPEND;
    if flags & protected == 0 {
        return Ok(false);
    }
    flags &= !protected;
    // SAFETY: as above; the kernel reads one int.
    if unsafe { libc::ioctl(fd, libc::FS_IOC_SETFLAGS, &raw const flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(true)
}

// linux/fs.h
const FS_IMMUTABLE: libc::c_int = 0x10;
const FS_APPEND: libc::c_int = 0x20;
