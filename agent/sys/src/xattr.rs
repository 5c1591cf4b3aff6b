//! Extended attributes of open files.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Values longer than this are not ours.
const VALUE_MAX: usize = 256;

/// Gives an open file an attribute, or replaces it. Names in `trusted.` are root's alone.
pub fn set_xattr(file: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both pointers are valid for the call, the second for `value.len()` bytes; the kernel
    // keeps neither.
    let result = unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An attribute of an open file; `None` if it has none of that name. Fails with ERANGE beyond 256 bytes.
pub fn get_xattr(file: impl AsFd, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; VALUE_MAX];
    // SAFETY: both pointers are valid for the call, the second for `value.len()` bytes that it may
    // write to; the kernel keeps neither.
    let length = unsafe {
        libc::fgetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match usize::try_from(length) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn an_attribute_is_found_again() {
        let path = std::env::temp_dir().join(format!("mezzo-xattr-{}", std::process::id()));
        let file = File::create(&path).expect("a file");
        let name = c"user.mezzo.test";
        assert_eq!(get_xattr(&file, name).expect("reads"), None);
        set_xattr(&file, name, b"one").expect("sets");
        set_xattr(&file, name, b"two").expect("replaces");
        assert_eq!(get_xattr(&file, name).expect("reads").as_deref(), Some(b"two".as_slice()));
        std::fs::remove_file(path).expect("removes");
    }
}
