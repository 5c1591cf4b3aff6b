//! What the kernel unpacks into memory and starts: an archive in cpio's "newc" format.

use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::Kernel;

/// The first program: builds the file system and the control groups, runs `/command`, tells its code, turns off.
pub const INIT: &str = include_str!("init.sh");

const BUSYBOX: &str = "/bin/busybox";
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Everything: busybox, the drivers, [`INIT`] and the command, a shell script.
///
/// # Errors
/// When a file cannot be read.
pub fn build(kernel: &Kernel, command: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "drivers", "host", "changes", "root"] {
        archive.add(directory, DIRECTORY, &[]);
    }
    archive.add("bin/busybox", PROGRAM, &read(Path::new(BUSYBOX))?);
    for (number, driver) in kernel.drivers.iter().enumerate() {
        archive.add(&format!("drivers/{number:02}.ko"), PROGRAM, &read(driver)?);
    }
    archive.add("modules", PROGRAM, kernel.modules.as_os_str().as_encoded_bytes());
    archive.add("init", PROGRAM, INIT.as_bytes());
    archive.add("command", PROGRAM, command.as_bytes());
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {path:?}"))
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, owner, group, links, time, size, device (2), device of a node (2), length of the name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.add("a", PROGRAM, b"12345");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        // 110 bytes of header and 2 of name, then the content.
        assert_eq!(&bytes[112..120], b"12345\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.len().is_multiple_of(4));
    }
}
